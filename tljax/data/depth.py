"""Images deeper than 8 bits: which they are, their values, and the one range of a data set.

Sixteen bits of a file may hold 10, 12 or 14 bits of a camera, or Hounsfield units, and
floating-point values may be in [0, 1], [-1, 1] or anywhere: no file says so. A range is therefore
found from the values of all training images, and used for every image that the network reads.
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
CONVENTIONS = (*UNIT, BITS[0], FULL)  # of a set that nothing is trained on
SAMPLE = 2**21  # values by which the levels of a set are counted
LEVELS = 64  # fewer than these out of many are too few
DENSE = 1024  # distinct values that fill all of 256 levels, however they fall
WIDE = re.compile('(LA|RGB|RGBA|RGBX|RGBa);16([BLN])')  # raw modes that Pillow cuts to 8 bits
# Of images deeper than 8 bits: a range, a function that finds it, or each image's own, by which
# images cannot be compared; None refuses gray ones, as nothing in a file says what black is.
GrayRange = Range | Callable[[], Range] | Literal['own'] | None
SWAPPED = {'B': 'L', 'L': 'B', 'N': 'B' if sys.byteorder == 'little' else 'L'}


class RangeError(InputError):
    """Values of images that no range fits; the message names the field that sets one."""


def is_gray(image: Image.Image) -> bool:
    """Whether an image is gray of 16 or 32 bits, or floating-point."""
    return image.mode.startswith('I;16') or image.mode in ('I', 'F')


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is opened, not read, is deeper than 8 bits."""
    return is_gray(image) or _wide(image) is not None


def _wide(image: Image.Image) -> re.Match | None:
    tiles = getattr(image, 'tile', None)
    if not tiles:
        return None
    args = tiles[0][3]
    return WIDE.fullmatch(str(args[0] if isinstance(args, (tuple, list)) and args else args))


def words(data: bytes) -> np.ndarray | None:
    """The 16 bits of each colour of an encoded image, [h, w, C] uint16; None for other images.

    Pillow keeps the high bytes. The low ones are what it reads in the other order of bytes.
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
    """The bytes of an image that is not read yet, taken for another raw mode."""
    image._mode = mode
    tiles = []
    for codec, extents, offset, args in image.tile:
        several = isinstance(args, (tuple, list))
        tiles.append((codec, extents, offset, (raw_mode, *args[1:]) if several else raw_mode))
    image.tile = tiles
    return np.asarray(image)


def scaled(values: np.ndarray, gray_range: Range) -> np.ndarray:
    """Values of any shape as uint8: the ends of a range become 0 and 255, NaN becomes 0."""
    low, high = gray_range
    levels = (np.asarray(values, np.float64) - low) * (255.0 / (high - low))
    return np.round(np.nan_to_num(np.clip(levels, 0, 255))).astype(np.uint8)


def resolved(gray_range: GrayRange, values: np.ndarray) -> Range:
    """The range of an image with these values.

    Raises:
        ValueError: none is given.
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
    """The values of an encoded image deeper than 8 bits, without transparency."""
    samples = words(data)
    if samples is not None:
        return samples[..., : 1 if samples.shape[-1] == 2 else 3]
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def find(images: Iterable[np.ndarray], count: int, where: str) -> Range:
    """The range of the values of images.

    It is one of the usual ones, [0, 1] or [-1, 1] of floating-point values or that of 8, 10, 12,
    14 or 16 bits, if nearly no level is lost by it; else from the least value to the largest.

    Args:
        images: arrays of any shape, one at a time.
        count: how many there are.
        where: they are from, for messages.

    Raises:
        RangeError: of many values few levels would be left, as single values are far off.
    """
    each = max(64, SAMPLE // max(1, count))
    low, high, whole, sample = np.inf, -np.inf, True, []
    for image in images:
        whole = whole and image.dtype.kind in 'iu'
        values = image[np.isfinite(image)].astype(np.float64)
        if values.size:
            low, high = min(low, values.min()), max(high, values.max())
            sample += [values[:: -(-values.size // each)], values.min(keepdims=True)]
            sample.append(values.max(keepdims=True))
    if not sample:
        return UNIT[0]
    return choose(low, high, np.unique(np.concatenate(sample)), where, whole=whole)


def choose(low: float, high: float, values: np.ndarray, where: str, *, whole: bool) -> Range:
    """The range of distinct values, [V] ascending, of which the least and the largest are known.

    Raises:
        RangeError: see `find`.
    """
    own = (float(low), float(high) if high > low else float(low) + 1.0)
    kept = _levels(values, own)
    if kept < min(LEVELS, len(values) / 2):
        most = tuple(float(f'{x:.6g}') for x in np.quantile(values, (0.001, 0.999)))
        raise RangeError(
            f'{where}: values go from {low:g} to {high:g}, and {kept} of 256 levels would be used, '
            f'as few of them are far off (99.8 % of the distinct ones are in {most}): set '
            'config.gray_range=(LOW, HIGH) to what is to become black and white'
        )
    wanted = kept if len(values) > DENSE else 0.95 * kept
    if whole and low >= 0 and high <= 1:
        return UNIT[0]
    usual = [*(() if whole else UNIT[: 1 if low >= 0 else 2]), *BITS]
    for one in usual:
        if one[0] <= low <= high <= one[1] and _levels(values, one) >= wanted:
            return one
    return own


def _levels(values: np.ndarray, gray_range: Range) -> int:
    return len(np.unique(scaled(values, gray_range)))
