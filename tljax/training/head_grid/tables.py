"""The features and the batches of several jobs, as tables of rows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.data import pipeline
from tljax.models import layers
from tljax.models.layers import ClassifierHead
from tljax.models.stages import HEAD
from tljax.training import jobs as jobs_
from tljax.training import prefix_cache
from tljax.training.jobs import Job
from tljax.types import Balance, Examples, InputError

POOLED_ROWS = 256  # that are pooled at a time
UNREADABLE = -1  # the row of an image that could not be read


@dataclasses.dataclass(frozen=True)
class Table:
    """The features of all images of a split that any of C jobs uses.

    Attributes:
        features: [M, F] float32, the inputs of the linear layer.
        rows: of each job, [N] int32: the row of each example of its split, or `UNREADABLE`.
    """

    features: np.ndarray
    rows: tuple[np.ndarray, ...]


def make(jobs: Sequence[Job], split: str, *, plain: bool) -> Table:
    """Extracts the features of a split, or reads them from the disk.

    Args:
        jobs: with the same network below the head.
        split: the name of the split.
        plain: see `prefix_cache.extract`.

    Raises:
        InputError: two examples of a split have the same id, or an image cannot be read.
    """
    examples, places = _union([job.splits[split] for job in jobs])
    state = jobs_.first_state(jobs[0])
    extracted = prefix_cache.extract(jobs[0], state, examples, HEAD, plain=plain)
    rows = np.full(len(examples), UNREADABLE, np.int32)
    rows[extracted.places] = np.arange(len(extracted))
    head: Any = jobs[0].model.stages[HEAD]
    features = _pooled(extracted.values, head)
    return Table(features, tuple(rows[one] for one in places))


def _union(splits: Sequence[Examples]) -> tuple[Examples, list[np.ndarray]]:
    """The different examples of several splits of a data source, and the place of each of them."""
    place_of: dict[int, int] = {}
    sources: list[tuple[Examples, int]] = []
    for split in splits:
        ids = split.ids.tolist()
        if len(set(ids)) < len(ids):
            raise InputError('two examples of a split have the same id')
        for index, identity in enumerate(ids):
            if identity not in place_of:
                place_of[identity] = len(sources)
                sources.append((split, index))
    places = [np.array([place_of[one] for one in split.ids.tolist()], int) for split in splits]

    def load(index: int) -> np.ndarray:
        split, place = sources[index]
        return split.load(place)

    encoded = None
    if splits[0].encoded is not None:
        encoded = [split.encoded[place] for split, place in sources]  # type: ignore[index]
    union = dataclasses.replace(
        splits[0],
        load=load,
        labels=np.array([split.labels[place] for split, place in sources]),
        ids=np.array([split.ids[place] for split, place in sources], np.int64),
        encoded=encoded,
    )
    return union, places


def _pooled(values: Any, head: ClassifierHead) -> np.ndarray:
    """[M, 1, ...] outputs of the prefix to [M, F]; the head leaves such vectors as they are."""
    parts = []
    for start in range(0, len(values), POOLED_ROWS):
        rows = jnp.asarray(values[start : start + POOLED_ROWS])[:, 0].astype(jnp.float32)
        parts.append(np.asarray(layers.pool(rows, head.pooling)))
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class Steps:
    """L consecutive training steps of C jobs.

    Attributes:
        rows: [L, C, B] int32 of the table, or `UNREADABLE`.
        labels: [L, C, B] int32, or [L, C, B, K] uint8.
        rates: [L, C] float32, the learning rates of the experiments, without the scale of a rule.
        active: [L, C] bool; False after the last step of a job.
    """

    rows: np.ndarray
    labels: np.ndarray
    rates: np.ndarray
    active: np.ndarray


class Stream:
    """The batches of a job, in the order in which the job alone would see them."""

    def __init__(self, job: Job, rows: np.ndarray):
        train, experiment = job.splits['train'], job.experiment
        balanced = experiment.balance is Balance.SAMPLE
        self._example_at = pipeline.stream(train.labels, experiment.seed, balanced=balanced)
        self._labels = train.labels.astype(job.model.task.label_dtype)
        self._rows, self._batch_size = rows, experiment.batch_size

    def batches(self, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows [length, B] and the labels of some steps."""
        positions = range(start * self._batch_size, (start + length) * self._batch_size)
        order = np.array([self._example_at(position) for position in positions])
        shape = (length, self._batch_size)
        labels = self._labels[order]
        return self._rows[order].reshape(shape), labels.reshape(*shape, *labels.shape[1:])


def learning_rates(job: Job) -> np.ndarray:
    """The learning rate at every step, [T] float32."""
    (phase,) = job.phases
    return np.asarray(jax.vmap(phase.learning_rate)(jnp.arange(phase.length)), np.float32)
