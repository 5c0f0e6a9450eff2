"""The orientation of an image, from its EXIF block."""

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112  # EXIF 2.32, table 6


def of(image: Image.Image) -> int:
    """The EXIF orientation; 1, which is upright, if the block is missing or cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF blocks raise errors of almost any type
        return 1


def apply(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotates and mirrors stored pixels to be upright. Source: EXIF 2.32, table 6."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def upright(image: Image.Image) -> Image.Image:
    """The upright image by its EXIF orientation; unchanged if the block cannot be read."""
    image.load()  # raises for a damaged image, outside of the `try`
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF blocks raise errors of almost any type
        return image
