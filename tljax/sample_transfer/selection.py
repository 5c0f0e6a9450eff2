"""Source examples by their class, and by the target examples that they are near to."""

import numpy as np

from tljax.features.transferability import checks
from tljax.sample_transfer import features
from tljax.sample_transfer.size import normalised
from tljax.types import Array, InputError

TARGET_ROWS = 256  # whose distances are held at a time


def class_importance(*, source_labels: Array, target_probabilities: Array) -> np.ndarray:
    """Weights by how frequent an example's class seems in the target, relative to the source.

    Args:
        source_labels: [N] integers 0 to Z - 1 of the source's examples.
        target_probabilities: [M, Z], what a network trained on the source says about the target's
            examples: its softmax, and not the logits.

    Returns:
        [N] float64 of mean 1.

    Raises:
        InputError: other shapes or types, rows that are no distributions, labels beyond Z.

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
    """Weights of the source examples that are among the nearest to any target example.

    Args:
        source: features [N, F] of the source's examples.
        target: features [M, F] of the target's.
        neighbours: source examples that each target example chooses, at most N.
        counted: an example weighs as much as target examples chose it; otherwise all that were
            chosen weigh alike.

    Returns:
        [N] float64 of mean 1; 0 for those that were not chosen.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite.

    Source: Ge and Yu 2017, "Borrowing Treasures from the Wealthy: Deep Transfer Learning through
    Selective Joint Fine-tuning"; distances are Euclidean, of standardised features.
    """
    one, other = features.standardised(source, target)
    if not 0 < neighbours <= len(one):
        raise InputError(f'neighbours is {neighbours}, wanted 1 to the {len(one)} of the source')
    chosen = np.zeros(len(one), np.int64)
    norms = (one**2).sum(1)
    for start in range(0, len(other), TARGET_ROWS):
        distances = other[start : start + TARGET_ROWS] @ one.T
        distances *= -2
        distances += norms  # but for the target's own, the same in a row
        near = np.argpartition(distances, neighbours - 1, 1)[:, :neighbours]
        chosen += np.bincount(near.ravel(), minlength=len(one))
    return normalised(chosen if counted else chosen > 0)
