"""The batches that cells of a grid are trained on, as tables of rows."""

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
    """Of T steps and S streams of batches."""

    rows: np.ndarray  # [T, S, B] int32, of the N V views
    multipliers: np.ndarray  # [T, S] float32, of the learning rates
    active: np.ndarray  # [T, S] bool


def tables(
    labels: np.ndarray,
    choices: Sequence[tuple[int, float]],
    views: int,
    epochs: float,
    batch_size: int,
    schedule: Schedule,
) -> Tables:
    """The tables of the steps that train on a fraction of the examples, with a seed's choices.

    Args:
        labels: [N].
        choices: the seed and the fraction of each of the S streams.
        views: V, of every example.
        epochs: over the examples of the fraction; epoch e shows view e modulo V.
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
    """The rows of every batch [T, B] and the multiplier of the learning rate [T]."""
    kinds, counts = np.unique(labels, return_counts=True)
    limits = {
        int(kind): max(1, round(fraction * count))
        for kind, count in zip(kinds, counts.tolist(), strict=True)
    }
    chosen = subsets.first_of_each(labels, limits, seed)
    steps = schedules.steps(epochs, len(chosen), batch_size)
    whole = -(-steps * batch_size // len(chosen))
    order = [
        chosen[np.random.default_rng([seed, epoch]).permutation(len(chosen))] * views
        + epoch % views
        for epoch in range(whole)
    ]
    rows = np.concatenate(order)[: steps * batch_size].reshape(steps, batch_size)
    multiplier = schedule.multiplier(len(chosen) / batch_size, steps)
    return rows, np.asarray(jax.vmap(multiplier)(jnp.arange(steps)))
