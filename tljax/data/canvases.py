"""Decode once: canvases as uint8 in memory-mapped files, shared by all runs of a user.

A store is a folder per way of making canvases, with pairs of files in it: `.pixels`, canvases end
to end, and `.records`, for each of them what it was made of and its checksum. A process appends to
files of its own and reads those of all, so that any number of writers may run; nothing in a file
is ever changed. A canvas whose checksum is wrong is made again.
"""

import dataclasses
import hashlib
import os
import pathlib
import secrets
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from tljax import runtime
from tljax.data import decode
from tljax.types import Encoded, Examples, Preprocessing

RECORD = struct.Struct('<16s16sI')  # digests of the stamp and of the content, checksum of pixels
SHARD_BYTES = 2**30  # of the pixels in one file, which is dropped at once; each is held open
REFRESH_SECONDS = 2.0  # between looks at what other processes have written
GIGABYTE = 10**9


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
    store = Store(preprocessing, int(gigabytes * GIGABYTE)) if gigabytes else None
    return {name: _wrapped(split, preprocessing, store) for name, split in splits.items()}


def _wrapped(examples: Examples, preprocessing: Preprocessing, store: 'Store | None') -> Examples:
    encoded = examples.encoded
    if encoded is None:
        return examples
    if store is None:
        return dataclasses.replace(
            examples, load=lambda i: decode.load_canvas(encoded[i], preprocessing)
        )
    return dataclasses.replace(examples, load=_Reader(encoded, store))


class _Reader:
    """Loads canvas i of a sequence of images by way of a store."""

    def __init__(self, encoded: Sequence[Encoded], store: 'Store'):
        self._encoded, self._store = encoded, store

    def __call__(self, index: int) -> np.ndarray:
        return self._store.load(self._encoded[index])


class _Shard:
    """A pair of files, as one process reads them."""

    def __init__(self, path: pathlib.Path, side: int):
        self.path, self.used = path, False
        self._side, self._offset = side, 0
        self._checked: set[int] = set()
        self._sums: list[int] = []
        self._pixels: np.ndarray | None = None

    def new_records(self) -> list[tuple[int, bytes, bytes]]:
        """Slot, stamp and content of what was added since the last call."""
        with self.path.with_suffix('.records').open('rb') as file:
            file.seek(self._offset)
            data = file.read()
        data = data[: len(data) // RECORD.size * RECORD.size]
        self._offset += len(data)
        found = []
        for stamp, content, checksum in RECORD.iter_unpack(data):
            found.append((len(self._sums), stamp, content))
            self._sums.append(checksum)
        return found

    def canvas(self, slot: int) -> np.ndarray | None:
        """[side, side, 3] uint8; None where it is damaged."""
        size = self._side**2 * 3
        if self._pixels is None:
            with self.path.open('rb') as file:
                slots = os.fstat(file.fileno()).st_size // size
                shape = (slots, self._side, self._side, 3)
                self._pixels = np.memmap(file, np.uint8, 'r', shape=shape) if slots else None
        if self._pixels is None or slot >= len(self._pixels):
            return None
        canvas = self._pixels[slot]
        if slot not in self._checked:
            if zlib.crc32(canvas.data) != self._sums[slot]:
                return None
            self._checked.add(slot)
        if not self.used:
            self.used = True
            os.utime(self.path)  # what is not used for longest is dropped first
        return canvas


class Store:
    """The canvases of one way of making them."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        limit_bytes: int,
        root: pathlib.Path | None = None,
    ):
        self.root = root or runtime.cache_dir() / 'canvases'
        self.folder = self.root / _settings(preprocessing)
        self.decoded = 0  # images that this process had to decode
        self._preprocessing, self._limit_bytes = preprocessing, limit_bytes
        self._slot_bytes = preprocessing.resize_px**2 * 3
        self._slots = max(1, min(SHARD_BYTES, limit_bytes // 4) // self._slot_bytes)
        self._lock = threading.Lock()
        self._shards: dict[str, _Shard] = {}
        self._places: dict[bytes, tuple[_Shard, int]] = {}  # by stamp and by content
        self._refreshed = float('-inf')
        self._writer: _Writer | None = None
        self._full = False

    def load(self, image: Encoded) -> np.ndarray:
        """The canvas of an image, [resize_px, resize_px, 3] uint8; decoded if it is not there.

        Raises:
            ImageError: the image cannot be read.
        """
        try:
            stamp = _digest(image.stamp().encode('utf-8', 'surrogateescape'))
        except OSError as error:
            raise decode.unreadable(image, error) from error
        canvas = self._find(stamp)
        if canvas is not None:
            return canvas
        data = decode.read_bytes(image)
        content = _digest(data)
        canvas = self._find(content, stamp)
        if canvas is None:
            canvas = decode.canvas_of(data, image, self._preprocessing)
            self._add(stamp, content, canvas)
        return canvas

    def _find(self, key: bytes, also: bytes | None = None) -> np.ndarray | None:
        """The canvas of that digest, found again under another one from now on."""
        place = self._places.get(key)
        if place is None:
            self._refresh()
            place = self._places.get(key)
        if place is None:
            return None
        try:
            canvas = place[0].canvas(place[1])
        except OSError:  # it was dropped
            canvas = None
        if canvas is None:
            self._places.pop(key, None)
        elif also is not None:
            self._places[also] = place
        return canvas

    def _refresh(self) -> None:
        """Takes in what other processes have written, the latest last."""
        if time.monotonic() - self._refreshed < REFRESH_SECONDS:
            return
        with self._lock:  # the other threads wait rather than decode what is about to be found
            if time.monotonic() - self._refreshed < REFRESH_SECONDS:
                return
            for path in sorted(self.folder.glob('*.pixels')):
                shard = self._shards.setdefault(path.name, _Shard(path, self._side))
                self._take_in(shard)
            self._refreshed = time.monotonic()

    def _take_in(self, shard: _Shard) -> None:
        try:
            for slot, stamp, content in shard.new_records():
                self._places[stamp] = self._places[content] = shard, slot
        except OSError:  # it was dropped
            return

    @property
    def _side(self) -> int:
        return self._preprocessing.resize_px

    def _add(self, stamp: bytes, content: bytes, canvas: np.ndarray) -> None:
        """Appends a canvas; where that is not possible, says so once and goes on without."""
        with self._lock:
            self.decoded += 1
            if self._full:
                return
            try:
                if self._writer is None or self._writer.written >= self._slots:
                    self._next_writer()
                if self._writer is not None:
                    self._writer.append(stamp, content, np.ascontiguousarray(canvas))
                    self._take_in(self._writer.shard)
            except OSError as error:
                self._full = True
                warnings.warn(f'{self.folder}: images are decoded anew: {error}', stacklevel=2)

    def _next_writer(self) -> None:
        self._writer = None
        if not self._make_room():
            self._full = True
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f'{time.time_ns():020d}-{secrets.token_hex(4)}.pixels'
        self._writer = _Writer(self.folder / name, self._side, self._slots)
        self._shards[name] = self._writer.shard
        self._writer.shard.used = True

    def _make_room(self) -> bool:
        """Drops what was not used for longest, of any settings, but nothing that this run uses."""
        own = {shard.path for shard in self._shards.values() if shard.used}
        found = []
        for path in self.root.glob('*/*.pixels'):
            try:
                found.append((path.stat().st_mtime_ns, path, path.stat().st_blocks * 512))
            except FileNotFoundError:
                continue
        total = sum(size for _, _, size in found) + self._slots * self._slot_bytes
        for _, path, size in sorted(found):
            if total > self._limit_bytes and path not in own:
                path.unlink(missing_ok=True)
                path.with_suffix('.records').unlink(missing_ok=True)
                total -= size
        return total <= self._limit_bytes


class _Writer:
    """The pair of files that a process appends to; open only while it does."""

    def __init__(self, path: pathlib.Path, side: int, slots: int):
        self.shard, self.written = _Shard(path, side), 0
        self._slot_bytes = side**2 * 3
        path.with_suffix('.records').touch(exist_ok=False)
        with path.open('xb') as file:
            # Sparse, so that it can be mapped at once; a write into the map itself would end the
            # process, not raise, where the disk is full.
            file.truncate(slots * self._slot_bytes)

    def append(self, stamp: bytes, content: bytes, canvas: np.ndarray) -> None:
        """Writes the pixels, and only then the record that tells of them."""
        path, checksum = self.shard.path, zlib.crc32(canvas.data)
        _write(path, self.written * self._slot_bytes, canvas.data.cast('B'))
        record = RECORD.pack(stamp, content, checksum)
        _write(path.with_suffix('.records'), self.written * RECORD.size, record)
        self.written += 1


def _write(path: pathlib.Path, place: int, data: bytes | memoryview) -> None:
    with path.open('r+b') as file:
        file.seek(place)
        file.write(data)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _settings(preprocessing: Preprocessing) -> str:
    """A name for all that a canvas depends on besides its image."""
    scaled = 'scaled' if preprocessing.scaled_decoding else 'exact'
    kind = preprocessing.interpolation.value
    return f'{preprocessing.resize_px}px-{kind}-{scaled}-v{decode.VERSION}'
