"""Two processes with one or two devices each train as one process with four devices does."""

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

import tljax
from tests.small_runs import HeadThenAll, experiment, two_phases
from tests.training.test_sharded_state import Wide
from tljax.strategies.strategies import LinearProbe
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


def run_in_two_processes(name, folder, devices):
    """The outputs of two processes of `python -m tljax.main --distributed`."""
    config = folder / 'config.py'
    config.write_text(f'from tests.training.test_distributed import {name} as get_config\n')
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    command = [sys.executable, '-m', 'tljax.main', '--distributed', f'--config={config}']
    processes = [
        subprocess.Popen(
            [*command, f'--workdir={folder / "run"}'],
            env=environment(index, port, devices),
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
    assert [process.returncode for process in processes] == [0, 0], outputs
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


def test_a_sharded_checkpoint_of_two_processes_goes_on_in_one_that_replicates_it(tmp_path, capsys):
    """Two processes start twice as slowly as one, and no other test saves parts of an array."""
    outputs = run_in_two_processes('sharded', tmp_path, 1)
    assert 'on 2 cpu devices in 2 processes, the state split over 2.' in outputs[0]
    longer = dataclasses.replace(sharded(), sharding=Sharding.REPLICATED, epochs=2.0)
    result = train(longer, tmp_path / 'run', allow_change=['epochs'])
    assert 'saved on 2 cpu devices in 2 processes' in capsys.readouterr().out
    alone = train(longer, tmp_path / 'alone')
    assert result['val']['loss'] == pytest.approx(alone['val']['loss'], rel=1e-3)
    assert result['steps'] == alone['steps'] == 7
