"""Two processes, with two devices or one each, train as one process with four devices does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

import tljax
from tests.small_runs import experiment, two_phases
from tljax.strategies.strategies import LinearProbe
from tljax.training.run import train

ROOT = pathlib.Path(__file__).parents[2]


def probe():
    """Its frozen stages are run ahead, by each process for itself."""
    return experiment(strategy=LinearProbe(), augmentations=())


RUNS = {'two_phases': two_phases, 'probe': probe}
EACH = [
    ('two_phases', 2),
    ('probe', 1),
    pytest.param('probe', 2, marks=pytest.mark.slow),
    pytest.param('two_phases', 1, marks=pytest.mark.slow),
]


def environment(index, port, devices):
    """What SLURM tells one of two processes."""
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


def together(name, folder, devices):
    """The outputs of `python -m tljax.main --distributed` as it is started twice."""
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
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs


@pytest.mark.parametrize(('name', 'devices'), EACH)
def test_two_processes_train_as_one(name, devices, tmp_path):
    outputs = together(name, tmp_path, devices)
    result = train(RUNS[name](), tmp_path / 'alone')
    found = json.loads((tmp_path / 'run' / 'result.json').read_text())
    assert found['test']['loss'] == pytest.approx(result['test']['loss'], rel=1e-5)
    assert (found['step'], found['steps']) == (result['step'], result['steps'])
    ours, theirs = (tljax.TrainedRun(tmp_path / one).predictions for one in ('run', 'alone'))
    for split in ('val', 'test'):
        np.testing.assert_array_equal(ours.splits[split].ids, theirs.splits[split].ids)
        logits = [one.splits[split].logits for one in (ours, theirs)]
        np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-4)
    assert 'step    11' in outputs[0]
    assert 'step    11' not in outputs[1]  # the first speaks for both
    assert ('Prefix cache:' in outputs[0]) == (name == 'probe')
