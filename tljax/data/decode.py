"""Decoding of images to RGB, and resizing to the square that is cached for a network."""

import functools
import io
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tljax.data import bit_depth, jpeg, orientation, png, tiff
from tljax.data.bit_depth import GrayRange
from tljax.types import Encoded, InputError, Interpolation, Preprocessing

VERSION = 2  # of the decoded pixels; a cache of another version is not read
RESAMPLING = {
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
}
BACKGROUND = (255, 255, 255)  # behind transparent pixels
COMPILED_FROM = 1000  # images: importing numba takes a second, and five the first time
_resized = itertools.count()


class ImageError(InputError):
    """An image that cannot be read; the message names the file and the reason."""


def read_image(path: pathlib.Path, gray_range: GrayRange = None) -> np.ndarray:
    """Reads and decodes an image file, as `decode` does.

    Args:
        path: the file.
        gray_range: see `decode`.

    Returns:
        [h, w, 3] uint8, RGB.

    Raises:
        ImageError: the file is missing, damaged, empty or not an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return decode(data, path, gray_range=gray_range)


def unreadable(name: object, error: Exception) -> ImageError:
    """An error that names a file and gives the reason in one line."""
    reason = str(error).replace(repr(str(name)), 'the file') or type(error).__name__
    return ImageError(f'{name}: not a readable image: {reason}')


def decode(
    data: bytes, name: object, least_px: int | None = None, gray_range: GrayRange = None
) -> np.ndarray:
    """Decodes an image to 8-bit RGB, upright and without transparency.

    The EXIF orientation is applied, transparent pixels are blended with white, and only the first
    frame is used. Images deeper than 8 bits are scaled by a range of values.

    Args:
        data: the encoded image, in any format that Pillow reads.
        name: the name of the file, for messages.
        least_px: permits decoding a JPEG at 1/2, 1/4 or 1/8 of its size, with both sides at least
            this long; None for the full size.
        gray_range: the values that become 0 and 255 in images deeper than 8 bits. With None, deep
            gray images are refused, and deep colors are read as 16 bits.

    Returns:
        [h, w, 3] uint8, RGB.

    Raises:
        ImageError: the data is damaged, empty or not an image, or is deep gray without a range.
        RangeError: no range fits the training images.
    """
    try:
        pixels = jpeg.decode(data, least_px) if jpeg.is_plain(data) else None
        if pixels is not None:
            return pixels
        with Image.open(io.BytesIO(data)) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                # Pillow itself only warns, below twice its limit.
                raise ImageError(f'{image.width} x {image.height} px are over {limit} pixels')
            if incomplete := tiff.problem(image, data):
                raise ImageError(incomplete)
            if image.format in jpeg.FORMATS and image.mode in ('RGB', 'L'):
                pixels = jpeg.decode(data, least_px)
                if pixels is not None:
                    return orientation.apply(pixels, orientation.of(image))
            return _by_pillow(data, image, gray_range)
    except bit_depth.RangeError:  # concerns the data set, not this image
        raise
    except Exception as error:  # damaged files raise errors of almost any type
        text = str(error)
        if 'cannot identify image file' in text:
            error = ImageError(_not_an_image(data))
        raise unreadable(name, error) from error


def _by_pillow(data: bytes, image: Image.Image, gray_range: GrayRange) -> np.ndarray:
    """Decodes an image that Pillow has opened; refuses a PNG that lacks rows."""
    file_format = image.format
    if bit_depth.is_deep(image):
        pixels = _deep(data, image, gray_range)
    else:
        pixels = np.asarray(to_rgb(orientation.upright(image)))
    if file_format == 'PNG' and (incomplete := png.problem(data, pixels)):
        raise ImageError(incomplete)
    return pixels


def _deep(data: bytes, image: Image.Image, gray_range: GrayRange) -> np.ndarray:
    """Decodes an image deeper than 8 bits and scales its values by a range."""
    pixels = bit_depth.sixteen_bits(data)
    if pixels is None:
        return np.asarray(to_rgb(orientation.upright(image), gray_range))
    alpha = pixels.shape[-1] in (2, 4) and image.mode in ('LA', 'RGBA')
    colors = pixels[..., :-1] if alpha else pixels[..., :3]
    rgb = bit_depth.scaled(colors, bit_depth.range_for(gray_range or bit_depth.FULL, colors))
    rgb = np.broadcast_to(rgb, (*rgb.shape[:2], 3))
    if alpha:
        rgb = np.dstack([rgb, pixels[..., -1] >> 8]).astype(np.uint8)
    opaque = np.asarray(to_rgb(Image.fromarray(np.ascontiguousarray(rgb))))
    return orientation.apply(opaque, orientation.of(image))


def _not_an_image(data: bytes) -> str:
    """The reason why bytes cannot be decoded, from how they begin."""
    start = data[:256].lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if not data:
        return 'it is empty, 0 bytes'
    if start.startswith((b'<!doctype html', b'<html', b'<head', b'<?xml', b'<svg')):
        return f'it is HTML or XML, beginning with {data[:32]!r}'
    return f'unknown format, beginning with {data[:16]!r}'


def format_of(data: bytes) -> str:
    """Pillow's name for the format of an encoded image."""
    with Image.open(io.BytesIO(data)) as image:
        return image.format or 'unknown'


def from_pil(image: Image.Image, gray_range: GrayRange = None) -> np.ndarray:
    """Converts a PIL image as `decode` does: [h, w, 3] uint8, RGB.

    Args:
        image: an image of any mode.
        gray_range: the range of gray deeper than 8 bits; see `decode`.

    Raises:
        ImageError: the file of the image is damaged.
    """
    try:
        return np.asarray(to_rgb(orientation.upright(image), gray_range))
    except ImageError:
        raise
    except Exception as error:  # damaged files raise errors of almost any type
        raise unreadable(getattr(image, 'filename', '') or 'a PIL image', error) from error


def to_rgb(image: Image.Image, gray_range: GrayRange = None) -> Image.Image:
    """Converts an image of any of Pillow's modes to 8-bit RGB, without changing its orientation.

    Pillow's own `convert('RGB')` clips 16-bit gray at 255, turns floating-point gray black and
    drops alpha, without an error.

    Args:
        image: an image of any mode.
        gray_range: the range of gray deeper than 8 bits; see `decode`.

    Raises:
        ValueError: the image is deep gray, and no range is given.
    """
    if bit_depth.is_gray(image):
        values = np.asarray(image)
        return Image.fromarray(
            bit_depth.scaled(values, bit_depth.range_for(gray_range, values))
        ).convert('RGB')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        opaque = Image.new('RGBA', image.size, (*BACKGROUND, 255))
        opaque.alpha_composite(image)
        return opaque.convert('RGB')
    return image.convert('RGB')


def load_resized(image: Encoded, preprocessing: Preprocessing) -> np.ndarray:
    """Reads, decodes and resizes an image: [resize_px, resize_px, 3] uint8.

    Raises:
        ImageError: the image cannot be read.
    """
    return decode_resized(read_bytes(image), image, preprocessing)


def range_of(preprocessing: Preprocessing) -> bit_depth.Range | None:
    """The gray values that become black and white for a network; None if it has no range."""
    ends = preprocessing.gray_range
    return None if ends is None else (ends[0], ends[1])


def decode_resized(data: bytes, name: object, preprocessing: Preprocessing) -> np.ndarray:
    """Decodes and resizes an image: [resize_px, resize_px, 3] uint8.

    With `scaled_decoding` a large JPEG is decoded at a reduced size, at least 2 `resize_px`.
    """
    gray_range = range_of(preprocessing)
    least_px = 2 * preprocessing.resize_px if preprocessing.scaled_decoding else None
    return resize_square(decode(data, name, least_px, gray_range), preprocessing)


def read_bytes(image: Encoded) -> bytes:
    """The bytes of an encoded image.

    Raises:
        ImageError: the image no longer exists, or reading is not permitted.
    """
    try:
        return image.read()
    except OSError as error:
        raise unreadable(image, error) from error


def loader(encoded: Sequence[Encoded], gray_range: GrayRange = None):
    """An `Examples.load` for encoded images: a function that reads and decodes image i."""
    return lambda i: decode(read_bytes(encoded[i]), encoded[i], gray_range=gray_range)


def resize_square(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resizes the short side to `resize_px`, antialiased, and crops the central square.

    The network's input of `size_px` is cropped from it on the device. Sizes are rounded as by
    torchvision's `Resize` and `CenterCrop`.

    Args:
        image: [h, w, 3] uint8, or one channel of an image, [h, w].
        preprocessing: gives `resize_px` and the interpolation.

    Returns:
        [resize_px, resize_px, 3] uint8, or [resize_px, resize_px].
    """
    target = preprocessing.resize_px
    image = _without_ends(image)
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    scaled_long = int(target * long / short)
    size = (target, scaled_long) if width <= height else (scaled_long, target)
    # Pillow 13 resizes the columns of taller images first, which gives other rounding.
    fits = image.ndim == 3 and size != (width, height) and height <= 2 * width
    resize = _compiled_resize() if fits else None
    if resize:
        cubic = preprocessing.interpolation is Interpolation.BICUBIC
        return resize.central_square(image, size, target, cubic)
    if size != (width, height):
        # Pillow's `box` would save a sixth of the time, but differs by up to 2 levels.
        resampling = RESAMPLING[preprocessing.interpolation]
        image = np.asarray(Image.fromarray(image).resize(size, resampling))
    top, left = (round((n - target) / 2) for n in image.shape[:2])
    return image[top : top + target, left : left + target]


def _compiled_resize():
    """The module of the compiled resizing; None without numba, and for the first images."""
    return _import_resize() if next(_resized) >= COMPILED_FROM else None


@functools.cache
def _import_resize():
    try:
        from tljax.data import resize
    except (ImportError, RuntimeError):  # no numba, or no folder for numba's cache
        return None
    return resize


def _without_ends(image: np.ndarray) -> np.ndarray:
    """The middle of a very long image; resized at full length, 1 x 5000 px would be gigabytes."""
    height, width = image.shape[:2]
    longest = 16 * min(height, width)
    top, left = (max(0, (n - longest) // 2) for n in (height, width))
    return image[top : height - top, left : width - left]
