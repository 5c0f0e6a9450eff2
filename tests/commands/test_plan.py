"""`tljax plan`: a process that makes virtual devices, compiles for them and prints a plan."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from tljax.commands import plan

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments):
    """The finished process of a plan of the tiny experiment."""
    command = [sys.executable, '-m', 'tljax', 'plan', *arguments]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_plan_for_eight_devices(tmp_path):
    """A process of its own, because JAX's number of devices cannot change in this one."""
    config = tmp_path / 'config.py'
    config.write_text('from tests.small_runs import experiment as get_config\n')
    done = run(f'--config={config}', '--num_classes=100', '--topology=h100-2x4', '--json')
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    (mesh,) = planned['meshes']
    assert (planned['devices'], planned['cheapest'], mesh['data'], mesh['model']) == (8, 0, 8, 1)
    parameters = 4 * (27 * 4 + 4 * 9 * 8 + 2 * (4 + 8) + 8 * 100 + 100)
    assert parameters < mesh['collective_bytes']['all-reduce'] < 2 * parameters
    assert mesh['argument_bytes'] > 3 * parameters  # with two moments of AdamW
    assert mesh['fits']
    assert mesh['step_seconds'] > mesh['network_seconds'] > 0
    assert 0 < mesh['weak_scaling_efficiency'] < 1


@pytest.fixture
def four_devices(monkeypatch):
    """JAX has its devices before the command asks for others."""
    monkeypatch.setenv('XLA_FLAGS', os.environ['XLA_FLAGS'])  # the command changes it
    assert jax.device_count() == 4


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ([], 'wanted --topology'),
        (['--devices=4', '--topology=h100-8'], '--topology=h100-8 has 8 devices'),
        (['--topology=h1000-8'], 'is not known'),
        (['--devices=3'], 'JAX already has 4 devices'),
        (['--devices=4', '--num_classes=10', '--config.batch_size=7'], 'multiple of the 4 devices'),
        (['--devices=4', '--num_classes=10', '--config.mesh.model=2'], 'wanted sharding fsdp'),
        (
            ['--devices=4', '--config.sharding=fsdp', '--config.mesh.data=3', '--num_classes=9'],
            'data=3 times model=1 is 3, wanted the number of devices, 4',
        ),
        (['--devices=4', '--num_classes=10', '--phase=2'], '--phase=2'),
    ],
)
@pytest.mark.usefixtures('four_devices')
def test_what_cannot_be_planned_is_one_line(flags, message, capsys):
    assert plan.main(['--config=quickstart', *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
