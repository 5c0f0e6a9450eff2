"""A cache of arrays of one shape in memory-mapped files, shared by all runs of a user.

A store is a folder with pairs of files. A `.values` file holds arrays, one after the other. Its
`.records` file holds two keys (digests) and a checksum for each array. A process appends to its own
files and reads the files of all processes, so any number of processes can write at the same time.
Stored values are never changed. An array with a wrong checksum counts as missing, and the caller
computes it again. All stores in one parent folder share a size limit; the least recently used files
are deleted first.
"""

import hashlib
import math
import os
import pathlib
import secrets
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

RECORD = struct.Struct('<16s16sI')  # two digests and the checksum of the array
SHARD_BYTES = 2**30  # of a `.values` file; files are deleted one by one, and each is kept open
REFRESH_SECONDS = 2.0  # between readings of the records of other processes
GIGABYTE = 10**9


def digest(data: bytes | memoryview) -> bytes:
    """The 16-byte BLAKE2b digest of data."""
    return hashlib.blake2b(data, digest_size=16).digest()


class _Shard:
    """A pair of files that this process reads."""

    def __init__(self, path: pathlib.Path, slot_bytes: int):
        self.path, self.used = path, False
        self._slot_bytes, self._offset = slot_bytes, 0
        self._checked: set[int] = set()
        self._sums: list[int] = []
        self._values: np.ndarray | None = None

    def new_records(self) -> list[tuple[int, bytes, bytes]]:
        """The slot and the two digests of each record added since the last call."""
        with self.path.with_suffix('.records').open('rb') as file:
            file.seek(self._offset)
            data = file.read()
        data = data[: len(data) // RECORD.size * RECORD.size]
        self._offset += len(data)
        entries = []
        for first, second, checksum in RECORD.iter_unpack(data):
            entries.append((len(self._sums), first, second))
            self._sums.append(checksum)
        return entries

    def read(self, slot: int) -> np.ndarray | None:
        """The bytes of an array, [slot_bytes] uint8; None if they are damaged."""
        if self._values is None:
            with self.path.open('rb') as file:
                slots = os.fstat(file.fileno()).st_size // self._slot_bytes
                shape = (slots, self._slot_bytes)
                self._values = np.memmap(file, np.uint8, 'r', shape=shape) if slots else None
        if self._values is None or slot >= len(self._values):
            return None
        values = self._values[slot]
        if slot not in self._checked:
            if zlib.crc32(values.data) != self._sums[slot]:
                return None
            self._checked.add(slot)
        if not self.used:
            self.used = True
            os.utime(self.path)  # the least recently used file is deleted first
        return values


class Store:
    """Arrays of one shape and dtype, with digests of their inputs as keys.

    Args:
        folder: folder of this store; all stores in its parent folder share the limit.
        shape: shape of each array.
        dtype: dtype of each array.
        limit_bytes: disk limit of all stores together.
        consequence: what happens if arrays cannot be stored, for the warning.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        shape: tuple[int, ...],
        dtype: Any,
        limit_bytes: int,
        consequence: str,
    ):
        self.folder, self.root = folder, folder.parent
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._limit_bytes, self._consequence = limit_bytes, consequence
        self._slot_bytes = math.prod(shape) * self._dtype.itemsize
        self._slots = max(1, min(SHARD_BYTES, limit_bytes // 4) // self._slot_bytes)
        self._lock = threading.Lock()
        self._shards: dict[str, _Shard] = {}
        self._places: dict[bytes, tuple[_Shard, int]] = {}  # by either digest
        self._refreshed = float('-inf')
        self._writer: _Writer | None = None
        self._full = False

    def find(self, key: bytes, also: bytes | None = None) -> np.ndarray | None:
        """The array with digest `key`, as a view of a file; `also` becomes another key of it."""
        place = self._places.get(key)
        if place is None:
            self._refresh()
            place = self._places.get(key)
        if place is None:
            return None
        try:
            values = place[0].read(place[1])
        except OSError:  # another process deleted the file
            values = None
        if values is None:
            self._places.pop(key, None)
            return None
        if also is not None:
            self._places[also] = place
        return values.view(self._dtype).reshape(self._shape)

    def add(self, keys: Sequence[tuple[bytes, bytes]], arrays: np.ndarray) -> None:
        """Appends arrays [n, *shape], each with two digests as keys.

        After a failed write it warns once and stores nothing more.
        """
        data = np.ascontiguousarray(arrays, self._dtype).view(np.uint8)
        rows = data.reshape(len(keys), self._slot_bytes)
        with self._lock:
            while len(rows) and not self._full:
                try:
                    if self._writer is None or self._writer.written >= self._slots:
                        self._next_writer()
                    if self._writer is not None:
                        count = self._writer.append(keys, rows)
                        keys, rows = keys[count:], rows[count:]
                        self._read_records(self._writer.shard)
                except OSError as error:
                    self._full = True
                    warnings.warn(f'{self.folder}: {self._consequence}: {error}', stacklevel=2)

    def _refresh(self) -> None:
        """Reads the new records of all processes."""
        if time.monotonic() - self._refreshed < REFRESH_SECONDS:
            return
        with self._lock:  # other threads wait, so they do not recompute stored arrays
            if time.monotonic() - self._refreshed < REFRESH_SECONDS:
                return
            for path in sorted(self.folder.glob('*.values')):
                shard = self._shards.setdefault(path.name, _Shard(path, self._slot_bytes))
                self._read_records(shard)
            self._refreshed = time.monotonic()

    def _read_records(self, shard: _Shard) -> None:
        try:
            for slot, first, second in shard.new_records():
                self._places[first] = self._places[second] = shard, slot
        except OSError:  # another process deleted the file
            return

    def _next_writer(self) -> None:
        self._writer = None
        if not self._make_room():
            self._full = True
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f'{time.time_ns():020d}-{secrets.token_hex(4)}.values'
        self._writer = _Writer(self.folder / name, self._slot_bytes, self._slots)
        self._shards[name] = self._writer.shard
        self._writer.shard.used = True

    def _make_room(self) -> bool:
        """Deletes the least recently used files of all stores, except those that this run uses."""
        used = {shard.path for shard in self._shards.values() if shard.used}
        entries = []
        for path in self.root.glob('*/*.values'):
            try:
                entries.append((path.stat().st_mtime_ns, path, path.stat().st_blocks * 512))
            except FileNotFoundError:
                continue
        total = sum(size for _, _, size in entries) + self._slots * self._slot_bytes
        for _, path, size in sorted(entries):
            if total > self._limit_bytes and path not in used:
                path.unlink(missing_ok=True)
                path.with_suffix('.records').unlink(missing_ok=True)
                total -= size
        return total <= self._limit_bytes


class _Writer:
    """A pair of files that this process appends to; they are open only during a write."""

    def __init__(self, path: pathlib.Path, slot_bytes: int, slots: int):
        self.shard, self.written = _Shard(path, slot_bytes), 0
        self._slot_bytes, self._slots = slot_bytes, slots
        path.with_suffix('.records').touch(exist_ok=False)
        with path.open('xb') as file:
            # Sparse, so that the file can be mapped before it is full. Writing into the map itself
            # would end the process, instead of raising, if the disk is full.
            file.truncate(slots * slot_bytes)

    def append(self, keys: Sequence[tuple[bytes, bytes]], rows: np.ndarray) -> int:
        """Writes as many rows as fit, and then their records.

        Returns:
            The number of rows written.
        """
        rows = rows[: self._slots - self.written]
        sums = [zlib.crc32(row.data) for row in rows]
        records = b''.join(
            RECORD.pack(*pair, checksum) for pair, checksum in zip(keys, sums, strict=False)
        )
        path = self.shard.path
        _write(path, self.written * self._slot_bytes, rows.data.cast('B'))
        _write(path.with_suffix('.records'), self.written * RECORD.size, records)
        self.written += len(rows)
        return len(rows)


def _write(path: pathlib.Path, place: int, data: bytes | memoryview) -> None:
    with path.open('r+b') as file:
        file.seek(place)
        file.write(data)
