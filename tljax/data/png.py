"""PNG files whose data ends before their last row; Pillow leaves the rest black."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each type of color in the header
# The passes of an interlaced image: the first column and row, and the steps between them.
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
BLOCK = 1 << 20  # bytes that are decompressed at a time


def problem(data: bytes, pixels: np.ndarray) -> str | None:
    """Why a PNG that Pillow has read is incomplete; None for a complete one.

    The checksums of a file hold although rows are missing, if its writer left them out. The data is
    decompressed again only if the image has an edge of one color, as an incomplete one has.

    Args:
        data: the file.
        pixels: [h, w, C], what was read from it, in any orientation.
    """
    edges = (pixels[-1], pixels[0], pixels[:, -1], pixels[:, 0])
    if not any((edge == edge[0]).all() for edge in edges):
        return None
    wanted, inflate, found = _wanted(data), zlib.decompressobj(), 0
    for part in _image_data(data):
        while part and not inflate.eof and found < wanted:
            found += len(inflate.decompress(part, BLOCK))
            part = inflate.unconsumed_tail
    return f'its data has {found:,} of {wanted:,} bytes' if found < wanted else None


def _wanted(data: bytes) -> int:
    """The bytes of all rows before compression, by the header."""
    width, height, depth, color, _, _, interlaced = struct.unpack_from('>IIBBBBB', data, 16)
    bits = depth * CHANNELS[color]
    if not interlaced:
        return _rows(width, height, bits)
    return sum(
        _rows(-((x - width) // across), -((y - height) // down), bits)
        for x, y, across, down in ADAM7
    )


def _rows(width: int, height: int, bits: int) -> int:
    """The bytes of rows: one for the filter, then the pixels of so many bits."""
    return height * (1 + (width * bits + 7) // 8) if width > 0 and height > 0 else 0


def _image_data(data: bytes) -> Iterator[bytes]:
    """The contents of the chunks IDAT."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from('>I4s', data, place)
        if kind == b'IDAT':
            yield data[place + 8 : place + 8 + length]
        place += length + 12
