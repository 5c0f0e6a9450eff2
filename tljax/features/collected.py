"""Collecting features from the disk cache and from the network, in memory if they fit."""

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

MEMORY_SHARE = 0.5  # the part of the free memory that features may use


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """The features of N examples with V views each.

    Attributes:
        values: [N, V, ...], on a device, in memory or, if they do not fit, on disk.
        labels: [N] int32.
        ids: [N] int64 of the examples; examples with an unreadable image are left out.
        places: [N] indices of these examples in the input.
        computed: the number of the N V rows that the network computed; the disk had the others.
    """

    values: jax.Array | np.ndarray | Rows
    labels: np.ndarray
    ids: np.ndarray
    places: np.ndarray
    computed: int

    def __len__(self) -> int:
        return len(self.labels)

    def matrix(self) -> tuple[Array, np.ndarray]:
        """All views as rows [N V, F], and their labels [N V]: the input of probes."""
        views, size = self.values.shape[1], math.prod(self.values.shape[2:])
        values = np.asarray(self.values) if isinstance(self.values, Rows) else self.values
        return values.reshape(-1, size), np.repeat(self.labels, views, axis=0)


class Collected:
    """The N V rows of one cut, filled one by one from the disk cache or the network."""

    def __init__(self, shape: tuple[int, ...], count: int, dtype: Any, limit_bytes: int):
        """Allocates memory for the rows if they fit.

        Args:
            shape: of one row.
            count: number of rows, N V.
            dtype: of the rows.
            limit_bytes: what the disk cache may take.

        Raises:
            InputError: the rows fit neither into memory nor into the disk cache.
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
        """Opens the store `name` of the disk cache, of at most `limit_bytes`."""
        root = environment.cache_dir() / 'features'
        otherwise = 'features are computed anew'
        self._store = array_store.Store(root / name, self.shape, self.dtype, limit_bytes, otherwise)

    def take(self, place: int, key: bytes, also: bytes | None = None) -> bool:
        """Fills row `place` from the disk cache; False if it has neither key."""
        row = self._store.find(key, also) if self._store else None
        if row is not None:
            self._rows[place] = row
        return row is not None

    def put(self, places: Sequence[int], keys: list[tuple[bytes, bytes]], rows: np.ndarray) -> None:
        """Fills rows with computed values and writes them to the disk cache."""
        self.computed += len(places)
        if self._store:
            self._store.add(keys, rows)
        for place, key, row in zip(places, keys, rows, strict=True):
            if self._fits or not self.take(place, key[1]):
                self._rows[place] = row

    def features(
        self, examples: Examples, keep: np.ndarray, views: int, put: Callable[[Any], Any]
    ) -> Features:
        """The features of the examples with indices `keep`; `put` moves them to their memory."""
        if self._fits:
            shape = (len(examples), views, *self.shape)
            values: Any = put(self._rows.reshape(shape)[keep])
        else:
            places = (keep[:, None] * views + np.arange(views)).reshape(-1)
            values = Rows([self._rows[place] for place in places], views)
        labels, ids = examples.labels[keep], examples.ids[keep]
        return Features(values=values, labels=labels, ids=ids, places=keep, computed=self.computed)


def room_bytes() -> float:
    """The memory that features may use."""
    return _memory_bytes() * MEMORY_SHARE


def _memory_bytes() -> int:
    """Free memory of the default device, or the machine's total memory if the device has none."""
    memory = jax.local_devices()[0].memory_stats()
    if memory and 'bytes_limit' in memory:
        return memory['bytes_limit'] - memory['bytes_in_use']
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
