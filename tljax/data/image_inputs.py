"""Decoding of images from arrays, PIL images or paths, as `Network.predict` takes them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from tljax.data import decode, files
from tljax.storage import data_copies
from tljax.types import InputError, Preprocessing

COLORS = 3  # channels of an image that is decoded here


def decoded(images: Any, preprocessing: Preprocessing) -> Iterator[np.ndarray]:
    """Decodes and resizes images as in training, one after another.

    Args:
        images: an array [h, w, C] uint8, a PIL image or the path of an image file; or a sequence
            of these, of any sizes, or an array [B, h, w, C] uint8.
        preprocessing: that of the network. C is the number of its means. A network with one
            channel accepts color images too.

    Yields:
        [resize_px, resize_px, C] uint8.

    Raises:
        InputError: another type, shape or dtype, or a file that is not a readable image.
    """
    return (_decode(image, preprocessing) for image in _each(images))


def batch(images: list[np.ndarray]) -> np.ndarray:
    """Stacks images [h, w, C] to [B, h, w, C]; gray images get three channels if others have."""
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


def _decode(image: Any, preprocessing: Preprocessing) -> np.ndarray:
    channels = len(preprocessing.mean)
    if isinstance(image, str | os.PathLike):
        path = data_copies.local(os.fsdecode(image))
        return _in_color(decode.load_resized(files.ImageFile(path), preprocessing), channels)
    if isinstance(image, Image.Image):
        pixels = _in_color(decode.from_pil(image, decode.range_of(preprocessing)), channels)
        return decode.resize_square(pixels, preprocessing)
    pixels = _array(image, channels)
    if pixels.shape[-1] == COLORS:
        return decode.resize_square(pixels, preprocessing)
    layers = [decode.resize_square(pixels[..., c], preprocessing) for c in range(channels)]
    return np.stack(layers, -1)


def _in_color(pixels: np.ndarray, channels: int) -> np.ndarray:
    """The pixels unchanged, if the network takes three channels or one."""
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
