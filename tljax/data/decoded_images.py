"""Decode once: canvases as uint8 in a store on the disk, shared by all runs of a user.

A folder holds the canvases of one way of making them. A canvas is found by what tells of its image
without reading it, else by the image's bytes.
"""

import dataclasses
import pathlib
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from tljax import environment
from tljax.data import array_store, decode
from tljax.types import Encoded, Examples, Preprocessing


def wrap(
    splits: Mapping[str, Examples], preprocessing: Preprocessing, gigabytes: float
) -> dict[str, Examples]:
    """Splits whose images are their canvases, of which each is decoded once.

    Images that are in memory anyway are left as they are.

    Args:
        splits: of a source.
        preprocessing: the canvas.
        gigabytes: what all canvases of the user may take on disk; 0 decodes each time.
    """
    limit_bytes = int(gigabytes * array_store.GIGABYTE)
    kept = Store(preprocessing, limit_bytes) if gigabytes else None
    return {name: _wrapped(split, preprocessing, kept) for name, split in splits.items()}


def _wrapped(examples: Examples, preprocessing: Preprocessing, kept: 'Store | None') -> Examples:
    encoded = examples.encoded
    if encoded is None:
        return _by_range(examples, preprocessing)
    if kept is None:
        return dataclasses.replace(
            examples, load=lambda i: decode.load_canvas(encoded[i], preprocessing)
        )
    return dataclasses.replace(examples, load=_Reader(encoded, kept))


def _by_range(examples: Examples, preprocessing: Preprocessing) -> Examples:
    """Images in memory, by the network's range of gray values, if they are deeper than 8 bits."""
    ends, findings = preprocessing.gray_range, examples.findings
    if ends is not None and findings is not None and findings.deep:
        findings.gray_range = lambda: (ends[0], ends[1])
    return examples


class _Reader:
    """Loads canvas i of a sequence of images by way of a store."""

    def __init__(self, encoded: Sequence[Encoded], kept: 'Store'):
        self._encoded, self._kept = encoded, kept

    def __call__(self, index: int) -> np.ndarray:
        return self._kept.load(self._encoded[index])


class Store:
    """The canvases of one way of making them."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        limit_bytes: int,
        root: pathlib.Path | None = None,
    ):
        self.root = root or environment.cache_dir() / 'canvases'
        self.decoded = 0  # images that this process had to decode
        self._lock = threading.Lock()
        self._preprocessing = preprocessing
        self._canvases = array_store.Store(
            self.root / settings(preprocessing),
            (preprocessing.resize_px, preprocessing.resize_px, 3),
            np.uint8,
            limit_bytes,
            'images are decoded anew',
        )

    def load(self, image: Encoded) -> np.ndarray:
        """The canvas of an image, [resize_px, resize_px, 3] uint8; decoded if it is not there.

        Raises:
            ImageError: the image cannot be read.
        """
        stamp = stamp_digest(image)
        canvas = self._canvases.find(stamp)
        if canvas is not None:
            return canvas
        data = decode.read_bytes(image)
        content = array_store.digest(data)
        canvas = self._canvases.find(content, stamp)
        if canvas is None:
            canvas = decode.canvas_of(data, image, self._preprocessing)
            with self._lock:
                self.decoded += 1
            self._canvases.add([(stamp, content)], canvas[None])
        return canvas


def stamp_digest(image: Encoded) -> bytes:
    """Of what tells of an image without reading it.

    Raises:
        ImageError: it is gone.
    """
    try:
        return array_store.digest(image.stamp().encode('utf-8', 'surrogateescape'))
    except OSError as error:
        raise decode.unreadable(image, error) from error


def settings(preprocessing: Preprocessing) -> str:
    """A name for all that a canvas depends on besides its image."""
    scaled = 'scaled' if preprocessing.scaled_decoding else 'exact'
    kind = preprocessing.interpolation.value
    ends = preprocessing.gray_range
    gray = '' if ends is None else f'-from{ends[0]!r}to{ends[1]!r}'
    return f'{preprocessing.resize_px}px-{kind}-{scaled}-v{decode.VERSION}{gray}'
