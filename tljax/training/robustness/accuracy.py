"""The accuracy of predictions with its 95 % interval."""

from typing import Any

import numpy as np

from tljax.metrics.totals import wilson_interval
from tljax.records.predictions import SplitPredictions


def correct(split: SplitPredictions) -> np.ndarray:
    """Whether each image is classified correctly: [N] bool; ties and NaN count as wrong."""
    right = split.task.right(split.logits, split.labels)
    assert right is not None  # `subject.read` refuses numbers
    return right


def interval(hits: np.ndarray) -> list[float]:
    """The ends of the 95 % interval (Wilson) of the share of correct predictions, [N] bool."""
    return list(wilson_interval(int(hits.sum()), len(hits)))


def summary(split: SplitPredictions) -> dict[str, Any]:
    """The number of images, the accuracy and its interval, as JSON; no accuracy without images."""
    hits = correct(split)
    return {
        'images': len(hits),
        'accuracy': float(hits.mean()) if len(hits) else None,
        'accuracy_interval': interval(hits),
    }
