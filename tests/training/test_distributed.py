"""Two processes with one or two devices each train as one process with four devices does.

They also stop, end and resume together.
"""

import dataclasses
import functools
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
from tests.training.test_sharded_state import Wide
from tljax.strategies.strategies import LinearProbe
from tljax.training import signals
from tljax.training.run import train
from tljax.types import Sharding

ROOT = pathlib.Path(__file__).parents[2]


def probe():
    """Each process computes the prefix cache of its own images."""
    return experiment(strategy=LinearProbe(), augmentations=())


def cached_then_all():
    """A phase with a prefix cache, then one that trains all stages."""
    return experiment(strategy=HeadThenAll(), augmentations=(), checkpoint_every_steps=None)


def sharded():
    """Each process holds half of the state; 4 steps."""
    return experiment(backbone=Wide(), sharding=Sharding.FSDP, epochs=1.0)


RUNS = {'two_phases': two_phases, 'probe': probe, 'cached_then_all': cached_then_all}
# The runs that a pair of processes trains one after the other, and the devices of each process.
CASES = [
    pytest.param(('two_phases', 'probe', 'cached_then_all'), 1, id='one device each'),
    pytest.param(('two_phases', 'probe'), 2, id='two devices each'),
]
END = 'end of a run'
CODE = f"""
import sys
from tljax.commands import train
folder, workdirs, *names = sys.argv[1:]
def flags(name):
    joins = ['--distributed'] if name == names[0] else []
    return [f'--config={{folder}}/{{name}}.py', f'--workdir={{workdirs}}/{{name}}', *joins]
for name in names[:-1]:
    train._run(train.parser().read(flags(name)))
    print({END!r}, flush=True)
sys.exit(train.main(flags(names[-1])))
"""


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
    process, at = os.environ['FAULT'].split('@')
    if int(state.step) == int(at) and process == os.environ['SLURM_PROCID']:
        os.kill(os.getpid(), int(os.environ['FAULT_SIGNAL']))
    time.sleep(2 * (int(state.step) >= int(at)))
    return state, sums
if 'FAULT' in os.environ:
    CompiledStep.__call__ = faulty
"""


def run_in_two_processes(names, folder, devices, codes=(0, 0), workdirs=None, **fault):
    """The outputs of two processes of `tljax train --distributed`, split by run.

    The runs lie in the folder, or in `workdirs`.
    """
    for name in names:
        text = f'from tests.training.test_distributed import {name} as get_config\n'
        (folder / f'{name}.py').write_text(text + FAULT)
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', CODE, str(folder), workdirs or str(folder), *names],
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
    return [output.split(END) for output in outputs]


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """The function from a run's name to its folder and result in one process; it trains once."""
    folder = tmp_path_factory.mktemp('alone')
    return functools.cache(lambda name: (folder / name, train(RUNS[name](), folder / name)))


@pytest.mark.slow  # pairs of processes that import JAX
@pytest.mark.parametrize(('names', 'devices'), CASES)
def test_two_processes_train_as_one(names, devices, alone, tmp_path):
    outputs = run_in_two_processes(names, tmp_path, devices)
    for name, first, second in zip(names, *outputs, strict=False):
        assert_same(tmp_path / name, *alone(name))
        assert 'step    11' in first
        assert 'step    11' not in second  # only the first process prints
        assert ('Prefix cache:' in first) == (name != 'two_phases')


def assert_same(folder, reference, result):
    """A run left the same result and predictions as the reference, but for rounding."""
    together = json.loads((folder / 'result.json').read_text())
    assert together['test']['loss'] == pytest.approx(result['test']['loss'], rel=1e-5)
    assert (together['step'], together['steps']) == (result['step'], result['steps'])
    both, alone = (tljax.TrainedRun(one).predictions for one in (folder, reference))
    for split in ('val', 'test'):
        np.testing.assert_array_equal(both.splits[split].ids, alone.splits[split].ids)
        logits = [one.splits[split].logits for one in (both, alone)]
        np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-4)


@pytest.mark.slow  # two processes that import JAX
def test_a_sharded_checkpoint_of_two_processes_goes_on_in_one_that_replicates_it(tmp_path, capsys):
    """Two processes start twice as slowly as one, and no other test saves parts of an array."""
    outputs = run_in_two_processes(('sharded',), tmp_path, 1)
    assert 'on 2 cpu devices in 2 processes, the state split over 2.' in outputs[0][0]
    longer = dataclasses.replace(sharded(), sharding=Sharding.REPLICATED, epochs=2.0)
    result = train(longer, tmp_path / 'sharded', allow_change=['epochs'])
    assert 'saved on 2 cpu devices in 2 processes' in capsys.readouterr().out
    alone = train(longer, tmp_path / 'alone')
    assert result['val']['loss'] == pytest.approx(alone['val']['loss'], rel=1e-3)
    assert result['steps'] == alone['steps'] == 7


@pytest.mark.slow  # starts two processes four times
def test_two_processes_that_are_stopped_or_killed_end_together_and_resume_identically(tmp_path):
    names, reference = ('cached_then_all',), tmp_path / 'reference'
    workdir = tmp_path / names[0]
    run_in_two_processes(names, tmp_path, 1)
    workdir.rename(reference)
    kill, term = (str(int(number)) for number in (signal.SIGKILL, signal.SIGTERM))
    killed, again = -signal.SIGKILL, signals.RUN_AGAIN

    def faulty(codes, place, number):
        fault = {'FAULT': place, 'FAULT_SIGNAL': number}
        return run_in_two_processes(names, tmp_path, 1, codes, **fault)

    first = faulty((again, killed), '1@6', kill)
    # JAX's own messages may come before or after it.
    assert [line for line in first[0][0].splitlines() if line.startswith('error: process 1 on ')]
    assert (workdir / 'stacks-process0.txt').exists()
    assert checkpoints(workdir)[-1] == 4
    second = faulty((again, again), '1@5', term)
    assert 'Resuming at step 4' in second[0][0]
    stopped = checkpoints(workdir)[-1]
    assert 5 <= stopped < 11
    assert all(f'stopped at step {stopped} by SIGTERM' in output[0] for output in second)
    run_in_two_processes(names, tmp_path, 1)
    assert_same_run(cached_then_all(), workdir, (reference, result_of(reference)))


def checkpoints(workdir):
    """The steps of the checkpoints of a run."""
    return sorted(int(path.name) for path in (workdir / 'checkpoints/steps').glob('[0-9]*'))


def result_of(workdir):
    """The content of result.json."""
    return json.loads((workdir / 'result.json').read_text())
