"""Paired comparison of runs, image by image."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from tljax.metrics import paired_scores, paired_seeds
from tljax.metrics.paired_accuracy import PairedDifference, accuracy_difference
from tljax.metrics.paired_seeds import PairedSeeds
from tljax.metrics.totals import wilson_interval
from tljax.records.predictions import SplitPredictions
from tljax.training.report.inputs import Inputs, MissingError
from tljax.types import InputError, Task


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
    """The predictions of a run for a split, ordered by id.

    Attributes:
        classes: the K names.
        ids: [N], ascending.
        labels: [N, ...].
        outputs: of the network, [N, O].
        task: what is predicted.
        measure: the name of the score, or of the share of right predictions.
    """

    classes: tuple[str, ...]
    ids: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    task: Task
    measure: str

    @functools.cached_property
    def right(self) -> np.ndarray:
        """Whether each prediction is right [N], for tasks without a score of their own."""
        hits = self.task.right(self.outputs, self.labels)
        assert hits is not None
        return hits

    @functools.cached_property
    def decided(self) -> np.ndarray:
        """The predictions [N, ...], see `Task.decided`."""
        return self.task.decided(self.outputs, self.labels)

    @functools.cached_property
    def score(self) -> float:
        """The score, or the share of right predictions."""
        score = self.task.scored(self.decided, self.labels)
        return float(self.right.mean()) if score is None else score

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the score over images; NaN without a value."""
        if self.is_share:
            return wilson_interval(int(self.right.sum()), len(self.right))
        ends = self.task.intervals(self.outputs, self.labels)
        return ends.get(f'{self.task.score.name}_interval', (math.nan, math.nan))

    @property
    def is_share(self) -> bool:
        """Whether the score is a share of right predictions."""
        return self.task.scored(self.decided, self.labels) is None

    def same_images(self, other: 'ImageScores') -> bool:
        """Whether both have the same images with the same labels."""
        return np.array_equal(self.ids, other.ids) and np.array_equal(self.labels, other.labels)

    def select(self, rows: np.ndarray) -> 'ImageScores':
        """The scores of some images."""
        parts = {name: getattr(self, name)[rows] for name in ('ids', 'labels', 'outputs')}
        return dataclasses.replace(self, **parts)


def image_scores(classes: Sequence[str], split: SplitPredictions) -> ImageScores:
    """The scores of the images of a split.

    Raises:
        MissingError: two images have the same id.
    """
    ids, order = np.unique(split.ids, return_index=True)
    if len(ids) < len(split):
        raise MissingError('Several images of a run have the same id, so they cannot be paired.')
    arrays = split.labels[order], split.logits[order]
    measure = split.task.score.compared_title
    return ImageScores(tuple(classes), ids, *arrays, split.task, measure)


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
    """The score of a run minus that of another, on the images both were evaluated on.

    Images are paired by id. The score is a share of right predictions, or the task's own.

    Raises:
        MissingError: a run has no predictions, or they cannot be paired.
    """
    name, split = one.predictions()
    if name not in other.splits:
        raise MissingError('The runs were not evaluated on the same split with the same classes.')
    first, second = paired(
        image_scores(one.classes, split), image_scores(other.classes, other.splits[name])
    )
    return score_difference(first, second)


def score_difference(first: ImageScores, second: ImageScores) -> PairedDifference:
    """The difference of two scores on the same images."""
    if first.is_share:
        return accuracy_difference(first.right, second.right)

    def score(decided: np.ndarray, labels: np.ndarray) -> float:
        value = first.task.scored(decided, labels)
        assert value is not None
        return value

    result = paired_scores.difference(score, first.decided, second.decided, first.labels)
    return PairedDifference(len(first.ids), None, None, *result)


def difference_over_seeds(scores: Sequence[tuple[ImageScores, ImageScores]]) -> PairedSeeds:
    """The difference of a score that is no share of images; of several seeds over seeds alone."""
    count = min(len(first.ids) for first, _ in scores)
    if len(scores) == 1:
        pair = score_difference(*scores[0])
        least = 1 / (1 + paired_scores.DRAWS)
        ends = pair.difference, pair.low, pair.high, pair.p_value
        return PairedSeeds(1, count, *ends, least, (pair.difference,))
    sides = zip(*scores, strict=True)
    first, second = (np.array([one.score for one in side]) for side in sides)
    return paired_seeds.difference_of_means(first, second)._replace(images=count)


def difference_text(one: Inputs, other: Inputs) -> str:
    """`+1.2 (-0.4 to +2.9)` in points, or a dash."""
    try:
        pair = difference(one, other)
    except (InputError, OSError):
        return '–'
    value, low, high = (100 * end for end in (pair.difference, pair.low, pair.high))
    return f'{value:+.1f} ({low:+.1f} to {high:+.1f})'
