"""Two processes with two devices each train as one process with four does."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from test_train import ROOT, experiment, records

from tljax import train


class Job:
    """`python -m tljax.main --distributed` as SLURM starts it, twice."""

    def __init__(self, folder: pathlib.Path, **environment):
        self.workdir = folder / 'run'
        config = folder / 'config.py'
        config.write_text('from test_train import experiment as get_config\n')
        with socket.socket() as free:
            free.bind(('localhost', 0))
            address = f'localhost:{free.getsockname()[1]}'
        paths = [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
        every = {
            **os.environ,
            **environment,
            'PYTHONPATH': os.pathsep.join(paths),
            'XLA_FLAGS': os.environ['XLA_FLAGS'].replace('device_count=4', 'device_count=2'),
            'JAX_COORDINATOR_ADDRESS': address,
            'SLURM_JOB_ID': '1',
            'SLURM_STEP_NODELIST': 'localhost',
            'SLURM_NTASKS': '2',
        }
        command = [sys.executable, '-m', 'tljax.main', '--distributed']
        command += [f'--config={config}', f'--workdir={self.workdir}']
        self.processes = [
            subprocess.Popen(
                command,
                env={**every, 'SLURM_PROCID': str(index), 'SLURM_LOCALID': str(index)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(2)
        ]

    def finish(self, seconds=120):
        """The exit codes and the outputs, once both have ended."""
        until = time.monotonic() + seconds
        outputs = []
        for process in self.processes:
            try:
                outputs.append(process.communicate(timeout=max(until - time.monotonic(), 1))[0])
            except subprocess.TimeoutExpired:
                self.kill()
                outputs.append(process.communicate()[0] + '\n(did not end)')
        return [process.returncode for process in self.processes], outputs

    def kill(self):
        """Ends what is left."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


@pytest.fixture(scope='module')
def together(tmp_path_factory):
    """A run of two processes: exit codes and outputs up to a signal, and after it; its folder.

    In between, its last checkpoint is damaged.
    """
    folder = tmp_path_factory.mktemp('together')
    job = Job(folder, BLOBS_SECONDS='0.2')
    path, until = job.workdir / 'metrics.jsonl', time.monotonic() + 90
    while not (path.exists() and path.read_text()) and time.monotonic() < until:
        if any(process.poll() is not None for process in job.processes):
            break
        time.sleep(0.02)
    job.processes[1].send_signal(signal.SIGTERM)
    stopped = job.finish()
    folders = (job.workdir / 'checkpoints' / 'steps').iterdir()
    _damage(max(folders, key=lambda path: int(path.name)))
    return stopped, Job(folder).finish(), job.workdir


def _damage(folder):
    """Flips a bit in the largest file."""
    files = [path for path in folder.rglob('*') if path.is_file()]
    path = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """The same run of this process alone: its folder and result."""
    workdir = tmp_path_factory.mktemp('alone')
    return workdir, train.run(experiment(), workdir)


def test_a_signal_to_one_process_stops_both(together):
    (codes, outputs), _, _ = together
    assert codes == [143, 143], '\n'.join(outputs)


def test_two_processes_agree_on_the_last_checkpoint_that_is_not_damaged(together):
    (_, stopped), (codes, outputs), _ = together
    assert codes == [0, 0], '\n'.join(outputs)
    at = re.search(r'stopped at step (\d+)', stopped[0])
    assert at
    # Step 4 was validated and is kept; nothing is where the signal was heeded at once.
    resumed = re.search(r'Resuming at step (\d+)', outputs[0])
    assert (resumed and resumed[1]) == ('4' if int(at[1]) > 4 else None)


def test_two_processes_end_as_one_does(together, alone):
    _, (codes, outputs), workdir = together
    assert codes == [0, 0], '\n'.join(outputs)
    for one, other in zip(records(workdir), records(alone[0]), strict=True):
        assert one.pop('split') == other.pop('split')
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)
    found = train.run(experiment(), workdir)  # finished: reads result.json
    for split in ('val', 'test'):
        for name in ('accuracy', 'loss', 'count'):
            assert found[split][name] == pytest.approx(alone[1][split][name], abs=1e-5)
    assert (found['process_count'], found['device_count']) == (2, 4)


def test_only_the_first_process_speaks(together):
    _, (codes, (first, second)), _ = together
    assert codes == [0, 0], second
    assert 'accuracy' in first
    assert 'accuracy' not in second
