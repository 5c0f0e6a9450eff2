"""Stochastic normalisation: one of two statistics for each channel, in training alone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.models.layers import BatchNorm
from tljax.models.stochastic_norm import STREAM, StochNorm

CHANNELS = 200
X = np.random.default_rng(0).normal(1, 3, (5, 2, 2, CHANNELS)).astype(np.float32)
VARIABLES = {
    'params': {'scale': jnp.full(CHANNELS, 1.5), 'bias': jnp.full(CHANNELS, 0.5)},
    'batch_stats': {'mean': jnp.full(CHANNELS, 2.0), 'var': jnp.full(CHANNELS, 4.0)},
}


def normalised(norm, *, key=0, use_running_average=False, x=X):
    """A BatchNorm's output and statistics under an interceptor."""
    with nn.intercept_methods(norm.intercept):
        return BatchNorm().apply(
            VARIABLES,
            x,
            use_running_average=use_running_average,
            rngs={STREAM: jax.random.key(key)},
            mutable=['batch_stats'],
        )


def by_running(x):
    return (x - 2.0) / np.sqrt(4.0 + 1e-5) * 1.5 + 0.5


def by_batch(x):
    x = x.astype(np.float64)
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * 1.5 + 0.5


def running_channels(out):
    """Which channels [C] are normalised by running statistics."""
    return (np.abs(np.asarray(out) - by_running(X)) < 1e-4).all((0, 1, 2))


def test_every_channel_is_normalised_by_one_of_the_two_statistics():
    out, _ = normalised(StochNorm())
    running = running_channels(out)
    np.testing.assert_allclose(out[..., ~running], by_batch(X)[..., ~running], atol=1e-4)
    assert 60 < running.sum() < 140  # of 200 at 1/2: 5.6 standard deviations


def test_the_share_is_that_of_channels_by_running_statistics():
    out, _ = normalised(StochNorm(running_share=0.9))
    assert running_channels(out).sum() > 150


def test_all_of_it_is_the_frozen_form():
    out, _ = normalised(StochNorm(running_share=1.0))
    np.testing.assert_allclose(out, by_running(X), atol=1e-4)


def test_the_draw_follows_the_key():
    one, again, other = (normalised(StochNorm(), key=key)[0] for key in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_running_statistics_are_updated_as_batch_norm_updates_them():
    _, found = normalised(StochNorm())
    _, wanted = BatchNorm().apply(
        VARIABLES, X, use_running_average=False, mutable=['batch_stats']
    )  # fmt: skip
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), found, wanted)


def test_evaluation_and_frozen_stages_are_left_as_they_are():
    found, _ = normalised(StochNorm(), use_running_average=True)
    wanted = BatchNorm().apply(VARIABLES, X, use_running_average=True)
    np.testing.assert_array_equal(found, wanted)


def test_by_running_statistics_an_image_does_not_see_the_others():
    def total(x):
        return (normalised(StochNorm(), x=x)[0][0] * X[0]).sum()

    slopes = jax.grad(total)(jnp.asarray(X))[1:]
    running = running_channels(normalised(StochNorm())[0])
    assert not np.any(slopes[..., running])
    assert np.abs(slopes[..., ~running]).max((0, 1, 2)).min() > 0


@pytest.mark.parametrize('share', [0.0, -0.1, 1.1, float('nan')])
def test_a_share_that_cannot_be_is_named(share):
    assert len(StochNorm(running_share=share).problems()) == 1
