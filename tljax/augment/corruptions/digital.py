"""Contrast, brightness, pixelation and elastic transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from PIL import Image

from tljax.augment import resample
from tljax.augment.corruptions.corruption import (
    Corruption,
    Draws,
    Strength,
    by_severity,
    no_draws,
    uniform,
)

PIXEL_SHARES = (0.6, 0.5, 0.4, 0.3, 0.25)  # of the side that is left
ELASTIC = (  # amplitude, sigma and jitter as shares of the side; of 244 px where 224 were meant
    (2 * 244 / 224, 0.7 * 244 / 224, 0.1 * 244 / 224),
    (2 * 244 / 224, 0.08 * 244 / 224, 0.2 * 244 / 224),
    (0.05 * 244 / 224, 0.01 * 244 / 224, 0.02 * 244 / 224),
    (0.07 * 244 / 224, 0.01 * 244 / 224, 0.02 * 244 / 224),
    (0.12 * 244 / 224, 0.01 * 244 / 224, 0.02 * 244 / 224),
)


def _contrast(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    means = image.mean((0, 1), keepdims=True)
    return (image - means) * strength['factor'] + means


def _brightness(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    """Raises the value of HSV, which multiplies a pixel; black becomes gray."""
    value = image.max(-1, keepdims=True)
    raised = jnp.minimum(value + strength['raise'], 1)
    return jnp.where(value > 0, image * raised / jnp.where(value > 0, value, 1), raised)


def _pixelate_strengths(size_px: int) -> list[Strength]:
    return [{'matrix': _pixelation(size_px, max(1, int(size_px * c)))} for c in PIXEL_SHARES]


def _pixelation(size_px: int, left_px: int) -> np.ndarray:
    """[S, S], that resizes a side to `left_px` and back by Pillow's box filter."""
    rows = np.eye(size_px, dtype=np.float32)
    for side in (left_px, size_px):
        resized = Image.fromarray(rows).resize((size_px, side), Image.Resampling.BOX)
        rows = np.asarray(resized, np.float32)
    return rows


def _both_sides(matrix: jax.Array | np.ndarray, image: jax.Array) -> jax.Array:
    """The product of a matrix with the rows and the columns of [S, S, C]."""
    with jax.default_matmul_precision('highest'):
        return jnp.einsum('ij,jkc,lk->ilc', matrix, image, matrix)


def _pixelate(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    return _both_sides(strength['matrix'], image)


def _elastic_strengths(size_px: int) -> list[Strength]:
    found = []
    for amplitude, sigma, jitter in ELASTIC:
        smooth = scipy.ndimage.gaussian_filter1d(
            np.eye(size_px), sigma * size_px, axis=0, mode='reflect', truncate=3
        )
        scalars = {'amplitude_px': amplitude * size_px, 'jitter_px': jitter * size_px}
        found.append(
            {'smooth': smooth.astype('f4'), **{n: np.float32(x) for n, x in scalars.items()}}
        )
    return found


def _elastic_draws(key: jax.Array, size_px: int) -> Draws:
    draws = uniform(key, corners=(3, 2), field=(size_px, size_px, 2))
    return {name: 2 * part - 1 for name, part in draws.items()}


def elastic_places(draws: Draws, strength: Strength) -> tuple[jax.Array, jax.Array]:
    """Where to sample an image: its rows [S, S] and columns [S, S], which can lie outside.

    Three points move by up to `jitter_px` and take the image with them, as an affine map. Then
    every pixel moves by smoothed noise.
    """
    size = len(draws['field'])
    middle, side = size // 2, size // 3
    points = np.array([[1, 1], [1, -1], [-1, -1]], np.float32) * side + middle
    moved = points + strength['jitter_px'] * draws['corners']
    ones = jnp.ones((3, 1))
    back = jnp.linalg.solve(jnp.concatenate([moved, ones], 1), jnp.asarray(points))
    shift = strength['amplitude_px'] * _both_sides(strength['smooth'], draws['field'])
    rows, columns = resample.grid(size, size)
    rows, columns = rows + shift[..., 0], columns + shift[..., 1]
    row, column = (a * rows + b * columns + c for a, b, c in back.T)
    return row, column


def mirrored(places: jax.Array, size: int) -> jax.Array:
    """Places reflected into [0, size - 1]; the pixels at the edge are not repeated."""
    period = max(2 * (size - 1), 1)
    folded = jnp.mod(places, period)
    return jnp.minimum(folded, period - folded)


def _elastic(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    size = len(image)
    rows, columns = elastic_places(draws, strength)
    return resample.bilinear(image, mirrored(rows, size), mirrored(columns, size))


CONTRAST = Corruption(
    name='contrast',
    group='digital',
    strengths=lambda size_px: by_severity(factor=(0.4, 0.3, 0.2, 0.1, 0.05)),
    draw=no_draws,
    change=_contrast,
)
BRIGHTNESS = Corruption(
    name='brightness',
    group='weather',
    strengths=lambda size_px: by_severity(**{'raise': (0.1, 0.2, 0.3, 0.4, 0.5)}),
    draw=no_draws,
    change=_brightness,
)
PIXELATE = Corruption(
    name='pixelate',
    group='digital',
    strengths=_pixelate_strengths,
    draw=no_draws,
    change=_pixelate,
)
ELASTIC_TRANSFORM = Corruption(
    name='elastic_transform',
    group='digital',
    strengths=_elastic_strengths,
    draw=_elastic_draws,
    change=_elastic,
)
