"""Fast decoding of JPEGs by simplejpeg, and their damage."""

import io

import numpy as np
import simplejpeg
from PIL import Image

ORIENTED = (b'Exif\0\0', b'tiff:Orientation')  # marks of an orientation, in EXIF and in XMP
FORMATS = ('JPEG', 'MPO')  # an MPO has several JPEGs in one file; the first is used


def is_plain(data: bytes) -> bool:
    """Whether data is a JPEG in gray or YCbCr, of permitted size, without an orientation.

    Such images are decoded without Pillow, which saves 3 % of the time.
    """
    if not data.startswith(b'\xff\xd8'):
        return False
    head = before_scan(data)
    if any(mark in head for mark in ORIENTED):
        return False
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    pixels = int(height) * int(width)
    return colors in ('YCbCr', 'Gray') and pixels <= (Image.MAX_IMAGE_PIXELS or pixels)


def before_scan(data: bytes) -> bytes:
    """The segments of a JPEG before its first scan; all of the data if the segments are broken.

    Searching the scans, too, would add 5 % to the time of decoding.
    """
    place, segment = 2, data[2:4]
    while segment[:1] == b'\xff' and segment[1:] not in (b'\xda', b'\xff'):
        place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
        segment = data[place : place + 2]
    return data[:place] if segment == b'\xff\xda' else data


def size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the frame header of a JPEG, which may lack tables; None without one."""
    place = 2
    while (segment := data[place : place + 9])[:1] == b'\xff' and len(segment) == 9:
        if 0xC0 <= segment[1] <= 0xCF and segment[1] not in (0xC4, 0xC8, 0xCC):  # ITU-T T.81, B.1
            return int.from_bytes(segment[7:9], 'big'), int.from_bytes(segment[5:7], 'big')
        place += 2 + int.from_bytes(segment[2:4], 'big')
    return None


def decode(data: bytes, least_px: int | None) -> np.ndarray | None:
    """The pixels as stored; None if simplejpeg cannot decode them, so that Pillow has to try.

    Raises:
        ValueError: the data ends before the last pixel. Pillow would fill the rest with gray.
    """
    try:
        if least_px is None:
            return simplejpeg.decode_jpeg(data)
        return simplejpeg.decode_jpeg(data, min_height=least_px, min_width=least_px, min_factor=2.0)
    except ValueError as error:
        if 'premature end' in str(error).lower():
            raise ValueError(f'damaged inside: {error}') from error
        return None


def damage(data: bytes) -> str | None:
    """The damage inside a JPEG that Pillow does not report; None for no damage."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format not in FORMATS:
            return None
        colors = 'CMYK' if image.mode == 'CMYK' else 'RGB'
    try:
        simplejpeg.decode_jpeg(data, colors)
    except ValueError as error:
        return f'damaged inside: {error}'
    return None
