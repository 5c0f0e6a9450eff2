"""Images that are sent to the server: anything at all can be in their bytes."""

import io

import numpy as np
from PIL import Image

from tljax.data import decode
from tljax.types import InputError, Preprocessing

# Pillow reads more formats, some of them by other programs, such as EPS by Ghostscript.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF')
MOST_PIXELS = 50_000_000  # decoded, they take 150 MB
NAME = 'This file'  # in messages; the file's own name is not sent


class UploadError(InputError):
    """A file that is not predicted; the message is one line.

    Attributes:
        status: the HTTP status of the answer.
    """

    def __init__(self, message: str, status: int):
        super().__init__(' '.join(message.split()))
        self.status = status


def decoded(data: bytes, preprocessing: Preprocessing) -> np.ndarray:
    """Decodes and resizes an image as in training; see `decode.decode_resized`.

    Args:
        data: the content of the file.
        preprocessing: of the network.

    Returns:
        [resize_px, resize_px, 3] uint8.

    Raises:
        UploadError: the file is not an image in one of `FORMATS`, is damaged, or has more than
            `MOST_PIXELS`.
    """
    _check_size(data)
    try:
        return decode.decode_resized(data, NAME, preprocessing)
    except InputError as error:
        raise UploadError(str(error), 422) from error


def _check_size(data: bytes) -> None:
    """Refuses a file by its header, before any pixel is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large('too many') from error
    except Exception as error:  # damaged headers raise errors of almost any type
        raise UploadError(
            f'{NAME} is not an image in one of the formats {", ".join(FORMATS)}.', 415
        ) from error
    if width * height > MOST_PIXELS:
        raise _too_large(f'{width:,} x {height:,}')


def _too_large(pixels: str) -> UploadError:
    return UploadError(
        f'{NAME} has {pixels} pixels, wanted at most {MOST_PIXELS // 1_000_000} million.', 413
    )
