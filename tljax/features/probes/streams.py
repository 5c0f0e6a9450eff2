"""The batches of a grid's cells, as tables of row indices."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tljax.data import subsets
from tljax.strategies import schedules
from tljax.types import Schedule


@dataclasses.dataclass(frozen=True)
class Tables:
    """The batches of T steps and S streams."""

    rows: np.ndarray  # [T, S, B] int32, indices into the N V views
    multipliers: np.ndarray  # [T, S] float32, factors of the learning rates
    active: np.ndarray  # [T, S] bool; False after the last step of a stream


def tables(
    labels: np.ndarray,
    choices: Sequence[tuple[int, float]],
    views: int,
    epochs: float,
    batch_size: int,
    schedule: Schedule,
) -> Tables:
    """The batches of all streams; each has its own seed and fraction of the examples.

    Args:
        labels: [N].
        choices: the seed and the fraction of each of the S streams.
        views: V, views of every example.
        epochs: passes over the examples of the fraction; epoch e shows view e modulo V.
        batch_size: B.
        schedule: of the learning rate, over the steps of each stream.
    """
    streams = [
        _stream(labels, seed, fraction, views, epochs, batch_size, schedule)
        for seed, fraction in choices
    ]
    length = max(len(rows) for rows, _ in streams)
    shape = (length, len(streams))
    result = Tables(
        np.zeros((*shape, batch_size), np.int32), np.zeros(shape, np.float32), np.zeros(shape, bool)
    )
    for place, (rows, multipliers) in enumerate(streams):
        result.rows[: len(rows), place] = rows
        result.multipliers[: len(rows), place] = multipliers
        result.active[: len(rows), place] = True
    return result


def _stream(
    labels: np.ndarray,
    seed: int,
    fraction: float,
    views: int,
    epochs: float,
    batch_size: int,
    schedule: Schedule,
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of every batch [T, B], and the factor of the learning rate at every step [T]."""
    classes, counts = np.unique(labels, return_counts=True)
    limits = {
        int(one): max(1, round(fraction * count))
        for one, count in zip(classes, counts.tolist(), strict=True)
    }
    chosen = subsets.first_of_each(labels, limits, seed)
    steps = schedules.steps(epochs, len(chosen), batch_size)
    started_epochs = -(-steps * batch_size // len(chosen))
    order = [
        chosen[np.random.default_rng([seed, epoch]).permutation(len(chosen))] * views
        + epoch % views
        for epoch in range(started_epochs)
    ]
    rows = np.concatenate(order)[: steps * batch_size].reshape(steps, batch_size)
    multiplier = schedule.multiplier(len(chosen) / batch_size, steps)
    return rows, np.asarray(jax.vmap(multiplier)(jnp.arange(steps)))
