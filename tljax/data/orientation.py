"""Which way up an image is to be seen, by its EXIF block."""

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112  # EXIF 2.32, table 6


def of(image: Image.Image) -> int:
    """As EXIF has it; 1, which is upright, where that block is missing or cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # the parser of EXIF blocks raises nearly anything
        return 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels as they are to be seen; Source: EXIF 2.32, table 6."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; as it is, where that block cannot be read."""
    image.load()  # a damaged image is not to be taken for a damaged block
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the parser of EXIF blocks raises nearly anything
        return image
