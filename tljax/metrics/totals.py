"""Metrics as sums and counts, added on the device and divided once, at the end."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import scores
from tljax.types import Task

Sums = dict[str, jax.Array]
PENALTY = 'penalty_'  # prefix of the sum of a penalty's value times the images
SOURCE = ('source_loss', 'source_right', 'source_weight', 'source_count')  # sums over source rows
LISTS = ('class_', 'value_')  # prefixes of lists of a value for each class or number
NO_STEP = np.iinfo(np.int32).max  # larger than any step: the loss was always finite


def training_zeros(zeros: Sums, names: Sequence[str] = ()) -> Sums:
    """The sums of a training step before the first: a task's `zeros`, `first_bad_step`, `names`."""
    return {
        **zeros,
        'first_bad_step': jnp.full((), NO_STEP, jnp.int32),
        **{name: jnp.zeros((), jnp.float32) for name in names},
    }


def add(total: Sums, more: Sums) -> Sums:
    """The elementwise sum; `first_bad_step` is the earlier one.

    Raises:
        KeyError: one of them has a name that the other lacks.
    """
    if different := total.keys() ^ more.keys():
        raise KeyError(f'only one of two sums has {", ".join(sorted(different))}')
    return {
        name: jnp.minimum(value, more[name]) if name == 'first_bad_step' else value + more[name]
        for name, value in total.items()
    }


def summary(
    task: Task, sums: Sums, rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
) -> dict[str, Any]:
    """The metrics of a task from its sums, and from `rows` if it reads them.

    After training with penalties also each `penalty_...`, which `loss` excludes.
    """
    host: dict[str, Any] = jax.device_get(sums)
    count = int(host['count'])
    names = [name for name in host if name.startswith(PENALTY)]
    penalties = {name: _ratio(float(host[name]), count) for name in names} | _of_source(host)
    return task.summary(host, rows) | penalties


def _of_source(host: Mapping[str, Any]) -> dict[str, float]:
    """Means over the source rows; empty without source rows."""
    count = float(host.get('source_count', 0))
    names = {'source_loss': 'source_loss', 'source_accuracy': 'source_right'}
    names |= {'source_weight': 'source_weight'}
    return {name: float(host[of]) / count for name, of in names.items()} if count else {}


def scalars(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary without its lists of a value for each class or number."""
    return {name: value for name, value in summary.items() if not name.startswith(LISTS)}


def ranking(summary: Mapping[str, Any]) -> dict[str, float]:
    """The values that rank a checkpoint: `score`, of which a larger one is better, and `loss`."""
    score = scores.of(summary) or scores.ACCURACY
    return {'score': score.ranked(summary.get(score.name)), 'loss': summary['loss']}


def rank(summary: Mapping[str, Any]) -> tuple[float, float]:
    """(score, minus the loss): the best network has the largest."""
    values = ranking(summary)
    return values['score'], -values['loss']


def _ratio(part: float, total: int) -> float | None:
    return part / total if total else None


def wilson_interval(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a proportion.

    Source: Wilson 1927; stays inside [0, 1] and is right for small counts, where the normal
    approximation is not.
    """
    if count == 0:
        return 0.0, 1.0
    share = correct / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)
