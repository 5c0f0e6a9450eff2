"""The network of a run, before and after training, on images of its data."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from tljax.data import pipeline
from tljax.features import saliency
from tljax.models import stages
from tljax.models.stages import HEAD, Model
from tljax.types import Examples, Params, Stats

BATCH = 32


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The outputs of the stages for N images.

    Attributes:
        pooled: the pooled output [N, F] of each stage before the head.
        maps: [N, h, w, C], the output of the stage that Grad-CAM uses; None if there is none.
    """

    pooled: dict[str, np.ndarray]
    maps: np.ndarray | None


class NetworkPass:
    """The programs of one network, compiled once for parameters before and after training."""

    def __init__(self, model: Model):
        self.model = model
        self.stage = saliency.map_stage(model)
        self.seconds_per_image: float | None = (
            None  # without compilation; None before the first pass
        )

    def outputs(
        self, params: Params, stats: Stats, images: np.ndarray, *, maps: bool = False
    ) -> Outputs:
        """The outputs of every stage for decoded images [N, side, side, 3] uint8.

        Args:
            params: the parameters, without adapters.
            stats: running statistics.
            images: decoded images.
            maps: whether to return the maps.
        """
        batches = []
        for part, rows in _batches(images):
            pooled, map_ = jax.device_get(self._run(params, stats, part))
            if self.seconds_per_image is None:
                begun = time.perf_counter()  # the first call compiled
                jax.block_until_ready(self._run(params, stats, part))
                self.seconds_per_image = (time.perf_counter() - begun) / BATCH
            batches.append(
                ({n: x[:rows] for n, x in pooled.items()}, map_[:rows] if maps else None)
            )
        names = [name for name in self.model.names if name != HEAD]
        return Outputs(
            pooled={
                name: np.concatenate([pooled[name] for pooled, _ in batches]) for name in names
            },
            maps=np.concatenate([m for _, m in batches]) if maps and self.stage else None,
        )

    def grad_cam(
        self, params: Params, stats: Stats, maps: np.ndarray, classes: np.ndarray
    ) -> np.ndarray:
        """Grad-CAM [N, h, w] of maps [N, h, w, C], for one class per image [N]."""
        padded = -len(maps) % BATCH
        rows = np.pad(maps, [(0, padded)] + [(0, 0)] * (maps.ndim - 1))
        chosen = np.pad(classes, (0, padded))
        starts = range(0, len(rows), BATCH)
        parts = [
            self._cam(params, stats, rows[i : i + BATCH], chosen[i : i + BATCH]) for i in starts
        ]
        return np.concatenate(jax.device_get(parts))[: len(maps)]

    def attention_rollout(self, params: Params, stats: Stats, images: np.ndarray) -> np.ndarray:
        """Attention rollout [N, h, w] of decoded images."""
        parts = [
            np.asarray(self._rollout(params, stats, part))[:rows] for part, rows in _batches(images)
        ]
        return np.concatenate(parts)

    def token_importance(
        self, params: Params, stats: Stats, tokens: np.ndarray, classes: np.ndarray
    ) -> np.ndarray:
        """See `saliency.token_importance`; [N, T] for rows of tokens [N, T] and classes [N]."""

        @jax.jit
        def compute(params: Params, stats: Stats, tokens: jax.Array, classes: jax.Array):
            return saliency.token_importance(self.model, params, stats, tokens, classes)

        return np.asarray(compute(params, stats, tokens, classes))

    @functools.cached_property
    def _run(self):
        names = [name for name in self.model.names if name != HEAD]

        @jax.jit
        def run(params: Params, stats: Stats, images: jax.Array):
            x = stages.normalise(self.model.preprocessing, images)
            pooled, maps = {}, None
            for name, following in zip(names, [*names[1:], HEAD], strict=True):
                x, _ = stages.run(self.model, params, stats, x, start=name, stop=following)
                pooled[name] = stages.pooled(self.model, x)
                maps = x if name == self.stage else maps
            return pooled, maps if maps is not None else x

        return run

    @functools.cached_property
    def _cam(self):
        @jax.jit
        def cam(params: Params, stats: Stats, maps: jax.Array, classes: jax.Array) -> jax.Array:
            return saliency.grad_cam(self.model, params, stats, maps, classes, self.stage or '')

        return cam

    @functools.cached_property
    def _rollout(self):
        @jax.jit
        def rollout(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
            x = stages.normalise(self.model.preprocessing, images)
            return saliency.attention_rollout(self.model, params, stats, x)

        return rollout


def _batches(images: np.ndarray):
    """Yields batches of `BATCH` images and their numbers of images; the last batch is padded."""
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        unpadded = [(0, 0)] * (images.ndim - 1)
        yield np.pad(part, [(0, BATCH - len(part)), *unpadded]), len(part)


def decoded(examples: Examples, model: Model, places: Sequence[int] | np.ndarray) -> np.ndarray:
    """The decoded images at these indices of a split, [N, side, side, 3] uint8.

    An image that cannot be read is black.
    """
    chosen = examples.take(np.asarray(places, int))
    return np.stack(list(stream(chosen, model)))


def stream(examples: Examples, model: Model) -> Iterator[np.ndarray]:
    """Yields the decoded images of a split in order."""
    batches = pipeline.eval_batches(examples, model.preprocessing, batch_size=BATCH)
    images = itertools.chain.from_iterable(np.asarray(batch['input']) for batch in batches)
    yield from itertools.islice(images, len(examples))
