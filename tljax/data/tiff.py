"""TIFF files whose strips or tiles do not cover the image; Pillow leaves the rest black."""

import math
from collections.abc import Iterator

from PIL import Image, TiffImagePlugin

from tljax.data import jpeg

# Tags of TIFF 6.0, with the names of the specification.
IMAGE_WIDTH, IMAGE_LENGTH, COMPRESSION, PLANAR_CONFIGURATION = 256, 257, 259, 284
STRIP_OFFSETS, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_BYTE_COUNTS = 273, 277, 278, 279
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTE_COUNTS = 322, 323, 324, 325
JPEG, SEPARATE = 7, 2  # a compression, and planes of one channel each


def problem(image: Image.Image, data: bytes) -> str | None:
    """Why the first frame of a TIFF is incomplete; None for a complete one, or another format.

    Args:
        image: opened, and not yet read.
        data: its file.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    tags = image.tag_v2
    size = width, height = tags[IMAGE_WIDTH], tags[IMAGE_LENGTH]
    tiled = STRIP_OFFSETS not in tags
    part = (
        (tags[TILE_WIDTH], tags[TILE_LENGTH])
        if tiled
        else (width, min(height, tags.get(ROWS_PER_STRIP, height)))
    )
    if 0 in part:
        return f'its parts have {part[0]} x {part[1]} px'
    offsets = _numbers(tags[TILE_OFFSETS if tiled else STRIP_OFFSETS])
    one_plane = math.ceil(width / part[0]) * math.ceil(height / part[1])
    separate = tags.get(PLANAR_CONFIGURATION) == SEPARATE
    wanted = one_plane * (tags.get(SAMPLES_PER_PIXEL, 1) if separate else 1)
    if len(offsets) < wanted:
        return f'it has {len(offsets)} of {wanted} strips or tiles'
    if tags.get(COMPRESSION) != JPEG:
        return None
    counts = _numbers(tags.get(TILE_BYTE_COUNTS if tiled else STRIP_BYTE_COUNTS, ()))
    places = list(zip(offsets, counts, strict=False))[:one_plane]  # further planes can be smaller
    parts = (data[start : start + count] for start, count in places)
    return next(_small_parts(parts, part, None if tiled else size), None)


def _small_parts(
    parts: Iterator[bytes], part: tuple[int, int], strips_of: tuple[int, int] | None
) -> Iterator[str]:
    """Says which JPEGs are smaller than their strip or tile; the last strip can be short."""
    for index, data in enumerate(parts):
        width, height = part
        if strips_of:
            height = min(height, strips_of[1] - index * height)
        stated = jpeg.size(data)
        if stated and (stated[0] < width or stated[1] < height):
            yield f'a strip or tile of {width} x {height} px has {stated[0]} x {stated[1]} px'


def _numbers(value: object) -> tuple[int, ...]:
    """The values of a tag that can have one or several."""
    return value if isinstance(value, tuple) else (value,)  # type: ignore[return-value]
