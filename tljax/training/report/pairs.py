"""Paired comparison of runs, image by image."""

import numpy as np

from tljax.metrics import confusion
from tljax.metrics.paired import PairedDifference, accuracy_difference
from tljax.records.predictions import SplitPredictions
from tljax.training.report.inputs import Inputs, MissingError
from tljax.types import InputError


def right(split: SplitPredictions) -> np.ndarray:
    """Whether each image is classified correctly [N]; with several labels, all of them."""
    if split.multi_label:
        return ((split.logits > 0) == split.labels).all(1)
    return confusion.predicted(split.logits, split.labels) == split.labels


def difference(one: Inputs, other: Inputs) -> PairedDifference:
    """The accuracy of a run minus that of another, on the images both were evaluated on.

    Images are paired by id.

    Raises:
        MissingError: a run has no predictions, or they cannot be paired.
    """
    name, first = one.predictions()
    second = other.splits.get(name)
    if second is None or one.classes != other.classes:
        raise MissingError('The runs were not evaluated on the same split with the same classes.')
    _, rows, other_rows = np.intersect1d(first.ids, second.ids, return_indices=True)
    if not len(rows):
        raise MissingError('The runs were evaluated on different images.')
    if not np.array_equal(first.labels[rows], second.labels[other_rows]):
        raise MissingError('The runs have different labels for the same images.')
    return accuracy_difference(right(first)[rows], right(second)[other_rows])


def difference_text(one: Inputs, other: Inputs) -> str:
    """`+1.2 (-0.4 to +2.9)` in points, or a dash."""
    try:
        pair = difference(one, other)
    except (InputError, OSError):
        return '–'
    low, high = 100 * pair.low, 100 * pair.high
    return f'{100 * pair.difference:+.1f} ({low:+.1f} to {high:+.1f})'
