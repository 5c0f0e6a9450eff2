"""Defocus, motion and zoom blur."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from tljax.augment import resample
from tljax.augment.corruptions.corruption import (
    Corruption,
    Draws,
    Strength,
    scale,
    uniform,
)

DISC_RADII_PX = (3, 4, 6, 8, 10)
ALIAS_SIGMA_PX = 0.5  # smooths the edge of the disc; does not depend on the image size
MOTION_PX = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius and sigma
ZOOMS = tuple(  # zoom factors of each severity
    np.arange(1, end, step)
    for end, step in ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
)
SUBPIXELS = 16  # in each direction, to measure the share of a pixel that a disc covers


def disc(radius_px: float, reach_px: int) -> np.ndarray:
    """The kernel of defocus: the share of each pixel that a disc covers, smoothed.

    Args:
        radius_px: of the disc.
        reach_px: pixels on each side of the centre of the kernel.

    Returns:
        [2 reach_px + 1, 2 reach_px + 1] float32 with sum 1.
    """
    side = 2 * reach_px + 1
    places = (np.arange(side * SUBPIXELS) + 0.5) / SUBPIXELS - side / 2
    inside = (
        np.square(places)[:, None] + np.square(places)[None] <= max(radius_px, 1 / SUBPIXELS) ** 2
    )
    covered = inside.reshape(side, SUBPIXELS, side, SUBPIXELS).mean((1, 3))
    smooth = scipy.ndimage.gaussian_filter(covered, ALIAS_SIGMA_PX, mode='constant')
    return (smooth / smooth.sum()).astype(np.float32)


def _defocus_strengths(size_px: int) -> list[Strength]:
    radii = [radius * scale(size_px) for radius in DISC_RADII_PX]
    reach = min(math.ceil(radii[-1] + 2), size_px - 1)
    return [{'kernel': disc(radius, reach)} for radius in radii]


def _defocus(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    kernel = jnp.asarray(strength['kernel'])
    reach = len(kernel) // 2
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode='reflect')
    channels = padded.transpose(2, 0, 1)[:, None]
    blurred = jax.lax.conv_general_dilated(
        channels, kernel[None, None], (1, 1), 'VALID', precision='highest'
    )
    return blurred[:, 0].transpose(1, 2, 0)


def line_weights(radius_px: float, sigma_px: float, count: int) -> np.ndarray:
    """The weights [count] of the points of a motion, which are one pixel apart.

    The weights fall as a Gaussian and are 0 beyond twice the radius, as in ImageMagick.
    """
    places = np.arange(count)
    weights = np.exp(-np.square(places) / (2 * sigma_px**2)) * (places <= 2 * radius_px)
    return (weights / weights.sum()).astype(np.float32)


def motion_strengths(size_px: int, values: tuple[tuple[float, float], ...]) -> list[Strength]:
    """The weights of motions, from (radius, sigma) at 224 px."""
    factor = scale(size_px)
    count = math.floor(2 * factor * max(radius for radius, _ in values)) + 2
    return [{'weights': line_weights(factor * r, factor * s, count)} for r, s in values]


def moved(image: jax.Array, weights: jax.Array | np.ndarray, angle_degrees: jax.Array) -> jax.Array:
    """The weighted mean of an image along a line, with bilinear interpolation and repeated edges.

    Args:
        image: [S, S, C].
        weights: [T], of points one pixel apart; the first point is the pixel itself.
        angle_degrees: of the line; 0 is along a row.
    """
    size, reach = image.shape[0], len(weights)
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode='edge')
    angle = jnp.deg2rad(angle_degrees)

    def add(step, total):
        down, right = step * jnp.sin(angle), step * jnp.cos(angle)
        top, left = jnp.floor(down), jnp.floor(right)
        corner = (reach + top.astype(int), reach + left.astype(int), 0)
        window = jax.lax.dynamic_slice(padded, corner, (size + 1, size + 1, image.shape[2]))
        rows = window[:-1] * (1 - (down - top)) + window[1:] * (down - top)
        shifted = rows[:, :-1] * (1 - (right - left)) + rows[:, 1:] * (right - left)
        return total + jnp.asarray(weights)[step] * shifted

    return jax.lax.fori_loop(0, len(weights), add, jnp.zeros_like(image))


def _motion_draws(key: jax.Array, size_px: int) -> Draws:
    return {'angle_degrees': 90 * uniform(key, angle=())['angle'] - 45}


def _motion(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    return moved(image, strength['weights'], draws['angle_degrees'])


def _zoom_strengths(size_px: int) -> list[Strength]:
    most = max(map(len, ZOOMS))
    return [
        {
            'factors': np.pad(factors, (0, most - len(factors)), constant_values=1).astype('f4'),
            'counted': np.float32(np.arange(most) < len(factors)),
        }
        for factors in ZOOMS
    ]


def zoomed(image: jax.Array, factor: jax.Array | np.ndarray) -> jax.Array:
    """Enlarges the centre of an image [S, S, C], with bilinear interpolation."""
    size = image.shape[0]
    middle = (size - 1) / 2
    places = middle + (jnp.arange(size) - middle) / factor
    return resample.separable(image, places, places)


def _zoom(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    counted, factors = jnp.asarray(strength['counted']), jnp.asarray(strength['factors'])

    def add(index, total):
        return total + counted[index] * zoomed(image, factors[index])

    total = jax.lax.fori_loop(0, len(factors), add, image)
    return total / (1 + counted.sum())


DEFOCUS = Corruption(
    name='defocus_blur',
    group='blur',
    strengths=_defocus_strengths,
    change=_defocus,
)
MOTION = Corruption(
    name='motion_blur',
    group='blur',
    strengths=lambda size_px: motion_strengths(size_px, MOTION_PX),
    draw=_motion_draws,
    change=_motion,
)
ZOOM = Corruption(name='zoom_blur', group='blur', strengths=_zoom_strengths, change=_zoom)
