"""Damaged bytes of images are refused with a reason, or are decoded to an image.

Bytes are flipped, cut off, duplicated, spliced and overwritten, with more of it at the ends. A
longer form with more examples is marked `slow`.
"""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from tests.changed_bytes import changes
from tljax.data import decode, files

FIXED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SECONDS = 5.0  # of the processor for one image
EDGE = 200  # bytes at both ends, where headers and tables are, with a half of the changes
KINDS = {
    'jpeg': {'format': 'jpeg', 'quality': 90},
    'progressive jpeg': {'format': 'jpeg', 'progressive': True},
    'png': {'format': 'png'},
    'interlaced gif': {'format': 'gif', 'interlace': 1},
    'gif': {'format': 'gif', 'interlace': 0},
    'bmp': {'format': 'bmp'},
    'webp': {'format': 'webp', 'quality': 80},
    'lossless webp': {'format': 'webp', 'lossless': True},
    'tiff': {'format': 'tiff'},
    'lzw tiff': {'format': 'tiff', 'compression': 'tiff_lzw'},
    'deflated tiff': {'format': 'tiff', 'compression': 'tiff_adobe_deflate'},
    'packbits tiff': {'format': 'tiff', 'compression': 'packbits'},
    'jpeg tiff': {'format': 'tiff', 'compression': 'jpeg'},
    'tiff of strips': {'format': 'tiff', 'compression': 'tiff_lzw', 'strip_size': 2000},
    'jpeg tiff of strips': {'format': 'tiff', 'compression': 'jpeg', 'strip_size': 2304},
    '16-bit tiff': {'format': 'tiff'},
    '16-bit png': {'format': 'png'},
}


def picture() -> Image.Image:
    """A bright picture of 40 × 48 pixels; none of its values is below 40."""
    y, x = np.mgrid[:40, :48]
    waves = [150 + 100 * np.sin(x / a) * np.cos(y / b) for a, b in ((11, 7), (13, 9), (5, 19))]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))


def encoded(kind: str) -> bytes:
    """The picture as the bytes of a file."""
    buffer, image = io.BytesIO(), picture()
    if kind.startswith('16-bit'):
        image = Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257)
    image.save(buffer, **KINDS[kind])
    return buffer.getvalue()


FILES = {kind: encoded(kind) for kind in KINDS}


def check_decoded(data: bytes, kind: str) -> None:
    """Decoding refuses the bytes in one line, or gives an image that is not black."""
    began, pixels, message = time.process_time(), None, ''
    try:
        pixels = decode.decode(data, kind, gray_range=(0, 65535))
    except decode.ImageError as error:
        message = str(error)
    assert time.process_time() - began < SECONDS
    if pixels is None:
        assert message.startswith(f'{kind}: not a readable image: ')
        assert '\n' not in message
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    black_rows = (pixels == 0).all(axis=(1, 2)).mean()
    assert black_rows < 0.1  # one of damaged values is no sign of missing ones


def with_tag(data: bytes, tag: int, value: int, new_tag: int | None = None) -> bytes:
    """A TIFF with another value of a tag of its first directory, or another tag in its place."""
    (place,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, place)
    entries = range(place + 2, place + 2 + 12 * count, 12)
    entry = next(one for one in entries if struct.unpack_from('<H', data, one) == (tag,))
    changed = bytearray(data)
    struct.pack_into('<HHII', changed, entry, new_tag or tag, 4, 1, value)
    return bytes(changed)


@pytest.mark.parametrize('examples', [60, pytest.param(250, marks=pytest.mark.slow)])
@pytest.mark.parametrize('kind', KINDS)
def test_changed_bytes_are_refused_or_decoded(kind, examples):
    @settings(FIXED, max_examples=examples)
    @given(changes(FILES[kind], EDGE, [FILES[kind] for kind in sorted(FILES)]))
    def run(data):
        check_decoded(data, kind)

    run()


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_that_is_cut_short_is_refused_unless_all_pixels_are_there(kind, tmp_path):
    data, path = FILES[kind], tmp_path / 'cut'
    whole = decode.decode(data, kind, gray_range=(0, 65535))
    for length in range(0, len(data), -(-len(data) // 60)):
        try:
            pixels = decode.decode(data[:length], kind, gray_range=(0, 65535))
        except decode.ImageError:
            path.write_bytes(data[:length])
            assert files.check_file(path) is not None
        else:
            np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize('share', [0.6, 0.8])
def test_a_jpeg_whose_end_is_missing_is_refused_also_with_an_end_mark(share):
    """Pillow would fill the rest with gray."""
    data = FILES['jpeg']
    with pytest.raises(decode.ImageError, match='remature end'):
        decode.decode(data[: int(len(data) * share)] + b'\xff\xd9', 'cut')


@pytest.mark.parametrize(
    ('kind', 'change', 'reason'),
    [
        ('tiff', (278, 8), '1 of 5 strips'),  # rows of a strip
        ('tiff', (257, 400), '1 of 10 strips'),  # height
        ('lzw tiff', (259, 8, 278), '1 of 5 strips'),  # uncompressed, and rows of a strip
        ('16-bit tiff', (257, 4000), '1 of 100 strips'),
        ('jpeg tiff', (256, 96), 'of 96 x 40 px has 48 x 40 px'),  # width
        ('jpeg tiff of strips', (256, 96), 'of 96 x 16 px has 48 x 16 px'),
        ('jpeg tiff', (278, 8), '1 of 5 strips'),
    ],
)
def test_a_tiff_without_all_of_its_strips_is_refused(kind, change, reason):
    """Pillow would leave the rest black."""
    with pytest.raises(decode.ImageError, match=reason):
        decode.decode(with_tag(FILES[kind], *change), kind, gray_range=(0, 65535))


def png_of_rows(rows: int, interlaced: bool = False) -> bytes:
    """A PNG of the picture whose data ends after some rows, with correct checksums."""
    lines = [b'\0' + line.tobytes() for line in np.asarray(picture())[:rows]]
    if interlaced:  # the rows of the passes, in an image of 8 x 8 px
        counts = [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8)]  # rows, pixels in a row
        lines = [b'\0' + b'\x80' * 3 * n for count, n in counts for _ in range(count)][:rows]
    size = (8, 8) if interlaced else (48, 40)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', checksum)

    header = struct.pack('>IIBBBBB', *size, 8, 2, 0, 0, int(interlaced))
    packed = zlib.compress(b''.join(lines))
    parts = chunk(b'IDAT', packed[:20]) + chunk(b'IDAT', packed[20:])
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + parts + chunk(b'IEND', b'')


@pytest.mark.parametrize(('interlaced', 'rows'), [(False, 40), (True, 15)])
def test_a_png_without_its_last_row_is_refused(interlaced, rows):
    """Pillow would leave it black, unless the image is interlaced."""
    assert decode.decode(png_of_rows(rows, interlaced), 'whole').shape[2] == 3
    with pytest.raises(
        decode.ImageError, match='is truncated' if interlaced else 'its data has .* bytes'
    ):
        decode.decode(png_of_rows(rows - 1, interlaced), 'cut')
