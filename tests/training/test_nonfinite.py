"""A run whose loss is not finite ends, names the step, and keeps no such values."""

import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.small_runs import experiment
from tljax.records import checkpoint
from tljax.strategies.optimizers import SGD
from tljax.training import jobs, nonfinite, replay
from tljax.training.run import train


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(diverged):
    assert re.search(r'not finite at step [23] \(epoch 0\.\d+\)', diverged[1])


def test_a_diverging_run_leaves_no_checkpoint_with_values_that_are_not_finite(diverged):
    checkpoints = checkpoint.Checkpoints(diverged[0] / 'checkpoints')
    job = jobs.setup(diverging())
    shapes = jobs.checkpoint_shapes(job, job.phases[0])
    for step in checkpoints.steps():
        arrays, _ = checkpoints.restore(step, shapes)
        for leaf in jax.tree.leaves(arrays):
            assert np.isfinite(leaf).all(), f'step {step}'
    checkpoints.close()


def test_a_replay_shows_where_the_values_of_that_step_arise(diverged, capsys):
    step = int(re.search(r'tljax replay WORKDIR (\d+)', diverged[1])[1])
    ranges = replay.replay(diverged[0], step)
    first = next(one for one in ranges if one.bad)
    assert f'The first value that is not finite: {first.kind} {first.name}' in printed(capsys)
    # The loss was still finite: the update was not.
    assert first.kind == 'update'
    assert not any(one.bad for one in ranges if one.kind in ('low', 'high', 'head', 'loss'))


def printed(capsys):
    """The output so far, in one line."""
    return ' '.join(capsys.readouterr().out.split())


def diverging():
    """A run whose learning rate is far too high."""
    return experiment(optimizer=SGD(learning_rate=1e30), clip_norm=None, checkpoint_every_steps=1)


@pytest.fixture(scope='module')
def diverged(tmp_path_factory):
    """The folder of a diverging run, and its message."""
    workdir = tmp_path_factory.mktemp('diverged')
    with pytest.raises(nonfinite.NotFiniteError) as caught:
        train(diverging(), workdir)
    return workdir, str(caught.value)


def test_starting_values_that_are_not_finite_are_refused_with_the_name_of_the_leaf():
    state = SimpleNamespace(
        params={'head': {'linear': {'kernel': np.array([1.0, np.nan])}}}, stats={}
    )
    with pytest.raises(
        nonfinite.NotFiniteError, match='parameter head/linear/kernel is not finite'
    ):
        nonfinite.check_start(SimpleNamespace(state=state, step=0))
