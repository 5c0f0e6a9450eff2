"""Paired comparison of runs, image by image."""

import dataclasses
import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from tljax.metrics import regression
from tljax.metrics.paired_accuracy import PairedDifference, accuracy_difference
from tljax.records.predictions import SplitPredictions
from tljax.training.report.inputs import Inputs, MissingError
from tljax.types import InputError


def right(split: SplitPredictions) -> np.ndarray:
    """Whether each image is classified correctly [N]; with several labels, all of them.

    Raises:
        MissingError: predictions of the task are not right or wrong.
    """
    hits = split.task.right(split.logits, split.labels)
    if hits is None:
        raise MissingError('Predicted numbers are not right or wrong, so images cannot be counted.')
    return hits


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """Which images of a split a run classifies correctly, ordered by id.

    Attributes:
        classes: the K names.
        ids: [N], ascending.
        labels: [N], or [N, K] with several labels per image.
        right: [N] bool.
        measure: the name of the share of right predictions.
    """

    classes: tuple[str, ...]
    ids: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    measure: str

    def same_images(self, other: 'ImageScores') -> bool:
        """Whether both have the same images with the same labels."""
        return np.array_equal(self.ids, other.ids) and np.array_equal(self.labels, other.labels)

    def select(self, rows: np.ndarray) -> 'ImageScores':
        """The scores of some images."""
        parts = {name: getattr(self, name)[rows] for name in ('ids', 'labels', 'right')}
        return dataclasses.replace(self, **parts)


def image_scores(classes: Sequence[str], split: SplitPredictions) -> ImageScores:
    """The scores of the images of a split.

    Raises:
        MissingError: two images have the same id.
    """
    ids, order = np.unique(split.ids, return_index=True)
    if len(ids) < len(split):
        raise MissingError('Several images of a run have the same id, so they cannot be paired.')
    measure = split.task.score.share_title or 'accuracy'
    return ImageScores(tuple(classes), ids, split.labels[order], right(split)[order], measure)


def paired(one: ImageScores, other: ImageScores) -> tuple[ImageScores, ImageScores]:
    """The scores of both on the images that both have, in the same order.

    Raises:
        MissingError: there are none, or the classes or labels differ.
    """
    if one.classes != other.classes:
        raise MissingError('The runs were not evaluated on the same split with the same classes.')
    _, rows, other_rows = np.intersect1d(one.ids, other.ids, True, return_indices=True)
    if not len(rows):
        raise MissingError('The runs were evaluated on different images.')
    first, second = one.select(rows), other.select(other_rows)
    if not first.same_images(second):
        raise MissingError('The runs have different labels for the same images.')
    return first, second


def folder_names(folders: Sequence[pathlib.Path]) -> list[str]:
    """The names of the folders of runs, with parent folders if names are equal.

    Raises:
        InputError: a folder is named twice.
    """
    paths = [folder.resolve() for folder in folders]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ['/'.join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise InputError('a run is named twice, wanted different runs')


def difference(one: Inputs, other: Inputs) -> PairedDifference:
    """The accuracy of a run minus that of another, on the images both were evaluated on.

    Images are paired by id.

    Raises:
        MissingError: a run has no predictions, or they cannot be paired.
    """
    name, split = one.predictions()
    if name not in other.splits:
        raise MissingError('The runs were not evaluated on the same split with the same classes.')
    first, second = paired(
        image_scores(one.classes, split), image_scores(other.classes, other.splits[name])
    )
    return accuracy_difference(first.right, second.right)


def _difference_of_numbers(one: Inputs, other: Inputs) -> tuple[float, float, float]:
    """The difference in R², and its interval.

    Raises:
        MissingError: a run has no predictions, or they cannot be paired.
    """
    name, split = one.predictions()
    others = other.splits.get(name)
    if others is None or others.labels.shape != split.labels.shape:
        raise MissingError('The runs were not evaluated on the same split with the same numbers.')
    _, rows, other_rows = np.intersect1d(split.ids, others.ids, True, return_indices=True)
    if not len(rows):
        raise MissingError('The runs were evaluated on different images.')
    count = split.labels.shape[1]
    first, second = (
        np.asarray(part.task.predicted(jnp.asarray(part.logits[places])))[:, :count]
        for part, places in ((split, rows), (others, other_rows))
    )
    return regression.paired_difference(first, second, split.labels[rows])


def difference_text(one: Inputs, other: Inputs) -> str:
    """`+1.2 (-0.4 to +2.9)` in points, or a dash."""
    try:
        _, split = one.predictions()
        if split.task.numbers:
            ends = _difference_of_numbers(one, other)
        else:
            pair = difference(one, other)
            ends = pair.difference, pair.low, pair.high
    except (InputError, OSError):
        return '–'
    value, low, high = (100 * end for end in ends)
    return f'{value:+.1f} ({low:+.1f} to {high:+.1f})'
