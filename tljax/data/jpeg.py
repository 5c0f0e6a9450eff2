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


def decode(data: bytes, least_px: int | None) -> np.ndarray | None:
    """The pixels as stored; None if simplejpeg cannot decode them, so that Pillow has to try."""
    try:
        if least_px is None:
            return simplejpeg.decode_jpeg(data)
        return simplejpeg.decode_jpeg(data, min_height=least_px, min_width=least_px, min_factor=2.0)
    except ValueError:
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
