"""Images deeper than 8 bits: their values, and one range of values for a data set.

A 16-bit file can hold 10, 12 or 14 bits of a camera, or Hounsfield units, and floating-point values
can be in [0, 1], [-1, 1] or any other range. Files do not state it. So the range is computed from
the values of all training images, and then applied to every image of the network.
"""

import io
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from PIL import Image

from tljax.types import InputError, Range

FULL: Range = (0.0, 65535.0)  # of 16 bits
UNIT: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0))  # conventions for floating-point values
BITS: tuple[Range, ...] = ((0.0, 255.0), (0.0, 1023.0), (0.0, 4095.0), (0.0, 16383.0), FULL)
CONVENTIONS = (*UNIT, BITS[0], FULL)  # the ranges accepted without training images
SAMPLE = 2**21  # values of a data set from which levels are counted
LEVELS = 64  # a range that leaves fewer levels is refused
DENSE = 1024  # more distinct values than this fill all 256 levels
WIDE = re.compile('(LA|RGB|RGBA|RGBX|RGBa);16([BLN])')  # raw modes that Pillow reduces to 8 bits
# For images deeper than 8 bits: a range, a function that computes it, or 'own' for the range of
# each image, which makes images incomparable. None refuses gray images, because a file does not
# state which value is black.
GrayRange = Range | Callable[[], Range] | Literal['own'] | None
SWAPPED = {'B': 'L', 'L': 'B', 'N': 'B' if sys.byteorder == 'little' else 'L'}


class RangeError(InputError):
    """No range fits the values of the images; the message names the field that sets a range."""


def is_gray(image: Image.Image) -> bool:
    """Whether an image is gray with 16 or 32 bits, or floating-point."""
    return image.mode.startswith('I;16') or image.mode in ('I', 'F')


def is_deep(image: Image.Image) -> bool:
    """Whether an image is deeper than 8 bits; it must be opened but not yet read."""
    return is_gray(image) or _wide(image) is not None


def _wide(image: Image.Image) -> re.Match | None:
    tiles = getattr(image, 'tile', None)
    if not tiles:
        return None
    args = tiles[0][3]
    return WIDE.fullmatch(str(args[0] if isinstance(args, (tuple, list)) and args else args))


def sixteen_bits(data: bytes) -> np.ndarray | None:
    """The pixels [h, w, C] uint16 of an encoded color image of 16 bits; None for other images.

    Pillow keeps only the high bytes. Decoding with the other byte order gives the low bytes.
    """
    with Image.open(io.BytesIO(data)) as image:
        if (wide := _wide(image)) is None:
            return None
        kind, order = wide.groups()
        if kind == 'LA':  # gray high and low, alpha high and low
            parts = _read_as(image, 'RGBA', 'RGBA').astype(np.uint16)
            return parts[..., ::2] << 8 | parts[..., 1::2]
        high = np.asarray(image, np.uint16)
    with Image.open(io.BytesIO(data)) as image:
        return high << 8 | _read_as(image, image.mode, f'{kind};16{SWAPPED[order]}')


def _read_as(image: Any, mode: str, raw_mode: str) -> np.ndarray:
    """Reads an opened image as if its file had another raw mode."""
    image._mode = mode
    tiles = []
    for codec, extents, offset, args in image.tile:
        several = isinstance(args, (tuple, list))
        tiles.append((codec, extents, offset, (raw_mode, *args[1:]) if several else raw_mode))
    image.tile = tiles
    return np.asarray(image)


def scaled(values: np.ndarray, gray_range: Range) -> np.ndarray:
    """Scales values to uint8: the ends of the range become 0 and 255, and NaN becomes 0."""
    low, high = gray_range
    levels = (np.asarray(values, np.float64) - low) * (255.0 / (high - low))
    return np.round(np.nan_to_num(np.clip(levels, 0, 255))).astype(np.uint8)


def range_for(gray_range: GrayRange, values: np.ndarray) -> Range:
    """The range for an image with these values.

    Raises:
        ValueError: `gray_range` is None.
    """
    if gray_range is None:
        raise ValueError(
            f'its gray values, {values.dtype} from {np.nanmin(values):g} to '
            f'{np.nanmax(values):g}, are deeper than 8 bits and no range is known: set gray_range'
        )
    if gray_range == 'own':
        finite = values[np.isfinite(values)]
        return (float(finite.min()), float(finite.max()) + 1e-9) if finite.size else UNIT[0]
    return gray_range() if callable(gray_range) else gray_range


def values_of(data: bytes) -> np.ndarray:
    """The values of an encoded image deeper than 8 bits, without its alpha channel."""
    pixels = sixteen_bits(data)
    if pixels is not None:
        return pixels[..., : 1 if pixels.shape[-1] == 2 else 3]
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def find(images: Iterable[np.ndarray], count: int, where: str) -> Range:
    """Computes the range of the values of images.

    A common range is preferred if it loses almost no level: [0, 1] or [-1, 1] for floating-point
    values, or the range of 8, 10, 12, 14 or 16 bits. Otherwise the range is from the smallest to
    the largest value.

    Args:
        images: arrays of any shape, read one at a time.
        count: the number of images.
        where: the source of the images, for messages.

    Raises:
        RangeError: outliers would leave too few of the 256 levels for the other values.
    """
    each = max(64, SAMPLE // max(1, count))
    low, high, integral, sample = np.inf, -np.inf, True, []
    for image in images:
        integral = integral and image.dtype.kind in 'iu'
        values = image[np.isfinite(image)].astype(np.float64)
        if values.size:
            low, high = min(low, values.min()), max(high, values.max())
            sample += [values[:: -(-values.size // each)], values.min(keepdims=True)]
            sample.append(values.max(keepdims=True))
    if not sample:
        return UNIT[0]
    return choose(low, high, np.unique(np.concatenate(sample)), where, integral=integral)


def choose(low: float, high: float, values: np.ndarray, where: str, *, integral: bool) -> Range:
    """Chooses a range; see `find`.

    Args:
        low: the smallest value.
        high: the largest value.
        values: [V] distinct values of a sample, ascending.
        where: the source of the images, for messages.
        integral: whether all values are integers.

    Raises:
        RangeError: see `find`.
    """
    full_range = (float(low), float(high) if high > low else float(low) + 1.0)
    levels = _levels(values, full_range)
    if levels < min(LEVELS, len(values) / 2):
        most = tuple(float(f'{x:.6g}') for x in np.quantile(values, (0.001, 0.999)))
        raise RangeError(
            f'{where}: values go from {low:g} to {high:g}, and because of outliers only {levels} '
            f'of 256 levels would be used (99.8 % of the distinct values are in {most}): set '
            'config.gray_range=(LOW, HIGH) to the values that become black and white'
        )
    required = levels if len(values) > DENSE else 0.95 * levels
    if integral and low >= 0 and high <= 1:
        return UNIT[0]
    common = [*(() if integral else UNIT[: 1 if low >= 0 else 2]), *BITS]
    for one in common:
        if one[0] <= low <= high <= one[1] and _levels(values, one) >= required:
            return one
    return full_range


def _levels(values: np.ndarray, gray_range: Range) -> int:
    return len(np.unique(scaled(values, gray_range)))
