"""Color operations on one image [H, W, 3] float32 in [0, 255].

On whole numbers they agree with Pillow's `ImageEnhance` and `ImageOps` to one gray level: the image
to blend with is rounded as in Pillow, but Pillow truncates its results. A factor of 1 changes no
bit.
"""

import functools
import operator
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from tljax.augment.resample import once

Scalar = jax.Array | float


def gray(image: jax.Array) -> jax.Array:
    """Luminance [H, W, 1]. Source: ITU-R BT.601, with Pillow's 16-bit weights."""
    weights = (19595 / 65536, 38470 / 65536, 7471 / 65536)
    return _total(weight * image[..., i : i + 1] for i, weight in enumerate(weights))


def grayscale(image: jax.Array) -> jax.Array:
    """The image without colors."""
    image = once(image)
    return jnp.broadcast_to(jnp.round(gray(image)), image.shape)


def brightness(image: jax.Array, factor: Scalar) -> jax.Array:
    """Blends with black: factor 0 is black, 1 the image, more is brighter."""
    return jnp.clip(image * factor, 0, 255)


def contrast(image: jax.Array, factor: Scalar) -> jax.Array:
    """Blends with the mean gray: factor 0 is gray, 1 the image, more has stronger contrast."""
    image = once(image)
    mean = jnp.floor(once(jnp.round(gray(image))).mean() + 0.5)
    return _blend(mean, image, factor)


def saturation(image: jax.Array, factor: Scalar) -> jax.Array:
    """Blends with the gray image: factor 0 is gray, 1 the image, more has stronger colors."""
    image = once(image)
    return _blend(jnp.round(gray(image)), image, factor)


def sharpness(image: jax.Array, factor: Scalar) -> jax.Array:
    """Blends with a smoothed image (factor 0); more than 1 sharpens; the border is unchanged."""
    image = once(image)
    height, width = image.shape[:2]
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode='edge')
    rows = once(padded[:-2] + padded[1:-1] + padded[2:])
    smooth = jnp.round((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * image) / 13)
    row, column = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
    inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    return jnp.where(inside, _blend(smooth, image, factor), image)


def hue(image: jax.Array, degrees: Scalar) -> jax.Array:
    """Rotates the hue; the largest and the smallest channel value are kept.

    Source: Smith 1978, "Color gamut transform pairs", written without branches.
    """
    image = once(image)
    red, green, blue = (image[..., i] for i in range(3))
    highest, lowest = image.max(-1), image.min(-1)
    span = highest - lowest
    safe = jnp.where(span > 0, span, 1.0)
    sixth = jnp.where(
        highest == red,
        (green - blue) / safe,
        jnp.where(highest == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    rotated = [sixth + jnp.asarray(degrees) / 60 + n for n in (5.0, 3.0, 1.0)]
    shares = [jnp.clip(jnp.minimum(k, 4 - k), 0, 1) for k in (jnp.mod(t, 6) for t in rotated)]
    return jnp.stack([highest - span * share for share in shares], -1)


def invert(image: jax.Array) -> jax.Array:
    """The negative."""
    return 255 - image


def solarize(image: jax.Array, threshold: Scalar) -> jax.Array:
    """The negative of all values from the threshold up."""
    return jnp.where(image < threshold, image, 255 - image)


def posterize(image: jax.Array, bits: Scalar) -> jax.Array:
    """Keeps the upper `bits` of the 8 bits of each value."""
    step = jnp.exp2(8 - jnp.asarray(bits, jnp.float32))
    return jnp.floor(jnp.round(image) / step) * step


def autocontrast(image: jax.Array) -> jax.Array:
    """Each channel stretched to [0, 255]; a constant channel is unchanged."""
    image = once(image)
    low, high = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    stretched = (image - low) / jnp.where(high > low, high - low, 1.0) * 255
    return jnp.where(high > low, jnp.clip(stretched, 0, 255), image)


def equalize(image: jax.Array) -> jax.Array:
    """Histogram equalisation of each channel; values become whole numbers."""
    image = once(image)
    values = jnp.round(image).astype(jnp.int32)
    channel = jnp.arange(3)[None, None]
    counts = jnp.zeros((3, 256), jnp.int32).at[channel, values].add(1)
    levels = jnp.arange(256)
    last = jnp.max(jnp.where(counts > 0, levels, 0), -1)
    step = (counts.sum(-1) - jnp.take_along_axis(counts, last[:, None], 1)[:, 0]) // 255
    below = jnp.cumsum(counts, -1) - counts
    table = jnp.clip((step[:, None] // 2 + below) // jnp.maximum(step[:, None], 1), 0, 255)
    table = jnp.where(step[:, None] > 0, table, levels[None])
    return table[channel, values].astype(image.dtype)


def blur(image: jax.Array, sigma_px: Scalar, reach_px: int) -> jax.Array:
    """Gaussian blur, with the kernel cut off at `reach_px` and the edge repeated."""
    sigma = jnp.maximum(sigma_px, 1e-3)
    offsets = jnp.arange(-reach_px, reach_px + 1, dtype=jnp.float32)
    kernel = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    height, width = image.shape[:2]
    pad = (reach_px, reach_px)
    rows = once(jnp.pad(image, (pad, (0, 0), (0, 0)), mode='edge'))
    image = _total(kernel[i] * rows[i : i + height] for i in range(len(offsets)))
    columns = once(jnp.pad(image, ((0, 0), pad, (0, 0)), mode='edge'))
    image = _total(kernel[i] * columns[:, i : i + width] for i in range(len(offsets)))
    return jnp.clip(image, 0, 255)


def erase(
    image: jax.Array, middle: jax.Array, sides: jax.Array, value: Scalar | jax.Array
) -> jax.Array:
    """A rectangle of one value, or of values [H, W, 3].

    Args:
        image: [H, W, 3].
        middle: [2], row and column as shares of the sides.
        sides: [2], height and width as shares of the sides.
        value: the value to write.
    """
    return jnp.where(box(image.shape[0], image.shape[1], middle, sides)[..., None], value, image)


def box(height: int, width: int, middle: jax.Array, sides: jax.Array) -> jax.Array:
    """[H, W] bool: the pixels whose centre is inside a rectangle; arguments as for `erase`."""
    inside = []
    for size, centre, side in zip((height, width), middle, sides, strict=True):
        position = (jnp.arange(size) + 0.5) / size
        inside.append(jnp.abs(position - centre) < side / 2)
    return inside[0][:, None] & inside[1][None]


def _total(parts: Iterator[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, parts)


def _blend(other: jax.Array, image: jax.Array, factor: Scalar) -> jax.Array:
    """The line from another image (factor 0) through this one (1), clipped."""
    return jnp.clip(image + (factor - 1) * (image - other), 0, 255)
