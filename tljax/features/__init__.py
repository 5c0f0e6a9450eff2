"""Features: what a frozen prefix makes of images, computed once for all runs of a user.

They are kept on the disk, one store (see `store`) for every way of making them, and found again by
image: another subset, another run or another order of the same images computes nothing.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax import runtime, sharding, store
from tljax.data import canvases, decode, pipeline
from tljax.features.prefix import Prefix, TrainingViews
from tljax.features.rows import Rows
from tljax.features.suffix import suffix
from tljax.layers import Pooling
from tljax.model import HEAD, Model
from tljax.types import Array, Dtype, Examples, InputError, Params, Stats

__all__ = [
    'Features',
    'Pooling',
    'Prefix',
    'Rows',
    'TrainingViews',
    'extract',
    'extract_all',
    'fits',
    'suffix',
]

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


def extract(
    model: Model,
    params: Params,
    stats: Stats,
    examples: Examples,
    *,
    cut: str = HEAD,
    **options: Any,
) -> Features:
    """The features of all examples at one cut; see `extract_all`."""
    return extract_all(model, params, stats, examples, cuts=[cut], **options)[cut]


def extract_all(
    model: Model,
    params: Params,
    stats: Stats,
    examples: Examples,
    *,
    cuts: Sequence[str],
    pooling: Pooling | None = Pooling.AVERAGE,
    dtype: Any = jnp.float32,
    views: TrainingViews | None = None,
    compute: Dtype = Dtype.FLOAT32,
    folded: bool = False,
    on_device: bool = True,
    cache_gigabytes: float = 20.0,
    batch_size: int = 64,
    threads: int = 4,
) -> dict[str, Features]:
    """The features of all examples at several cuts, with one pass over the images.

    In a run of several processes each computes all of them, on its own devices.

    Args:
        model: the network.
        params: its parameters.
        stats: its running statistics.
        examples: N of them.
        cuts: names of stages, before which the prefix ends: `head` gives what the head reads.
        pooling: how maps and tokens become vectors; None keeps them.
        dtype: of the result: float32, float16 or bfloat16.
        views: what training would see of the images; None for one view, as in evaluation.
        compute: what the network computes in.
        folded: whether with BatchNorm folded into the layers before it.
        on_device: whether what fits is put there; else it stays in the machine's memory.
        cache_gigabytes: what all features of the user may take on the disk; 0 keeps none.
        batch_size: images that are on the devices at a time.
        threads: that read images ahead.

    Returns:
        By cut.

    Raises:
        InputError: there is no such cut, an augmentation mixes images, nothing has room for the
            features, or they are beyond the range of `dtype`.
        ImageError: an image cannot be read.
    """
    prefix = Prefix(model, tuple(cuts), pooling, jnp.dtype(dtype), views, compute, folded)
    limit_bytes = int(cache_gigabytes * store.GIGABYTE)
    steps = prefix.steps(len(examples))
    found = {
        cut: _Found(shape, steps.size, prefix.dtype, limit_bytes)
        for cut, shape in prefix.shapes(params, stats).items()
    }
    if limit_bytes:
        for cut, one in found.items():
            one.open(prefix.digest(cut, params, stats), limit_bytes)
    devices = jax.local_device_count()
    batch_size = -(-batch_size // devices) * devices
    extraction = _Extraction(prefix, params, stats, examples, steps, found, batch_size)
    bad = extraction.run(threads)
    keep = np.setdiff1d(np.arange(len(examples)), bad)
    put = jnp.asarray if on_device else np.asarray
    return {cut: one.features(examples, keep, steps.shape[1], put) for cut, one in found.items()}


def fits(model: Model, params: Params, stats: Stats, examples: int, cut: str) -> bool:
    """Whether the float32 features of so many examples, one view each, have room in memory."""
    prefix = Prefix(model, (cut,), None, jnp.dtype('float32'), None)
    size = examples * math.prod(prefix.shapes(params, stats)[cut]) * prefix.dtype.itemsize
    return size <= _memory_bytes() * MEMORY_SHARE


class _Found:
    """The rows of one cut, N V of them, as they come in."""

    def __init__(self, shape: tuple[int, ...], count: int, dtype: Any, limit_bytes: int):
        self.shape, self.dtype, self.computed = shape, np.dtype(dtype), 0
        self._store: store.Store | None = None
        size = count * math.prod(shape) * self.dtype.itemsize
        room = _memory_bytes() * MEMORY_SHARE
        self._fits = size <= room
        if not self._fits and size > limit_bytes:
            raise InputError(
                f'the features take {size / store.GIGABYTE:.3g} GB, wanted at most '
                f'{room / store.GIGABYTE:.3g} GB, or as much for cache_gigabytes'
            )
        self._rows: Any = np.zeros((count, *shape), dtype) if self._fits else [None] * count

    def open(self, name: str, limit_bytes: int) -> None:
        root = runtime.cache_dir() / 'features'
        otherwise = 'features are computed anew'
        self._store = store.Store(root / name, self.shape, self.dtype, limit_bytes, otherwise)

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


class _Extraction:
    """One pass over the examples of which some row is missing."""

    def __init__(
        self,
        prefix: Prefix,
        params: Params,
        stats: Stats,
        examples: Examples,
        steps: np.ndarray,
        found: dict[str, _Found],
        batch_size: int,
    ):
        self._prefix, self._examples, self._steps = prefix, examples, steps
        self._found, self._batch_size = found, batch_size
        self._marks = prefix.marks(examples.ids, steps)
        self._values: tuple[Any, ...] = (*prefix.used(params, stats), prefix.key)
        self._run: Any = None
        self._split: Any = None

    def run(self, threads: int) -> list[int]:
        """Fills in every row.

        Returns:
            The examples whose images turned out bad.
        """
        stamps = [self._stamp(i) for i in range(len(self._examples))]
        pending = [i for i, stamp in enumerate(stamps) if self._missing(i, stamp)]
        if not pending:
            return []
        size = max(1, self._batch_size // self._steps.shape[1])
        batches = pipeline.eval_batches(
            self._examples.take(np.asarray(pending, int)),
            self._prefix.model.preprocessing,
            batch_size=size,
            threads=threads,
        )
        bad = []
        for start, batch in zip(range(0, len(pending), size), batches, strict=True):
            missing = []
            members = pending[start : start + size]
            for row, (index, good) in enumerate(zip(members, batch['mask'], strict=False)):
                if good:
                    content = store.digest(np.ascontiguousarray(batch['image'][row]).data)
                    found = self._missing(index, content, stamps[index])
                    missing += [(row, place, cuts, keys) for place, cuts, keys in found]
                else:
                    bad.append(index)
            for first in range(0, len(missing), self._batch_size):
                self._compute(batch['image'], missing[first : first + self._batch_size])
        return bad

    def _stamp(self, index: int) -> bytes | None:
        encoded = self._examples.encoded
        if encoded is None:
            return None
        try:
            return canvases.stamp_digest(encoded[index])
        except decode.ImageError:
            return None  # whether that is an error is for who loads it to say

    def _missing(
        self, index: int, image: bytes | None, stamp: bytes | None = None
    ) -> list[tuple[int, list[str], tuple[bytes, bytes]]]:
        """The rows of an example that the disk lacks under a digest of its image.

        Returns:
            Of each, its place, the cuts that lack it, and its keys by stamp and by content.
        """
        missing, views = [], self._steps.shape[1]
        for place in range(index * views, (index + 1) * views):
            mark = self._marks[place]
            key = store.digest(image + mark) if image else None
            also = store.digest(stamp + mark) if stamp else None
            cuts = [
                cut
                for cut, one in self._found.items()
                if key is None or not one.take(place, key, also)
            ]
            if cuts:
                missing.append((place, cuts, (also or key or b'', key or b'')))
        return missing

    def _compute(self, images: Array, missing: Sequence[tuple[int, int, list[str], Any]]) -> None:
        """Runs the prefix on rows of a batch of images and keeps what was missing."""
        places = np.array([place for _, place, _, _ in missing])
        rows = np.array([row for row, _, _, _ in missing])
        fill = (0, self._batch_size - len(rows))
        ids = self._examples.ids[places // self._steps.shape[1]].astype(np.uint32)
        outputs = self._network(
            np.asarray(images)[np.pad(rows, fill)],
            np.pad(ids, fill),
            np.pad(self._steps.reshape(-1)[places], fill).astype(np.uint32),
        )
        for cut, one in self._found.items():
            lacking = [i for i, (_, _, cuts, _) in enumerate(missing) if cut in cuts]
            values = np.asarray(outputs[cut])[lacking]
            if not np.isfinite(values.astype(np.float32)).all():
                raise InputError(f'features before {cut!r} are not finite as {one.dtype}')
            one.put(places[lacking].tolist(), [missing[i][3] for i in lacking], values)

    def _network(self, *batch: np.ndarray) -> dict[str, jax.Array]:
        if self._run is None:
            mesh = sharding.local_mesh()
            whole, self._split = sharding.replicated(mesh), sharding.split(mesh)
            self._values = jax.device_put(self._values, whole)
            self._run = jax.jit(self._prefix.apply)
        return self._run(*self._values, *jax.device_put(batch, self._split))


def _memory_bytes() -> int:
    """Free on the default device, or all of the machine where devices have none of their own."""
    told = jax.local_devices()[0].memory_stats()
    if told and 'bytes_limit' in told:
        return told['bytes_limit'] - told['bytes_in_use']
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
