"""Metrics for images with several labels: sums over batches, and the scores computed from them.

A class is predicted where its logit is above 0 (a probability above 0.5). Means over classes leave
out a class without a value: the average precision of a class without images, and the F1 of a class
that has no images and is never predicted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Sums = dict[str, jax.Array]


def sums(logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array) -> Sums:
    """The sums over one batch.

    Args:
        logits: [B, K].
        labels: [B, K], 1 where an image has the class, else 0.
        losses: [B] float32.
        mask: [B] bool; rows of padding do not count.

    Returns:
        `loss` float32, `exact` (images with all labels right) and `count` int32, and per class
        `class_right` (predicted and present), `class_found` (predicted) and `class_there`
        (present), [K] int32.
    """
    predicted, present = logits > 0, labels > 0
    real = mask[:, None]
    return {
        'loss': jnp.where(mask, losses, 0.0).sum(),
        'exact': (mask & (predicted == present).all(-1)).sum(),
        'count': mask.sum(),
        'class_right': (real & predicted & present).sum(0),
        'class_found': (real & predicted).sum(0),
        'class_there': (real & present).sum(0),
    }


def zeros(num_classes: int) -> Sums:
    """Sums of zero, before the first batch."""
    integer, each = jnp.zeros((), jnp.int32), jnp.zeros(num_classes, jnp.int32)
    return {
        'loss': jnp.zeros((), jnp.float32),
        'exact': integer,
        'count': integer,
        **{f'class_{name}': each for name in ('right', 'found', 'there')},
    }


def summary(
    host: Mapping[str, Any], rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
) -> dict[str, Any]:
    """Scores from sums, and from the logits and labels of all images if given.

    Args:
        host: sums, as host arrays.
        rows: batches of logits [B, K] and labels [B, K], without padding.

    Returns:
        `loss`, `mean_average_precision` (of `rows`), `micro_f1`, `macro_f1`, `subset_accuracy`
        (the share of images with all labels right), `label_accuracy` (the share of right labels),
        `count`, and per class `class_f1` and `class_average_precision`. None: no value.
    """
    names = ('class_right', 'class_found', 'class_there')
    right, predicted, present = (np.asarray(host[name], int) for name in names)
    count, both = int(host['count']), predicted + present
    class_f1 = [_ratio(2 * a, b) for a, b in zip(right.tolist(), both.tolist(), strict=True)]
    result: dict[str, Any] = {
        'loss': _ratio(float(host['loss']), count),
        'micro_f1': _ratio(2 * int(right.sum()), int(both.sum())),
        'macro_f1': _mean(class_f1),
        'subset_accuracy': _ratio(int(host['exact']), count),
        'label_accuracy': _ratio(
            count * len(both) - int((both - 2 * right).sum()), count * len(both)
        ),
        'count': count,
        'class_f1': class_f1,
    }
    if rows:
        logits, labels = (np.concatenate(part) for part in zip(*rows, strict=True))
        precisions = [average_precision(*one) for one in zip(logits.T, labels.T, strict=True)]
        result['mean_average_precision'] = _mean(precisions)
        result['class_average_precision'] = precisions
    return result


def precision_recall(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """The precision and the recall of a class for each score that it could be predicted from.

    Images with equal scores share a rank. NaN scores come last.

    Source: scikit-learn's `precision_recall_curve`, without its end at recall 0.

    Args:
        scores: [N], in any unit; logits rather than probabilities, which tie near 0 and 1.
        labels: [N], 1 where an image has the class, else 0; at least one has it.

    Returns:
        The distinct scores [M] from the highest down, and the precision [M] and the recall [M] of
        predicting the class from that score on.
    """
    values, right, predicted = _ranked(scores, labels)
    return values, right / predicted, right / right[-1]


def _ranked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """For each distinct score from the highest: itself, images of the class so far, all so far."""
    scores = np.asarray(scores, float)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind='stable')
    falls = np.flatnonzero(scores[order][1:] != scores[order][:-1])
    ends = np.append(falls, len(order) - 1)  # the last image of each distinct score
    return scores[order][ends], np.cumsum(labels[order] > 0)[ends], ends + 1


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """The mean precision at the images of a class, ranked by score.

    Source: scikit-learn's `average_precision_score`, sum_n (R_n - R_(n-1)) P_n over the distinct
    scores: no interpolation, as in PASCAL VOC's.

    Args:
        scores: [N]; see `precision_recall`.
        labels: [N], 1 where an image has the class, else 0.

    Returns:
        None if no image has the class.
    """
    if not (labels > 0).any():
        return None
    _, right, predicted = _ranked(scores, labels)
    return float((np.diff(right, prepend=0) * right / predicted).sum() / right[-1])


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
