"""Gaussian, shot and impulse noise."""

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment.corruptions.corruption import (
    Corruption,
    Draws,
    Strength,
    by_severity,
    normal,
    uniform,
)

EVENTS = (60, 25, 12, 5, 3)  # mean number of photons of a white value


def _normal(key: jax.Array, size_px: int) -> Draws:
    return {'normal': normal(uniform(key, share=(size_px, size_px, 3))['share'])}


def _gaussian(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    return image + strength['deviation'] * draws['normal']


def _uniform(key: jax.Array, size_px: int) -> Draws:
    return uniform(key, share=(size_px, size_px, 3))


def _shot_strengths(size_px: int) -> list[Strength]:
    # The quantile of a float32 below 1 is at most the mean plus 8 standard deviations plus 8.
    steps = [np.int32(count + 8 * count**0.5 + 8) for count in EVENTS]
    values = by_severity(events=EVENTS)
    return [{**one, 'steps': most} for one, most in zip(values, steps, strict=True)]


def _shot(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    events = strength['events']
    return poisson_quantile(draws['share'], image * events, strength['steps']) / events


def poisson_quantile(share: jax.Array, rate: jax.Array, steps: jax.Array | np.ndarray) -> jax.Array:
    """The smallest count whose cumulative probability is at least a share.

    Args:
        share: in [0, 1).
        rate: of the same shape, at most 80, where exp(-rate) is still a normal float32.
        steps: the largest count that is tried.
    """

    def step(count, state):
        term, total, quantile = state
        quantile = quantile + (total < share)
        term = term * rate / (count + 1)
        return term, total + term, quantile

    none = jnp.exp(-rate)
    return jax.lax.fori_loop(0, steps, step, (none, none, jnp.zeros_like(rate)))[2]


def _impulse_draws(key: jax.Array, size_px: int) -> Draws:
    return uniform(key, hit=(size_px, size_px, 3), white=(size_px, size_px, 3))


def _impulse(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    """Sets channels to 0 or 1 independently, as the salt and pepper noise of scikit-image."""
    extreme = jnp.where(draws['white'] < 0.5, 1.0, 0.0)
    return jnp.where(draws['hit'] < strength['share'], extreme, image)


GAUSSIAN = Corruption(
    name='gaussian_noise',
    group='noise',
    strengths=lambda size_px: by_severity(deviation=(0.08, 0.12, 0.18, 0.26, 0.38)),
    draw=_normal,
    change=_gaussian,
)
SHOT = Corruption(
    name='shot_noise', group='noise', strengths=_shot_strengths, draw=_uniform, change=_shot
)
IMPULSE = Corruption(
    name='impulse_noise',
    group='noise',
    strengths=lambda size_px: by_severity(share=(0.03, 0.06, 0.09, 0.17, 0.27)),
    draw=_impulse_draws,
    change=_impulse,
)
