"""Metrics as sums and counts, added on the device and divided once, at the end."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import multi_label

Sums = dict[str, jax.Array]
PENALTY = 'penalty_'  # prefix of the sum of a penalty's value times the images
SOURCE = ('source_loss', 'source_right', 'source_weight', 'source_count')  # sums over source rows
NO_STEP = np.iinfo(np.int32).max  # larger than any step: the loss was always finite


def of_batch(logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array) -> Sums:
    """The sums of one batch: `classification` for labels [B], `multi_label.sums` for [B, K]."""
    sums = classification if labels.ndim == 1 else multi_label.sums
    return sums(logits, labels, losses, mask)


def classification(
    logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
) -> Sums:
    """The sums over one batch.

    Args:
        logits: [B, K].
        labels: [B] int32.
        losses: [B] float32.
        mask: [B] bool; rows of padding do not count.

    Returns:
        `loss` float32, `correct`, `top5_correct`, `count` int32, and per class `class_correct`,
        `class_count` [K] int32.
    """
    num_classes = logits.shape[-1]
    true_logit = jnp.take_along_axis(logits, labels[:, None], -1)
    # Ties count as wrong, so that constant or NaN logits are never right.
    rank = jnp.where(jnp.isnan(true_logit[:, 0]), num_classes, (~(logits < true_logit)).sum(-1) - 1)
    correct = mask & (rank == 0)
    return {
        'loss': jnp.where(mask, losses, 0.0).sum(),
        'correct': correct.sum(),
        'top5_correct': (mask & (rank < min(5, num_classes))).sum(),
        'count': mask.sum(),
        'class_correct': jnp.zeros(num_classes, jnp.int32).at[labels].add(correct),
        'class_count': jnp.zeros(num_classes, jnp.int32).at[labels].add(mask),
    }


def zeros(num_classes: int, *, several_labels: bool = False) -> Sums:
    """The sums of `of_batch`, all zero."""
    if several_labels:
        return multi_label.zeros(num_classes)
    integer = jnp.zeros((), jnp.int32)
    return {
        'loss': jnp.zeros((), jnp.float32),
        'correct': integer,
        'top5_correct': integer,
        'count': integer,
        'class_correct': jnp.zeros(num_classes, jnp.int32),
        'class_count': jnp.zeros(num_classes, jnp.int32),
    }


def training_zeros(
    num_classes: int, names: Sequence[str] = (), *, several_labels: bool = False
) -> Sums:
    """The sums of a training step before the first: those of `zeros`, `first_bad_step`, `names`."""
    return {
        **zeros(num_classes, several_labels=several_labels),
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


def summary(sums: Sums, rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()) -> dict[str, Any]:
    """Means from sums: `loss`, `accuracy`, `top5_accuracy`, `count`, `class_accuracy` [K].

    With several labels per image, the result of `multi_label.summary`, which reads `rows` too.
    After training with penalties also each `penalty_...`, which `loss` excludes.
    """
    host: dict[str, Any] = jax.device_get(sums)
    count = int(host['count'])
    names = [name for name in host if name.startswith(PENALTY)]
    penalties = {name: _ratio(float(host[name]), count) for name in names}
    penalties |= _of_source(host)
    if 'exact' in host:
        return multi_label.summary(host, rows) | penalties
    pairs = zip(host['class_correct'], host['class_count'], strict=True)
    return {
        'loss': _ratio(float(host['loss']), count),
        'accuracy': _ratio(int(host['correct']), count),
        'top5_accuracy': _ratio(int(host['top5_correct']), count),
        'count': count,
        **penalties,
        'class_accuracy': [_ratio(int(right), int(n)) for right, n in pairs],
    }


def _of_source(host: Mapping[str, Any]) -> dict[str, float]:
    """Means over the source rows; empty without source rows."""
    count = float(host.get('source_count', 0))
    names = {'source_loss': 'source_loss', 'source_accuracy': 'source_right'}
    names |= {'source_weight': 'source_weight'}
    return {name: float(host[of]) / count for name, of in names.items()} if count else {}


def scalars(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary without its per-class values."""
    return {name: value for name, value in summary.items() if not name.startswith('class_')}


def ranking(summary: Mapping[str, Any]) -> dict[str, float]:
    """The values that rank a checkpoint: `score` (accuracy or mean average precision), `loss`."""
    score = summary.get('accuracy', summary.get('mean_average_precision'))
    return {'score': 0.0 if score is None else score, 'loss': summary['loss']}


def rank(summary: Mapping[str, Any]) -> tuple[float, float]:
    """(accuracy or mean average precision, minus the loss): the best network has the largest."""
    values = ranking(summary)
    return values['score'], -values['loss']


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


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
