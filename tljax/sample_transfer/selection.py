"""Weights of source examples by their class, and by their distance to target examples."""

import numpy as np

from tljax.features.nearest import nearest
from tljax.features.transferability import checks
from tljax.sample_transfer import features
from tljax.sample_transfer.size import normalised
from tljax.types import Array, InputError

BLOCK = 256  # target examples whose distances are in memory at a time


def class_importance(*, source_labels: Array, target_probabilities: Array) -> np.ndarray:
    """Weights by the frequency of an example's class in the target, relative to the source.

    Args:
        source_labels: [N] integers 0 to Z - 1.
        target_probabilities: [M, Z], softmax outputs (not logits) for the target's examples of a
            network that was trained on the source.

    Returns:
        [N] float64 with mean 1.

    Raises:
        InputError: a shape, type or range does not fit, or rows are not probabilities.

    Source: Ngiam et al. 2018, "Domain Adaptive Transfer Learning with Specialist Models".
    """
    predicted = checks.probabilities('target_probabilities', target_probabilities).mean(0)
    labels = checks.integers('source_labels', source_labels)
    if labels.min() < 0 or labels.max() >= len(predicted):
        raise InputError(
            f'source_labels are {labels.min()} to {labels.max()}, wanted 0 to '
            f'{len(predicted) - 1}, the columns of target_probabilities'
        )
    counts = np.bincount(labels, minlength=len(predicted))
    if not predicted[counts > 0].any():
        raise InputError('target_probabilities are 0 for every class of source_labels')
    return normalised(predicted[labels] / counts[labels])


def nearest_selection(
    *, source: Array, target: Array, neighbours: int = 100, counted: bool = False
) -> np.ndarray:
    """Weights that select the source examples nearest to any target example.

    Args:
        source: features [N, F].
        target: features [M, F].
        neighbours: source examples that each target example selects, at most N.
        counted: the weight is proportional to the number of target examples that selected an
            example; otherwise all selected examples have equal weight.

    Returns:
        [N] float64 with mean 1; 0 for examples that were not selected.

    Raises:
        InputError: a shape, type or range does not fit, or a value is not finite.

    Source: Ge and Yu 2017, "Borrowing Treasures from the Wealthy: Deep Transfer Learning through
    Selective Joint Fine-tuning". Here distances are Euclidean, of standardised features.
    """
    one, other = features.standardised(source, target)
    if not 0 < neighbours <= len(one):
        raise InputError(f'neighbours is {neighbours}, wanted 1 to the {len(one)} of the source')
    counts = np.zeros(len(one), np.int64)
    for places, _ in nearest(other, one, neighbours, block=BLOCK):
        counts += np.bincount(places.ravel(), minlength=len(one))
    return normalised(counts if counted else counts > 0)
