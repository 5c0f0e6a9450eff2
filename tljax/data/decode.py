"""From an encoded image to RGB, and from RGB to the canvas a network reads."""

import functools
import io
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
import simplejpeg
from PIL import Image

from tljax.data import depth, orientation
from tljax.data.depth import GrayRange
from tljax.types import Encoded, InputError, Interpolation, Preprocessing

VERSION = 2  # of what this file makes of an image; canvases of another one are not used
RESAMPLING = {
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
}
BACKGROUND = (255, 255, 255)  # what shows through where an image is transparent
ORIENTED = (b'Exif\0\0', b'tiff:Orientation')  # in EXIF or in XMP, both of which Pillow reads
COMPILED_FROM = 1000  # images on: starting numba takes a second, the first time five
_resized = itertools.count()
JPEGS = ('JPEG', 'MPO')  # the latter: several in one file, of which the first is taken


class ImageError(InputError):
    """An image that cannot be read; the message names the file and the reason."""


def read_image(path: pathlib.Path, gray_range: GrayRange = None) -> np.ndarray:
    """An image file as it is meant to be seen.

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
    """The error that names a file and says in a line what is wrong with it."""
    reason = str(error).replace(repr(str(name)), 'the file') or type(error).__name__
    return ImageError(f'{name}: not a readable image: {reason}')


def decode(
    data: bytes, name: object, least_px: int | None = None, gray_range: GrayRange = None
) -> np.ndarray:
    """An encoded image as it is meant to be seen.

    Orientation (EXIF) is applied, transparency laid on white, and of several frames the first is
    taken. Images deeper than 8 bits are scaled by a range of values.

    Args:
        data: of any format that Pillow reads.
        name: of the file, for messages.
        least_px: a large JPEG may be decoded at 1/2, 1/4 or 1/8 with sides of no less; None for
            its own size.
        gray_range: values that become 0 and 255 in images deeper than 8 bits. None refuses gray
            ones, and takes colours for 16 bits.

    Returns:
        [h, w, 3] uint8, RGB.

    Raises:
        ImageError: it is damaged, empty or not an image, or is deep and no range is given.
        RangeError: no range fits the training images.
    """
    try:
        pixels = _jpeg(data, least_px) if _is_plain_jpeg(data) else None
        if pixels is not None:
            return pixels
        with Image.open(io.BytesIO(data)) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                # Pillow itself only warns, below twice its limit.
                raise ImageError(f'{image.width} x {image.height} px are over {limit} pixels')
            if image.format in JPEGS and image.mode in ('RGB', 'L'):
                pixels = _jpeg(data, least_px)
                if pixels is not None:
                    return orientation.turned(pixels, orientation.of(image))
            if depth.is_deep(image):
                return _deep(data, image, gray_range)
            return np.asarray(to_rgb(orientation.upright(image)))
    except depth.RangeError:  # of the set, not of this image
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        text = str(error)
        if 'cannot identify image file' in text:
            error = ImageError(_what_it_is(data))
        raise unreadable(name, error) from error


def _deep(data: bytes, image: Image.Image, gray_range: GrayRange) -> np.ndarray:
    """An image deeper than 8 bits, by a range."""
    words = depth.words(data)
    if words is None:
        return np.asarray(to_rgb(orientation.upright(image), gray_range))
    alpha = words.shape[-1] in (2, 4) and image.mode in ('LA', 'RGBA')
    colours = words[..., :-1] if alpha else words[..., :3]
    rgb = depth.scaled(colours, depth.resolved(gray_range or depth.FULL, colours))
    rgb = np.broadcast_to(rgb, (*rgb.shape[:2], 3))
    if alpha:
        rgb = np.dstack([rgb, words[..., -1] >> 8]).astype(np.uint8)
    laid = np.asarray(to_rgb(Image.fromarray(np.ascontiguousarray(rgb))))
    return orientation.turned(laid, orientation.of(image))


def _what_it_is(data: bytes) -> str:
    """Why nothing can be made of these bytes."""
    start = data[:256].lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if not data:
        return 'it is empty, 0 bytes'
    if start.startswith((b'<!doctype html', b'<html', b'<head', b'<?xml', b'<svg')):
        return f'it is HTML or XML, beginning with {data[:32]!r}'
    return f'of no format that is known, beginning with {data[:16]!r}'


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether an image is a JPEG of usual colours and size that says nothing of orientation.

    Pillow's look at an image takes 3 % of the time of decoding it.
    """
    if not data.startswith(b'\xff\xd8'):
        return False
    head = _before_pixels(data)
    if any(word in head for word in ORIENTED):
        return False
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    pixels = int(height) * int(width)
    return colours in ('YCbCr', 'Gray') and pixels <= (Image.MAX_IMAGE_PIXELS or pixels)


def _before_pixels(data: bytes) -> bytes:
    """What Pillow looks at of a JPEG: the segments before the first scan; all if they are broken.

    A search through the scans takes 5 % of the time of decoding them.
    """
    place, segment = 2, data[2:4]
    while segment[:1] == b'\xff' and segment[1:] not in (b'\xda', b'\xff'):
        place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
        segment = data[place : place + 2]
    return data[:place] if segment == b'\xff\xda' else data


def _jpeg(data: bytes, least_px: int | None) -> np.ndarray | None:
    """The pixels as stored; None where the data are not sound, of which Pillow is the judge."""
    try:
        if least_px is None:
            return simplejpeg.decode_jpeg(data)
        return simplejpeg.decode_jpeg(data, min_height=least_px, min_width=least_px, min_factor=2.0)
    except ValueError:
        return None


def jpeg_damage(data: bytes) -> str | None:
    """What is wrong inside a JPEG that Pillow decodes without a word; None for nothing."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format not in JPEGS:
            return None
        colours = 'CMYK' if image.mode == 'CMYK' else 'RGB'
    try:
        simplejpeg.decode_jpeg(data, colours)
    except ValueError as error:
        return f'damaged inside: {error}'
    return None


def format_of(data: bytes) -> str:
    """Pillow's name for the format of an encoded image."""
    with Image.open(io.BytesIO(data)) as image:
        return image.format or 'unknown'


def from_pil(image: Image.Image, gray_range: GrayRange = None) -> np.ndarray:
    """An image that is open in Pillow, decoded as `decode` does: [h, w, 3] uint8, RGB.

    Args:
        image: of any mode.
        gray_range: of gray deeper than 8 bits; see `to_rgb`.

    Raises:
        ImageError: its file is damaged.
    """
    try:
        return np.asarray(to_rgb(orientation.upright(image), gray_range))
    except ImageError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise unreadable(getattr(image, 'filename', '') or 'a PIL image', error) from error


def to_rgb(image: Image.Image, gray_range: GrayRange = None) -> Image.Image:
    """An image of any of Pillow's modes as 8-bit RGB.

    Pillow's own `convert('RGB')` cuts 16-bit gray off at 255, blackens floating-point gray and
    drops alpha, each without a word.

    Args:
        image: whose orientation is left alone.
        gray_range: of gray deeper than 8 bits, see `decode`.

    Raises:
        ImageError: it is of such gray, and no range is given.
    """
    if depth.is_gray(image):
        values = np.asarray(image)
        return Image.fromarray(depth.scaled(values, depth.resolved(gray_range, values))).convert(
            'RGB'
        )
    if image.has_transparency_data:
        image = image.convert('RGBA')
        canvas = Image.new('RGBA', image.size, (*BACKGROUND, 255))
        canvas.alpha_composite(image)
        return canvas.convert('RGB')
    return image.convert('RGB')


def load_canvas(image: Encoded, preprocessing: Preprocessing) -> np.ndarray:
    """Reads and decodes an image straight to its canvas, [resize_px, resize_px, 3] uint8.

    Raises:
        ImageError: it cannot be read.
    """
    return canvas_of(read_bytes(image), image, preprocessing)


def range_of(preprocessing: Preprocessing) -> depth.Range | None:
    """The gray values that a network takes for black and white, where it has them."""
    ends = preprocessing.gray_range
    return None if ends is None else (ends[0], ends[1])


def canvas_of(data: bytes, name: object, preprocessing: Preprocessing) -> np.ndarray:
    """The canvas of an encoded image; with `scaled_decoding`, from twice its size at least."""
    gray_range = range_of(preprocessing)
    least_px = 2 * preprocessing.resize_px if preprocessing.scaled_decoding else None
    return to_canvas(decode(data, name, least_px, gray_range), preprocessing)


def read_bytes(image: Encoded) -> bytes:
    """The encoded image.

    Raises:
        ImageError: it has vanished, or may not be read.
    """
    try:
        return image.read()
    except OSError as error:
        raise unreadable(image, error) from error


def loader(encoded: Sequence[Encoded], gray_range: GrayRange = None):
    """What `Examples.load` is for images that are stored: reads and decodes image i."""
    return lambda i: decode(read_bytes(encoded[i]), encoded[i], gray_range=gray_range)


def to_canvas(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resizes the short side to `resize_px`, antialiased, and keeps the central square.

    The network's own `size_px` is cut out of it on the device. Sizes round as torchvision's
    `Resize` and `CenterCrop` do.

    Args:
        image: [h, w, 3] uint8, or one channel of an image, [h, w].
        preprocessing: `resize_px` and the interpolation.

    Returns:
        [resize_px, resize_px, 3] uint8, or [resize_px, resize_px].
    """
    target = preprocessing.resize_px
    image = _without_ends(image)
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    scaled_long = int(target * long / short)
    size = (target, scaled_long) if width <= height else (scaled_long, target)
    # Of taller images, Pillow 13 takes the columns first, which rounds otherwise.
    fits = image.ndim == 3 and size != (width, height) and height <= 2 * width
    resize = _compiled_resize() if fits else None
    if resize:
        cubic = preprocessing.interpolation is Interpolation.BICUBIC
        return resize.central_square(image, size, target, cubic)
    if size != (width, height):
        # Pillow's `box` would spare what is cut off, a sixth of the time, and be off by 2 levels.
        resampling = RESAMPLING[preprocessing.interpolation]
        image = np.asarray(Image.fromarray(image).resize(size, resampling))
    top, left = (round((n - target) / 2) for n in image.shape[:2])
    return image[top : top + target, left : left + target]


def _compiled_resize():
    """The module that does what Pillow does faster; None where it is not there, or not worth it."""
    return _import_resize() if next(_resized) >= COMPILED_FROM else None


@functools.cache
def _import_resize():
    try:
        from tljax.data import resize
    except (ImportError, RuntimeError):  # no numba; no folder that its cache may be in
        return None
    return resize


def _without_ends(image: np.ndarray) -> np.ndarray:
    """A sliver's middle, of which only the centre is kept: 1 x 5000 px would grow to gigabytes."""
    height, width = image.shape[:2]
    longest = 16 * min(height, width)
    top, left = (max(0, (n - longest) // 2) for n in (height, width))
    return image[top : height - top, left : width - left]
