"""The range of gray values of a data set's training images, found when it is first needed."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tljax.data import decode, depth
from tljax.types import Encoded, Range

THREADS = 4
AHEAD = 16  # images in memory at a time


def of(encoded: Sequence[Encoded], where: str) -> Callable[[], Range]:
    """A function that finds the range of images deeper than 8 bits, once.

    Args:
        encoded: those images of the training split.
        where: they are from, for messages.
    """
    lock = threading.Lock()

    @functools.cache
    def find() -> Range:
        return depth.find(_values(encoded), len(encoded), where)

    def found() -> Range:
        with lock:
            return find()

    return found


def _values(encoded: Sequence[Encoded]) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, len(encoded), AHEAD):
            yield from threads.map(_read, encoded[start : start + AHEAD])


def _read(image: Encoded) -> np.ndarray:
    """The values of an image; none of a damaged one, which is reported when it is decoded."""
    try:
        return depth.values_of(decode.read_bytes(image))
    except Exception:  # decoders of damaged files raise nearly anything
        return np.zeros(0, np.uint8)
