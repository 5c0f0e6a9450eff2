"""The labelled images, how they are held out in turns, and what there is to say of them."""

import dataclasses
import math
from typing import Any

import numpy as np

from tljax.advise import folds
from tljax.advise.folds import Fold
from tljax.config import data_checks
from tljax.config.experiment import Experiment
from tljax.types import Examples, InputError

# One fold is often all that there is time for, and is to tell a few points apart: a third of the
# images does so better than a fifth, and costs no step more.
MOST_FOLDS = 3
VAL_LIMIT = 1000  # images of a fold that are looked at
ENOUGH = 500  # answers, after which no further fold is asked
FEW_SIZES = 64  # images whose sizes are looked at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """An experiment's labelled images, and their folds.

    Attributes:
        experiment: whose data it is.
        parts: the labelled images: all of them, or `train` and `val` where the data has both.
        place: [N] the fold in which an image of `parts`, one after the other, is held out; -1 for
            none.
        count: of folds.
        num_classes: K.
    """

    experiment: Experiment
    parts: tuple[Examples, ...]
    place: np.ndarray
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
    def per_class(self) -> float:
        """Labelled images of the class in the middle, but for a validation split of its own."""
        return float(np.median(self.counts))

    @property
    def counts(self) -> np.ndarray:
        """[K] labelled images of each class, likewise."""
        return np.bincount(self.parts[0].labels, minlength=self.num_classes)

    @property
    def asked(self) -> int:
        """How many folds candidates are ever asked about: of many images few folds tell enough."""
        return min(self.count, math.ceil(ENOUGH / len(self.held_out(0))))

    @property
    def own_validation(self) -> bool:
        """Whether the data has a validation split of its own."""
        return len(self.parts) > 1

    def held_out(self, index: int) -> np.ndarray:
        """The rows of the images that fold `index` is judged by."""
        return folds.limited(
            np.flatnonzero(self.place == index), VAL_LIMIT, self.experiment.seed, index
        )

    def fold(self, index: int) -> Fold:
        """The source of which that is the validation split."""
        e = self.experiment
        return Fold(
            source=e.data,
            index=index,
            count=self.count,
            per_class=e.per_class,
            subset=e.subset,
            seed=e.seed,
            val_limit=VAL_LIMIT,
        )


def read(experiment: Experiment) -> Task:
    """The task of an experiment.

    Raises:
        InputError: the data cannot be read, has several labels an image, or is too small.
    """
    source = experiment.data.splits()
    data_checks.check(experiment, source)
    if source['train'].multi_label:
        raise InputError(
            'config.data: images have several labels; what is advised is for one label an image'
        )
    if 'val' in source:
        fold = Fold(
            source=experiment.data,
            count=1,
            per_class=experiment.per_class,
            subset=experiment.subset,
            seed=experiment.seed,
        ).splits()
        parts: tuple[Examples, ...] = fold['train'], fold['val']
        place = np.repeat([-1, 0], [len(part) for part in parts])
        count = 1
    else:
        everything = folds.labelled(
            source, experiment.per_class, experiment.seed, experiment.subset
        )
        parts, count = (everything,), _fold_count(everything.labels)
        place = folds.assign(everything.labels, count, experiment.seed)
    names = parts[0].class_names
    if len(np.unique(parts[0].labels)) < 2:
        raise InputError('config.data: wanted labelled images of two classes or more')
    return Task(
        experiment=experiment,
        parts=parts,
        place=place,
        count=count,
        num_classes=len(names),
    )


def _fold_count(labels: np.ndarray) -> int:
    """As many as the rarest class has images, from 2 to 5."""
    _, counts = np.unique(labels, return_counts=True)
    return int(np.clip(counts.min(), 2, MOST_FOLDS))


def facts(task: Task) -> dict[str, Any]:
    """What there is to say of the data, for the report."""
    counts, first = task.counts, task.parts[0]
    rng = np.random.default_rng(task.experiment.seed)
    rows = rng.permutation(len(first))[:FEW_SIZES]
    sides = [min(first.load(int(row)).shape[:2]) for row in rows]
    return {
        'labelled': len(first),
        'validation': len(task.labels) - len(first),
        'classes': task.num_classes,
        'class_names': list(first.class_names),
        'per_class': counts.tolist(),
        'imbalance': float(counts.max() / max(counts.min(), 1)),
        'short_side_px': [int(min(sides)), int(np.median(sides)), int(max(sides))],
        'folds': task.asked,
        'own_validation': task.own_validation,
    }
