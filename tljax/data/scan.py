"""The range of gray values of a data set's training images, computed when first needed."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tljax.data import bit_depth, decode
from tljax.types import Encoded, Range

THREADS = 4
BLOCK = 16  # images in memory at a time


def gray_range(encoded: Sequence[Encoded], where: str) -> Callable[[], Range]:
    """A function that returns the range of images deeper than 8 bits, and computes it once.

    Args:
        encoded: the training images deeper than 8 bits.
        where: the source of the images, for messages.
    """
    lock = threading.Lock()

    @functools.cache
    def compute() -> Range:
        return bit_depth.find(_values(encoded), len(encoded), where)

    def cached() -> Range:
        with lock:  # other threads wait for the result and do not compute it again
            return compute()

    return cached


def _values(encoded: Sequence[Encoded]) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, len(encoded), BLOCK):
            yield from threads.map(_read, encoded[start : start + BLOCK])


def _read(image: Encoded) -> np.ndarray:
    """The values of an image; none for a damaged image, which is reported when it is decoded."""
    try:
        return bit_depth.values_of(decode.read_bytes(image))
    except Exception:  # damaged files raise errors of almost any type
        return np.zeros(0, np.uint8)
