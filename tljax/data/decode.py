"""From an encoded image to RGB, and from RGB to the canvas a network reads."""

import pathlib

import numpy as np
from PIL import Image, ImageOps

from tljax.types import InputError, Interpolation, Preprocessing

RESAMPLING = {
    Interpolation.BILINEAR: Image.Resampling.BILINEAR,
    Interpolation.BICUBIC: Image.Resampling.BICUBIC,
}
BACKGROUND = (255, 255, 255)  # what shows through where an image is transparent


class ImageError(InputError):
    """An image that cannot be read; the message names the file and the reason."""


def read_image(path: pathlib.Path) -> np.ndarray:
    """An image file as it is meant to be seen.

    Orientation (EXIF) is applied, transparency laid on white, 16-bit and floating-point gray
    scaled to 8 bits, and of several frames the first is taken.

    Returns:
        [h, w, 3] uint8, RGB.

    Raises:
        ImageError: the file is missing, damaged, empty or not an image.
    """
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                # Pillow itself only warns, below twice its limit.
                raise ImageError(f'{image.width} x {image.height} px are over {limit} pixels')
            return np.asarray(to_rgb(_upright(image)))
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = str(error).replace(repr(str(path)), 'the file') or type(error).__name__
        raise ImageError(f'{path}: not a readable image: {reason}') from error


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; as it is, where that block cannot be read."""
    image.load()  # a damaged image is not to be taken for a damaged block
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the parser of EXIF blocks raises nearly anything
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any of Pillow's modes as 8-bit RGB.

    Pillow's own `convert('RGB')` cuts 16-bit gray off at 255, blackens floating-point gray and
    drops alpha, each without a word.
    """
    if image.mode.startswith('I;16') or image.mode in ('I', 'F'):
        gray = np.asarray(image, np.float64)
        # Integers are 16 bits deep; floating-point gray is taken to lie in [0, 1], or in [0, 255].
        largest = gray[np.isfinite(gray)].max(initial=0.0)
        gray = np.nan_to_num(gray, posinf=largest, neginf=0.0)
        top = 65535.0 if image.mode != 'F' else 1.0 if largest <= 1.0 else 255.0
        scaled = np.clip(gray * (255.0 / top), 0, 255)
        return Image.fromarray(np.round(scaled).astype(np.uint8)).convert('RGB')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        canvas = Image.new('RGBA', image.size, (*BACKGROUND, 255))
        canvas.alpha_composite(image)
        return canvas.convert('RGB')
    return image.convert('RGB')


def to_canvas(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resizes the short side to `resize_px`, antialiased, and keeps the central square.

    The network's own `size_px` is cut out of it on the device. Sizes round as torchvision's
    `Resize` and `CenterCrop` do.

    Args:
        image: [h, w, 3] uint8.
        preprocessing: `resize_px` and the interpolation.

    Returns:
        [resize_px, resize_px, 3] uint8.
    """
    target = preprocessing.resize_px
    image = _without_ends(image)
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    scaled_long = int(target * long / short)
    size = (target, scaled_long) if width <= height else (scaled_long, target)
    if size != (width, height):
        resampling = RESAMPLING[preprocessing.interpolation]
        image = np.asarray(Image.fromarray(image).resize(size, resampling))
    top, left = (round((n - target) / 2) for n in image.shape[:2])
    return image[top : top + target, left : left + target]


def _without_ends(image: np.ndarray) -> np.ndarray:
    """A sliver's middle, of which only the centre is kept: 1 x 5000 px would grow to gigabytes."""
    height, width = image.shape[:2]
    longest = 16 * min(height, width)
    top, left = (max(0, (n - longest) // 2) for n in (height, width))
    return image[top : height - top, left : width - left]
