"""Labels that are likely wrong, by confident learning."""

from typing import NamedTuple

import numpy as np

from tljax.metrics.calibration import confidences
from tljax.types import Array, InputError

TOLERANCE = 1e-6  # as cleanlab's


class LabelErrors(NamedTuple):
    """Likely label errors, the most likely first: [M] each.

    Attributes:
        places: the indices of the images.
        labels: their labels.
        suggested: the class that each image likely belongs to.
        confidence: the predicted probability of the label.
    """

    places: np.ndarray
    labels: np.ndarray
    suggested: np.ndarray
    confidence: np.ndarray


def confident_joint(predicted: Array, labels: Array) -> np.ndarray:
    """Counts images by label (rows) and by the class they confidently belong to: [K, K].

    The threshold of a class is the mean probability of the class over the images with this label.
    An image belongs to the class whose threshold its probability reaches. If it reaches several, it
    belongs to the most probable class; if it reaches none, it is not counted. The diagonal is at
    least 1.

    Source: Northcutt et al. 2021, "Confident Learning", section 3.1. cleanlab's
    `compute_confident_joint(labels, predicted, calibrate=False)` agrees.

    Args:
        predicted: probabilities [N, K] from networks that were not trained on the image.
        labels: [N] int.

    Raises:
        InputError: several labels per image, or other shapes.
    """
    p, labels, classes = _confident(predicted, labels)
    counts = np.zeros((p.shape[1],) * 2, int)
    sure = classes >= 0
    np.add.at(counts, (labels[sure], classes[sure]), 1)
    np.fill_diagonal(counts, np.maximum(np.diag(counts), 1))
    return counts


def likely_errors(predicted: Array, labels: Array) -> LabelErrors:
    """The images whose labels are least probable, as many as confidently belong to another class.

    The number is that of the off-diagonal images of the confident joint, without the images whose
    label is the most probable class. The suggested class is the most probable other class. A wrong
    label is often improbable although no other class reaches its threshold, so this list has more
    wrong labels than the equally long list of the off-diagonal images.

    Source: Northcutt et al. 2021, section 3.2, for the number, and for self-confidence as the rank.
    cleanlab's `find_label_issues(labels, predicted, filter_by='low_self_confidence',
    return_indices_ranked_by='self_confidence')` agrees.

    Args:
        predicted: probabilities [N, K] from networks that were not trained on the image.
        labels: [N] int.

    Raises:
        InputError: several labels per image, or other shapes.
    """
    p, labels, classes = _confident(predicted, labels)
    confidence = p[np.arange(len(p)), labels]
    others = p.copy()
    others[np.arange(len(p)), labels] = -1.0
    off_diagonal = (classes >= 0) & (classes != labels)
    number = int((off_diagonal & (others.max(-1) > confidence + TOLERANCE)).sum())
    places = np.argsort(confidence, kind='stable')[:number]
    return LabelErrors(places, labels[places], others[places].argmax(-1), confidence[places])


def _confident(predicted: Array, labels: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, labels, and the class each image confidently belongs to; -1 for no class."""
    p, labels = np.asarray(predicted, np.float64), np.asarray(labels)
    if labels.ndim == 2:
        raise InputError('the images have several labels each, wanted one label per image')
    confidences(p, labels)  # checks both
    counts = np.bincount(labels, minlength=p.shape[1])
    sums = np.bincount(labels, p[np.arange(len(p)), labels], minlength=p.shape[1])
    # 2 is more than any probability: no image belongs to a class without labels.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), 2.0)
    reached = p >= np.maximum(thresholds, 2 * TOLERANCE) - TOLERANCE
    classes = np.where(reached.sum(-1) > 1, p.argmax(-1), reached.argmax(-1))
    return p, labels, np.where(reached.any(-1), classes, -1)
