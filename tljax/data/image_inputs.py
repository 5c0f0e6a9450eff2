"""Images as a caller has them, arrays, PIL images or paths, to the canvases a network reads."""

import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from tljax.data import decode, files
from tljax.types import InputError, Preprocessing

COLORS = 3  # channels of an image that is decoded here


def canvases(images: Any, preprocessing: Preprocessing) -> Iterator[np.ndarray]:
    """The canvas of each image, decoded as in training, one after another.

    Args:
        images: an array [h, w, C] uint8, a PIL image or the path of an image file; or a sequence
            of these, of any sizes, or an array [B, h, w, C] uint8.
        preprocessing: of the network: `resize_px`, the interpolation, and C as the number of its
            means. A network of one channel takes images in color too.

    Yields:
        [resize_px, resize_px, C] uint8.

    Raises:
        InputError: another type, shape or dtype, or a file that is no readable image.
    """
    return (_canvas(image, preprocessing) for image in _each(images))


def batch(images: list[np.ndarray]) -> np.ndarray:
    """Canvases [h, w, C] as [B, h, w, C]; gray ones get three channels beside ones in color."""
    if len({image.shape[-1] for image in images}) > 1:
        images = [np.broadcast_to(image, (*image.shape[:2], COLORS)) for image in images]
    return np.stack(images)


def _each(images: Any) -> Iterable[Any]:
    dimensions = getattr(images, 'ndim', None)
    if isinstance(images, str | os.PathLike | Image.Image) or dimensions == 3:
        return [images]
    if dimensions == 0 or isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise InputError(
            f'images are of type {type(images).__name__}, wanted arrays, PIL images or paths'
        )
    return images


def _canvas(image: Any, preprocessing: Preprocessing) -> np.ndarray:
    channels = len(preprocessing.mean)
    if isinstance(image, str | os.PathLike):
        path = pathlib.Path(os.fsdecode(image)).expanduser()
        return _in_color(decode.load_canvas(files.ImageFile(path), preprocessing), channels)
    if isinstance(image, Image.Image):
        pixels = _in_color(decode.from_pil(image, decode.range_of(preprocessing)), channels)
        return decode.to_canvas(pixels, preprocessing)
    pixels = _array(image, channels)
    if pixels.shape[-1] == COLORS:
        return decode.to_canvas(pixels, preprocessing)
    layers = [decode.to_canvas(pixels[..., c], preprocessing) for c in range(channels)]
    return np.stack(layers, -1)


def _in_color(pixels: np.ndarray, channels: int) -> np.ndarray:
    """What was decoded, if the network can take it."""
    if channels not in (1, COLORS):
        raise InputError(
            f'a path or a PIL image has {COLORS} channels, wanted an array [h, w, {channels}] uint8'
        )
    return pixels


def _array(image: Any, channels: int) -> np.ndarray:
    try:
        pixels = np.asarray(image)
    except (TypeError, ValueError) as error:
        raise InputError(f'an image of type {type(image).__name__}: {error}') from error
    fits = pixels.ndim == 3 and pixels.shape[-1] in {
        channels,
        COLORS if channels == 1 else channels,
    }
    if pixels.dtype != np.uint8 or not fits or not pixels.size:
        raise InputError(
            f'an image is {list(pixels.shape)} {pixels.dtype}, wanted [h, w, {channels}] uint8, a '
            'PIL image or a path'
        )
    return pixels
