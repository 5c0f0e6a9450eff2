"""Features as they are found: on the disk or out of the network, in memory where it has room."""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from tljax import environment
from tljax.data import array_store
from tljax.features.rows import Rows
from tljax.types import Array, Examples, InputError

MEMORY_SHARE = 0.5  # of a device's free memory, or of a machine's, that features may take


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """What a prefix made of examples.

    Attributes:
        values: [N, V, ...], on a device or in memory where it fits.
        labels: [N] int32.
        ids: [N] int64, of the examples; those whose image turned out bad are left out.
        places: [N] of these among the examples that were given.
        computed: how many of the N V came out of the network and not from the disk.
    """

    values: jax.Array | np.ndarray | Rows
    labels: np.ndarray
    ids: np.ndarray
    places: np.ndarray
    computed: int

    def __len__(self) -> int:
        return len(self.labels)

    def matrix(self) -> tuple[Array, np.ndarray]:
        """All views one below the other, [N V, F], and their labels [N V], as probes take them."""
        views, size = self.values.shape[1], math.prod(self.values.shape[2:])
        values = np.asarray(self.values) if isinstance(self.values, Rows) else self.values
        return values.reshape(-1, size), np.repeat(self.labels, views, axis=0)


class Collected:
    """The rows of one cut, N V of them, as they come in."""

    def __init__(self, shape: tuple[int, ...], count: int, dtype: Any, limit_bytes: int):
        """Takes memory, where it has room for them.

        Raises:
            InputError: neither it has, nor the disk within its limit.
        """
        self.shape, self.dtype, self.computed = shape, np.dtype(dtype), 0
        self._store: array_store.Store | None = None
        size = count * math.prod(shape) * self.dtype.itemsize
        room = room_bytes()
        self._fits = size <= room
        if not self._fits and size > limit_bytes:
            raise InputError(
                f'the features take {size / array_store.GIGABYTE:.3g} GB, wanted at most '
                f'{room / array_store.GIGABYTE:.3g} GB, or as much for cache_gigabytes'
            )
        self._rows: Any = np.zeros((count, *shape), dtype) if self._fits else [None] * count

    def open(self, name: str, limit_bytes: int) -> None:
        """Its store on the disk, which has room for so much."""
        root = environment.cache_dir() / 'features'
        otherwise = 'features are computed anew'
        self._store = array_store.Store(root / name, self.shape, self.dtype, limit_bytes, otherwise)

    def take(self, place: int, key: bytes, also: bytes | None = None) -> bool:
        """Puts a row that the disk has in its place."""
        row = self._store.find(key, also) if self._store else None
        if row is not None:
            self._rows[place] = row
        return row is not None

    def put(self, places: Sequence[int], keys: list[tuple[bytes, bytes]], rows: np.ndarray) -> None:
        """Keeps rows that were computed."""
        self.computed += len(places)
        if self._store:
            self._store.add(keys, rows)
        for place, key, row in zip(places, keys, rows, strict=True):
            if self._fits or not self.take(place, key[1]):
                self._rows[place] = row

    def features(
        self, examples: Examples, keep: np.ndarray, views: int, put: Callable[[Any], Any]
    ) -> Features:
        """What was found of the examples at `keep`, where `put` puts it."""
        if self._fits:
            shape = (len(examples), views, *self.shape)
            values: Any = put(self._rows.reshape(shape)[keep])
        else:
            places = (keep[:, None] * views + np.arange(views)).reshape(-1)
            values = Rows([self._rows[place] for place in places], views)
        labels, ids = examples.labels[keep], examples.ids[keep]
        return Features(values=values, labels=labels, ids=ids, places=keep, computed=self.computed)


def room_bytes() -> float:
    """What features may take of memory."""
    return _memory_bytes() * MEMORY_SHARE


def _memory_bytes() -> int:
    """Free on the default device, or all of the machine where devices have none of their own."""
    told = jax.local_devices()[0].memory_stats()
    if told and 'bytes_limit' in told:
        return told['bytes_limit'] - told['bytes_in_use']
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
