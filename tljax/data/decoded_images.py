"""A cache of decoded, resized images (uint8) on disk, shared by all runs of a user.

Each folder holds the images of one decoding setting. The key of an image is its file stamp (path,
size, times), which needs no reading, or else the digest of its bytes.
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
    """Returns the splits with loaders that decode each image once and cache the result.

    Images that are already in memory are not cached.

    Args:
        splits: the splits of a data source.
        preprocessing: size, interpolation and gray range of the decoded images.
        gigabytes: disk limit of all decoded images of the user; 0 turns the cache off.
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
            examples, load=lambda i: decode.load_resized(encoded[i], preprocessing)
        )
    return dataclasses.replace(examples, load=_Reader(encoded, kept))


def _by_range(examples: Examples, preprocessing: Preprocessing) -> Examples:
    """Sets the network's gray range on images in memory that are deeper than 8 bits."""
    ends, findings = preprocessing.gray_range, examples.findings
    if ends is not None and findings is not None and findings.deep:
        findings.gray_range = lambda: (ends[0], ends[1])
    return examples


class _Reader:
    """Loads decoded image i of a sequence through the cache."""

    def __init__(self, encoded: Sequence[Encoded], kept: 'Store'):
        self._encoded, self._kept = encoded, kept

    def __call__(self, index: int) -> np.ndarray:
        return self._kept.load(self._encoded[index])


class Store:
    """The cached decoded images of one decoding setting."""

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
        self._arrays = array_store.Store(
            self.root / settings(preprocessing),
            (preprocessing.resize_px, preprocessing.resize_px, 3),
            np.uint8,
            limit_bytes,
            'images are decoded anew',
        )

    def load(self, image: Encoded) -> np.ndarray:
        """The decoded image, [resize_px, resize_px, 3] uint8; decodes it if it is not cached.

        Raises:
            ImageError: the image cannot be read.
        """
        stamp = stamp_digest(image)
        decoded = self._arrays.find(stamp)
        if decoded is not None:
            return decoded
        data = decode.read_bytes(image)
        content = array_store.digest(data)
        decoded = self._arrays.find(content, stamp)
        if decoded is None:
            decoded = decode.decode_resized(data, image, self._preprocessing)
            with self._lock:
                self.decoded += 1
            self._arrays.add([(stamp, content)], decoded[None])
        return decoded


def stamp_digest(image: Encoded) -> bytes:
    """Digest of the file stamp (path, size, times), which needs no reading of the image.

    Raises:
        ImageError: the file is gone.
    """
    try:
        return array_store.digest(image.stamp().encode('utf-8', 'surrogateescape'))
    except OSError as error:
        raise decode.unreadable(image, error) from error


def settings(preprocessing: Preprocessing) -> str:
    """Folder name of a decoding setting: everything that changes a decoded image."""
    scaled = 'scaled' if preprocessing.scaled_decoding else 'exact'
    kind = preprocessing.interpolation.value
    ends = preprocessing.gray_range
    gray = '' if ends is None else f'-from{ends[0]!r}to{ends[1]!r}'
    return f'{preprocessing.resize_px}px-{kind}-{scaled}-v{decode.VERSION}{gray}'
