"""Two processes with one or two devices each train as one process with four devices does.

They also stop, end and resume together.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

import tljax
from tests.small_runs import HeadThenAll, assert_same_run, experiment, two_phases
from tljax.strategies.strategies import LinearProbe
from tljax.training import signals
from tljax.training.run import train

ROOT = pathlib.Path(__file__).parents[2]


def probe():
    """Each process computes the prefix cache of its own images."""
    return experiment(strategy=LinearProbe(), augmentations=())


def cached_then_all():
    """A phase with a prefix cache, then one that trains all stages."""
    return experiment(strategy=HeadThenAll(), augmentations=(), checkpoint_every_steps=None)


RUNS = {'two_phases': two_phases, 'probe': probe, 'cached_then_all': cached_then_all}
CASES = [
    ('cached_then_all', 1),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [('two_phases', 2), ('probe', 1), ('probe', 2), ('two_phases', 1)]
    ),
]


def environment(index, port, devices):
    """The environment that SLURM gives one of two processes."""
    return {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'XLA_FLAGS': os.environ['XLA_FLAGS'].replace('device_count=4', f'device_count={devices}'),
        'JAX_COORDINATOR_ADDRESS': f'localhost:{port}',
        'SLURM_JOB_ID': '1',
        'SLURM_STEP_NODELIST': 'localhost',
        'SLURM_NTASKS': '2',
        'SLURM_PROCID': str(index),
        'SLURM_LOCALID': str(index),
    }


# A config that sends its own process a signal after a step. Later steps take seconds, in which JAX
# tells the other process.
FAULT = """
import os, time
from tljax.training.compiled_step import CompiledStep
step_of = CompiledStep.__call__
def faulty(self, state, batch):
    state, sums = step_of(self, state, batch)
    process, at = os.environ.get('FAULT', '0@99').split('@')
    if int(state.step) == int(at) and process == os.environ['SLURM_PROCID']:
        os.kill(os.getpid(), int(os.environ['FAULT_SIGNAL']))
    time.sleep(2 * (int(state.step) >= int(at)))
    return state, sums
CompiledStep.__call__ = faulty
"""


def run_in_two_processes(name, folder, devices, codes=(0, 0), **fault):
    """The outputs of two processes of `python -m tljax.main --distributed`."""
    config = folder / 'config.py'
    imported = f'from tests.training.test_distributed import {name} as get_config\n'
    config.write_text(imported + FAULT)
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    command = [sys.executable, '-m', 'tljax.main', '--distributed', f'--config={config}']
    processes = [
        subprocess.Popen(
            [*command, f'--workdir={folder / "run"}'],
            env={**environment(index, port, devices), **fault},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == list(codes), outputs
    return outputs


@pytest.mark.parametrize(('name', 'devices'), CASES)
def test_two_processes_train_as_one(name, devices, tmp_path):
    outputs = run_in_two_processes(name, tmp_path, devices)
    result = train(RUNS[name](), tmp_path / 'alone')
    together = json.loads((tmp_path / 'run' / 'result.json').read_text())
    assert together['test']['loss'] == pytest.approx(result['test']['loss'], rel=1e-5)
    assert (together['step'], together['steps']) == (result['step'], result['steps'])
    both, alone = (tljax.TrainedRun(tmp_path / one).predictions for one in ('run', 'alone'))
    for split in ('val', 'test'):
        np.testing.assert_array_equal(both.splits[split].ids, alone.splits[split].ids)
        logits = [one.splits[split].logits for one in (both, alone)]
        np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-4)
    assert 'step    11' in outputs[0]
    assert 'step    11' not in outputs[1]  # only the first process prints
    assert ('Prefix cache:' in outputs[0]) == (name != 'two_phases')


@pytest.mark.slow  # starts two processes four times
def test_two_processes_that_are_stopped_or_killed_end_together_and_resume_identically(tmp_path):
    name, reference, workdir = 'cached_then_all', tmp_path / 'reference', tmp_path / 'run'
    run_in_two_processes(name, tmp_path, 1)
    workdir.rename(reference)
    kill, term = (str(int(number)) for number in (signal.SIGKILL, signal.SIGTERM))
    killed, again = -signal.SIGKILL, signals.RUN_AGAIN

    def faulty(codes, place, number):
        fault = {'FAULT': place, 'FAULT_SIGNAL': number}
        return run_in_two_processes(name, tmp_path, 1, codes, **fault)

    first = faulty((again, killed), '1@6', kill)
    # JAX's own messages may come before or after it.
    assert [line for line in first[0].splitlines() if line.startswith('error: process 1 on ')]
    assert (workdir / 'stacks-process0.txt').exists()
    assert checkpoints(workdir)[-1] == 4
    second = faulty((again, again), '1@5', term)
    assert 'Resuming at step 4' in second[0]
    stopped = checkpoints(workdir)[-1]
    assert 5 <= stopped < 11
    assert all(f'stopped at step {stopped} by SIGTERM' in output for output in second)
    run_in_two_processes(name, tmp_path, 1)
    assert_same_run(cached_then_all(), workdir, (reference, result_of(reference)))


def checkpoints(workdir):
    """The steps of the checkpoints of a run."""
    return sorted(int(path.name) for path in (workdir / 'checkpoints/steps').glob('[0-9]*'))


def result_of(workdir):
    """The content of result.json."""
    return json.loads((workdir / 'result.json').read_text())
