"""A pass over the images whose features are not in the disk cache."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tljax import devices
from tljax.data import array_store, decode, decoded_images, pipeline
from tljax.features.collected import Collected
from tljax.features.prefix import Prefix
from tljax.types import Array, Examples, InputError, Params, Stats


class ImagePass:
    """Fills the rows of all cuts: from the disk cache, or by a pass over the missing images.

    An image is identified by the path, size and times of its file (its stamp) and by a digest of
    its pixels. The stamp spares decoding; the pixels find an image whose file was copied.
    """

    def __init__(
        self,
        prefix: Prefix,
        params: Params,
        stats: Stats,
        examples: Examples,
        steps: np.ndarray,
        rows: dict[str, Collected],
        batch_size: int,
    ):
        self._prefix, self._examples, self._steps = prefix, examples, steps
        self._rows, self._batch_size = rows, batch_size
        self._marks = prefix.marks(examples.ids, steps)
        self._values: tuple[Any, ...] = (*prefix.used(params, stats), prefix.key)
        self._run: Any = None
        self._split: Any = None

    def run(self, threads: int) -> list[int]:
        """Fills every row of every readable example.

        Args:
            threads: number of threads that read images.

        Returns:
            Indices of the examples whose images cannot be read.
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
                    content = array_store.digest(np.ascontiguousarray(batch['input'][row]).data)
                    views = self._missing(index, content, stamps[index])
                    missing += [(row, place, cuts, keys) for place, cuts, keys in views]
                else:
                    bad.append(index)
            for first in range(0, len(missing), self._batch_size):
                self._compute(batch['input'], missing[first : first + self._batch_size])
        return bad

    def _stamp(self, index: int) -> bytes | None:
        encoded = self._examples.encoded
        if encoded is None:
            return None
        try:
            return decoded_images.stamp_digest(encoded[index])
        except decode.ImageError:
            return None  # loading the image decides whether this is an error

    def _missing(
        self, index: int, image: bytes | None, stamp: bytes | None = None
    ) -> list[tuple[int, list[str], tuple[bytes, bytes]]]:
        """The rows of an example that are not in the disk cache; the others are filled.

        Args:
            index: of the example.
            image: digest that identifies the image: its stamp's, or its pixels'.
            stamp: digest of the stamp, if `image` is that of the pixels.

        Returns:
            Of each missing row: its place, the cuts that need it, its keys by stamp and by pixels.
        """
        missing, views = [], self._steps.shape[1]
        for place in range(index * views, (index + 1) * views):
            mark = self._marks[place]
            key = array_store.digest(image + mark) if image else None
            also = array_store.digest(stamp + mark) if stamp else None
            cuts = [
                cut
                for cut, one in self._rows.items()
                if key is None or not one.take(place, key, also)
            ]
            if cuts:
                missing.append((place, cuts, (also or key or b'', key or b'')))
        return missing

    def _compute(self, images: Array, missing: Sequence[tuple[int, int, list[str], Any]]) -> None:
        """Runs the prefix on the images of a batch with missing rows, and fills these."""
        places = np.array([place for _, place, _, _ in missing])
        rows = np.array([row for row, _, _, _ in missing])
        fill = (0, self._batch_size - len(rows))
        ids = self._examples.ids[places // self._steps.shape[1]].astype(np.uint32)
        outputs = self._network(
            np.asarray(images)[np.pad(rows, fill)],
            np.pad(ids, fill),
            np.pad(self._steps.reshape(-1)[places], fill).astype(np.uint32),
        )
        for cut, one in self._rows.items():
            lacking = [i for i, (_, _, cuts, _) in enumerate(missing) if cut in cuts]
            values = np.asarray(outputs[cut])[lacking]
            if not np.isfinite(values.astype(np.float32)).all():
                raise InputError(f'features before {cut!r} are not finite as {one.dtype}')
            one.put(places[lacking].tolist(), [missing[i][3] for i in lacking], values)

    def _network(self, *batch: np.ndarray) -> dict[str, jax.Array]:
        if self._run is None:
            mesh = devices.local_mesh()
            self._values = jax.device_put(self._values, devices.replicated(mesh))
            self._split = devices.split(mesh)
            self._run = self._prefix.shared('run', lambda: jax.jit(self._prefix.apply))
        return self._run(*self._values, *jax.device_put(batch, self._split))
