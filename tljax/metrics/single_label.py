"""Metrics for images with one label each: sums over batches, and the scores computed from them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Sums = dict[str, jax.Array]


def sums(logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array) -> Sums:
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


def zeros(num_classes: int) -> Sums:
    """Sums of zero, before the first batch."""
    integer = jnp.zeros((), jnp.int32)
    return {
        'loss': jnp.zeros((), jnp.float32),
        'correct': integer,
        'top5_correct': integer,
        'count': integer,
        'class_correct': jnp.zeros(num_classes, jnp.int32),
        'class_count': jnp.zeros(num_classes, jnp.int32),
    }


def summary(host: Mapping[str, Any]) -> dict[str, Any]:
    """Means from sums: `loss`, `accuracy`, `top5_accuracy`, `count`, `class_accuracy` [K]."""
    count = int(host['count'])
    pairs = zip(host['class_correct'], host['class_count'], strict=True)
    return {
        'loss': _ratio(float(host['loss']), count),
        'accuracy': _ratio(int(host['correct']), count),
        'top5_accuracy': _ratio(int(host['top5_correct']), count),
        'count': count,
        'class_accuracy': [_ratio(int(right), int(n)) for right, n in pairs],
    }


def predicted(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The predicted class of each image; ties and NaN count as wrong, as in the accuracy.

    Args:
        logits: [B, K].
        labels: [B] int.

    Returns:
        [B] int.
    """
    true_logit = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    others = np.array(logits, np.float32)
    np.put_along_axis(others, labels[:, None], -np.inf, 1)
    rival = others.argmax(1)
    rival = np.where(rival == labels, (labels + 1) % logits.shape[1], rival)  # all were -inf
    return np.where(true_logit > others.max(1), labels, rival)


def _ratio(part: float, total: int) -> float | None:
    return part / total if total else None
