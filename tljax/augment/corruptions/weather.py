"""Fog, frost and snow."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tljax.augment import resample
from tljax.augment.corruptions import blurs
from tljax.augment.corruptions.corruption import (
    Corruption,
    Draws,
    Strength,
    by_severity,
    normal,
    scale,
    uniform,
)
from tljax.models.stages import LUMA

ICE = (0.82, 0.92, 1.0)  # the color of frost
CRYSTAL_DECAY, COVER_DECAY = 1.5, 2.2  # of the two height maps of frost
SNOW = {  # mean and deviation of the flakes' brightness; zoom; threshold; share of the image
    'mean': (0.1, 0.2, 0.55, 0.55, 0.55),
    'deviation': (0.3, 0.3, 0.3, 0.3, 0.3),
    'zoom': (3, 2, 4, 4.5, 2.5),
    'threshold': (0.5, 0.5, 0.9, 0.85, 0.85),
    'image_share': (0.8, 0.7, 0.7, 0.65, 0.55),
}
SNOW_MOTION_PX = ((10, 4), (12, 4), (12, 8), (12, 8), (12, 12))  # radius and sigma


def height_noise(key: jax.Array, size_px: int, *names: str) -> Draws:
    """The random values, uniform in [-1, 1), of height maps; see `height_map`."""
    doublings = max(1, math.ceil(math.log2(size_px)))
    shapes = {f'{name}{i}': (3, 2**i, 2**i) for name in names for i in range(doublings)}
    return {name: 2 * part - 1 for name, part in uniform(key, **shapes).items()}


def _map_of(draws: Draws, name: str, decay: jax.Array | float, size_px: int) -> jax.Array:
    doublings = sum(part.rstrip('0123456789') == name for part in draws)
    return height_map([draws[f'{name}{i}'] for i in range(doublings)], decay, size_px)


def height_map(noise: Sequence[jax.Array], decay: jax.Array | float, size_px: int) -> jax.Array:
    """A fractal map in [0, 1] by the diamond-square algorithm on a torus.

    Source: Fournier et al. 1982; the form of Hendrycks & Dietterich 2019, where each doubling
    divides the amplitude by the square of `decay`.

    Args:
        noise: of each doubling, [3, n, n] in [-1, 1].
        decay: a larger value gives a smoother map.
        size_px: the side of the returned part of the map.
    """
    heights, amplitude = jnp.zeros((1, 1)), 1.0
    for square_noise, across_noise, down_noise in noise:
        right, below = jnp.roll(heights, -1, 1), jnp.roll(heights, -1, 0)
        corners = heights + right + below + jnp.roll(below, -1, 1)
        squares = resample.once(corners / 4 + amplitude * square_noise)
        across = heights + right + squares + jnp.roll(squares, 1, 0)
        across = across / 4 + amplitude * across_noise
        down = heights + below + squares + jnp.roll(squares, 1, 1)
        down = down / 4 + amplitude * down_noise
        even, odd = jnp.stack([heights, across], -1), jnp.stack([down, squares], -1)
        side = 2 * len(heights)
        heights = jnp.stack([even.reshape(-1, side), odd.reshape(-1, side)], 1).reshape(side, side)
        heights = resample.once(heights)  # without it, the fused doublings took minutes to compile
        amplitude = amplitude / decay**2
    low, high = heights.min(), heights.max()
    return ((heights - low) / jnp.maximum(high - low, 1e-12))[:size_px, :size_px]


def _fog_draws(key: jax.Array, size_px: int) -> Draws:
    return height_noise(key, size_px, 'fog')


def _fog(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    thickness, brightest = strength['thickness'], image.max()
    fog = _map_of(draws, 'fog', strength['decay'], len(image))[..., None]
    return (image + thickness * fog) * brightest / jnp.maximum(brightest + thickness, 1e-12)


def _frost_draws(key: jax.Array, size_px: int) -> Draws:
    return height_noise(key, size_px, 'crystals', 'cover')


def ice(crystals: jax.Array, cover: jax.Array) -> jax.Array:
    """A layer of frost [S, S, 3]: the ridges of a rough map, denser where a smooth map is high.

    ImageNet-C uses photographs of frost instead, so the textures differ.

    Args:
        crystals: a rough height map [S, S].
        cover: a smooth height map [S, S].
    """
    ridges = jnp.square(1 - jnp.abs(2 * crystals - 1))
    layer = (0.25 + 0.75 * ridges) * (0.35 + 0.65 * cover)
    return layer[..., None] * jnp.asarray(ICE).reshape(1, 1, 3) * 1.3


def _frost(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    size = len(image)
    crystals = _map_of(draws, 'crystals', CRYSTAL_DECAY, size)
    cover = _map_of(draws, 'cover', COVER_DECAY, size)
    return strength['image_share'] * image + strength['ice'] * ice(crystals, cover)


def _snow_strengths(size_px: int) -> list[Strength]:
    # A flake is at least a pixel wide.
    zooms = [max(1.0, zoom * scale(size_px)) for zoom in SNOW['zoom']]
    values = by_severity(**{**SNOW, 'zoom': zooms})
    motions = blurs.motion_strengths(size_px, SNOW_MOTION_PX)
    return [{**one, **motion} for one, motion in zip(values, motions, strict=True)]


def _snow_draws(key: jax.Array, size_px: int) -> Draws:
    draws = uniform(key, flakes=(size_px, size_px), angle=())
    return {'normal': normal(draws['flakes']), 'angle_degrees': 90 * draws['angle'] - 135}


def _snow(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    flakes = strength['mean'] + strength['deviation'] * draws['normal']
    flakes = blurs.zoomed(flakes[..., None], strength['zoom'])
    flakes = jnp.clip(jnp.where(flakes < strength['threshold'], 0.0, flakes), 0, 1)
    flakes = blurs.moved(flakes, strength['weights'], draws['angle_degrees'])
    gray = (image * jnp.asarray(LUMA).reshape(1, 1, 3)).sum(-1, keepdims=True)
    white = jnp.maximum(image, 1.5 * gray + 0.5)
    share = strength['image_share']
    return share * image + (1 - share) * white + flakes + flakes[::-1, ::-1]


FOG = Corruption(
    name='fog',
    group='weather',
    strengths=lambda size_px: by_severity(
        thickness=(1.5, 2, 2.5, 2.5, 3), decay=(2, 2, 1.7, 1.5, 1.4)
    ),
    draw=_fog_draws,
    change=_fog,
)
FROST = Corruption(
    name='frost',
    group='weather',
    strengths=lambda size_px: by_severity(
        image_share=(1, 0.8, 0.7, 0.65, 0.6), ice=(0.4, 0.6, 0.7, 0.7, 0.75)
    ),
    draw=_frost_draws,
    change=_frost,
)
SNOW_FALL = Corruption(
    name='snow', group='weather', strengths=_snow_strengths, draw=_snow_draws, change=_snow
)
