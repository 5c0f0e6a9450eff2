"""Whole suffixes in a grid: each cell is the run of its settings alone."""

import jax
import numpy as np
import pytest

from tests.small_runs import experiment, last_checkpoint
from tljax import features
from tljax.features.probes import Axes, grid
from tljax.strategies.optimizers import SGD
from tljax.strategies.schedules import Cosine
from tljax.strategies.strategies import FreezeBelow
from tljax.training import jobs
from tljax.training.run import train
from tljax.types import InputError, Norm

AXES = Axes(learning_rates=(0.02, 0.1), weight_decays=(0.0, 0.01), seeds=(0, 3))


def run_of(rate, decay, seed):
    """The experiment of a cell; `Tiny` has dropout, which only training modules draw."""
    return experiment(
        strategy=FreezeBelow(stage='high'),
        norm=Norm.AFFINE_ONLY,
        optimizer=SGD(learning_rate=rate, weight_decay=decay),
        schedule=Cosine(),
        augmentations=(),
        validation_fraction=0.0,
        clip_norm=None,
        seed=seed,
    )


@pytest.fixture(scope='module')
def cells():
    job = jobs.setup(run_of(0.02, 0.0, 0))
    parts = (job.model, job.params, job.stats)
    found = features.extract(
        *parts, job.splits['train'], cut='high', pooling=None, cache_gigabytes=0
    )
    apply, init = features.suffix(*parts, cut='high')
    options = {'optimizer': SGD(), 'num_classes': 3, 'epochs': 3.0, 'batch_size': 8}
    return grid.train(
        np.asarray(found.values), found.labels, AXES, apply=apply, init=init, **options
    )


@pytest.mark.parametrize(
    ('rate', 'decay', 'seed'), [(0, 1, 0), pytest.param(1, 0, 0, marks=pytest.mark.slow)]
)
def test_a_cell_is_the_run_of_its_settings(cells, rate, decay, seed, tmp_path, monkeypatch):
    monkeypatch.setattr('flax.linen.Dropout.__call__', lambda self, x, **_: x)
    what = run_of(AXES.learning_rates[rate], AXES.weight_decays[decay], AXES.seeds[seed])
    train(what, tmp_path)
    wanted = last_checkpoint(what, tmp_path)[0]['state'].params
    start = jobs.setup(what).params['high']
    found = jax.tree.map(lambda leaf: leaf[rate, decay, seed, 0], cells)
    assert np.abs(found['high']['conv']['kernel'] - start['conv']['kernel']).max() > 0.001
    for name in ('high', 'head'):
        for one, other in zip(*map(jax.tree.leaves, (found[name], wanted[name])), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_seeds_differ(cells):
    kernels = cells['high']['conv']['kernel']
    assert not np.allclose(kernels[0, 0, 0], kernels[0, 0, 1], atol=1e-4)


def test_a_stage_that_is_not_there_is_refused():
    job = jobs.setup(run_of(0.02, 0.0, 0))
    with pytest.raises(InputError, match="the cut is 'middle', wanted one of"):
        features.suffix(job.model, job.params, job.stats, 'middle')
