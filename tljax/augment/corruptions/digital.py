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
    uniform,
)

PIXEL_SHARES = (0.6, 0.5, 0.4, 0.3, 0.25)  # the reduced side as a share of the side
ELASTIC = (  # amplitude, sigma and jitter as shares of the side; ImageNet-C has 244 px for 224 px
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
    """Raises the value (V) of HSV, which scales the pixel; black becomes gray."""
    value = image.max(-1, keepdims=True)
    raised = jnp.minimum(value + strength['raise'], 1)
    return jnp.where(value > 0, image * raised / jnp.where(value > 0, value, 1), raised)


def _pixelate_strengths(size_px: int) -> list[Strength]:
    return [{'matrix': _pixelation(size_px, max(1, int(size_px * x)))} for x in PIXEL_SHARES]


def _pixelation(size_px: int, reduced_px: int) -> np.ndarray:
    """The matrix [S, S] that resizes a side to `reduced_px` and back with Pillow's box filter."""
    rows = np.eye(size_px, dtype=np.float32)
    for side in (reduced_px, size_px):
        resized = Image.fromarray(rows).resize((size_px, side), Image.Resampling.BOX)
        rows = np.asarray(resized, np.float32)
    return rows


def _both_sides(matrix: jax.Array | np.ndarray, image: jax.Array) -> jax.Array:
    """Applies a matrix to the rows and to the columns of an image [S, S, C]."""
    with jax.default_matmul_precision('highest'):
        return jnp.einsum('ij,jkc,lk->ilc', matrix, image, matrix)


def _pixelate(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    return _both_sides(strength['matrix'], image)


def _elastic_strengths(size_px: int) -> list[Strength]:
    strengths = []
    for amplitude, sigma, jitter in ELASTIC:
        smooth = scipy.ndimage.gaussian_filter1d(
            np.eye(size_px), sigma * size_px, axis=0, mode='reflect', truncate=3
        )
        strengths.append(
            {
                'smooth': smooth.astype(np.float32),
                'amplitude_px': np.float32(amplitude * size_px),
                'jitter_px': np.float32(jitter * size_px),
            }
        )
    return strengths


def _elastic_draws(key: jax.Array, size_px: int) -> Draws:
    draws = uniform(key, corners=(3, 2), field=(size_px, size_px, 2))
    return {name: 2 * part - 1 for name, part in draws.items()}


def elastic_places(draws: Draws, strength: Strength) -> tuple[jax.Array, jax.Array]:
    """The rows [S, S] and the columns [S, S] to sample an image at, which can be outside of it.

    An affine map moves three points by up to `jitter_px`. Smoothed noise then moves every pixel.
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
    """Reflects positions into [0, size - 1] without repeating the pixels at the edge."""
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
    change=_contrast,
)
BRIGHTNESS = Corruption(
    name='brightness',
    group='weather',
    strengths=lambda size_px: by_severity(**{'raise': (0.1, 0.2, 0.3, 0.4, 0.5)}),
    change=_brightness,
)
PIXELATE = Corruption(
    name='pixelate',
    group='digital',
    strengths=_pixelate_strengths,
    change=_pixelate,
)
ELASTIC_TRANSFORM = Corruption(
    name='elastic_transform',
    group='digital',
    strengths=_elastic_strengths,
    draw=_elastic_draws,
    change=_elastic,
)
