"""The labelled images of an experiment, and the folds in which they are held out."""

import dataclasses
import math
from typing import Any

import numpy as np

from tljax.advise import folds
from tljax.advise.folds import Fold
from tljax.config import data_checks
from tljax.config.experiment import Experiment
from tljax.metrics.tasks import choice
from tljax.types import Examples, InputError

# Often there is time for one fold only. A third of the images separates candidates better than a
# fifth, at the same number of steps.
MAX_FOLDS = 3
VAL_LIMIT = 1000  # evaluated images of a fold
ENOUGH_IMAGES = 500  # held-out images, after which no further fold is used
SIZE_SAMPLES = 64  # images whose sizes are read for the report


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetImages:
    """An experiment's labelled images and their folds.

    Attributes:
        experiment: whose data it is.
        parts: the labelled images: one part, or `train` and `val` if the data has both.
        fold_of: [N] the fold in which each image of the concatenated parts is held out; -1 for
            images that are never held out.
        count: of folds.
        num_classes: K.
    """

    experiment: Experiment
    parts: tuple[Examples, ...]
    fold_of: np.ndarray
    count: int
    num_classes: int

    @property
    def labels(self) -> np.ndarray:
        """[N] int, of all labelled images."""
        return np.concatenate([part.labels for part in self.parts])

    @property
    def ids(self) -> np.ndarray:
        """[N] int64."""
        return np.concatenate([part.ids for part in self.parts])

    @property
    def counts(self) -> np.ndarray:
        """[K] labelled images per class, without the data's own validation split."""
        return np.bincount(self.parts[0].labels, minlength=self.num_classes)

    @property
    def per_class(self) -> float:
        """The median of `counts`."""
        return float(np.median(self.counts))

    @property
    def folds_used(self) -> int:
        """The number of folds for trials. Large folds suffice in smaller number."""
        return min(self.count, math.ceil(ENOUGH_IMAGES / len(self.held_out(0))))

    @property
    def own_validation(self) -> bool:
        """Whether the data has a validation split of its own."""
        return len(self.parts) > 1

    def held_out(self, index: int) -> np.ndarray:
        """The rows on which fold `index` is evaluated."""
        rows = np.flatnonzero(self.fold_of == index)
        return folds.limited(rows, VAL_LIMIT, self.experiment.image_seed, index)

    def fold(self, index: int) -> Fold:
        """The data set whose validation split is fold `index`."""
        return dataclasses.replace(
            _fold(self.experiment), index=index, count=self.count, val_limit=VAL_LIMIT
        )


def _fold(experiment: Experiment) -> Fold:
    """The data's own validation split as the only fold."""
    return Fold(
        source=experiment.data,
        count=1,
        per_class=experiment.per_class,
        subset=experiment.subset,
        seed=experiment.image_seed,
    )


def read(experiment: Experiment) -> TargetImages:
    """Reads the labelled images of an experiment and assigns them to folds.

    Raises:
        InputError: the data cannot be read, has several labels per image, or is too small.
    """
    source = experiment.data.splits()
    data_checks.check(experiment, source)
    task = choice.of(source['train'])
    if not task.one_label:
        raise InputError(
            'config.data: images have several labels or numbers; tljax advise needs one label per '
            'image'
        )
    if 'val' in source:
        splits = _fold(experiment).splits()
        parts: tuple[Examples, ...] = splits['train'], splits['val']
        fold_of, count = np.repeat([-1, 0], [len(part) for part in parts]), 1
    else:
        examples = folds.labelled(
            source, experiment.per_class, experiment.image_seed, experiment.subset
        )
        parts, count = (examples,), _fold_count(examples.labels)
        fold_of = folds.assign(examples.labels, count, experiment.image_seed)
    if len(np.unique(parts[0].labels)) < 2:
        raise InputError('config.data: wanted labelled images of two or more classes')
    return TargetImages(
        experiment=experiment,
        parts=parts,
        fold_of=fold_of,
        count=count,
        num_classes=len(parts[0].class_names),
    )


def _fold_count(labels: np.ndarray) -> int:
    """The image count of the rarest class, but from 2 to `MAX_FOLDS`."""
    _, counts = np.unique(labels, return_counts=True)
    return int(np.clip(counts.min(), 2, MAX_FOLDS))


def facts(task: TargetImages) -> dict[str, Any]:
    """The description of the data for the report."""
    counts, train = task.counts, task.parts[0]
    rng = np.random.default_rng(task.experiment.seed)
    rows = rng.permutation(len(train))[:SIZE_SAMPLES]
    sides = [min(train.load(int(row)).shape[:2]) for row in rows]
    return {
        'labelled': len(train),
        'validation': len(task.labels) - len(train),
        'classes': task.num_classes,
        'class_names': list(train.class_names),
        'per_class': counts.tolist(),
        'imbalance': float(counts.max() / max(counts.min(), 1)),
        'short_side_px': [int(min(sides)), int(np.median(sides)), int(max(sides))],
        'folds': task.folds_used,
        'own_validation': task.own_validation,
    }
