"""A source cut into folds for validation: what choosing among experiments looks at."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tljax.data import subsets
from tljax.data.subsets import Subset
from tljax.types import DataSource, Examples, InputError

FOLDS = 3  # folded into the seed, so that folds do not follow from other draws


@dataclasses.dataclass(slots=True, kw_only=True)
class Fold:
    """The labelled images of a source: all folds but one to train on, that one to validate.

    Folds are stratified and of one size; what does not divide is in every training part. Where the
    source has a validation split of its own, that is the one fold (`count` is then 1). There is no
    test split: what chooses must not see it.
    """

    source: DataSource
    index: int = 0
    count: int = 5
    per_class: int | None = None  # as of the experiment
    subset: Subset = dataclasses.field(default_factory=Subset)  # likewise
    seed: int = 0
    val_limit: int | None = None  # images of the fold that are looked at; None for all

    def problems(self) -> list[str]:
        """What `validate` reports."""
        if 0 <= self.index < self.count:
            return []
        return [f'index is {self.index} of {self.count} folds, wanted 0 to {self.count - 1}']

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `val`.

        Raises:
            InputError: what the source says; there are fewer examples than folds, or no validation
                split where one fold is asked for.
        """
        source = self.source.splits()
        if self.count == 1:
            parts = subsets.prepare(source, self.per_class, 0.0, self.seed, self.subset)
            if not len(parts['val']):
                raise InputError('one fold: wanted a validation split in the data')
            train, val = parts['train'], parts['val']
        else:
            everything = labelled(source, self.per_class, self.seed, self.subset)
            place = assign(everything.labels, self.count, self.seed)
            train = everything.take(np.flatnonzero(place != self.index))
            val = everything.take(np.flatnonzero(place == self.index))
        rows = limited(np.arange(len(val)), self.val_limit, self.seed, self.index)
        return {'train': train, 'val': val.take(rows)}


def labelled(
    source: Mapping[str, Examples], per_class: int | None, seed: int, subset: Subset
) -> Examples:
    """All images whose labels an experiment without a validation split may look at."""
    train = {name: split for name, split in source.items() if name != 'val'}
    return subsets.prepare(train, per_class, 0.0, seed, subset)['train']


def limited(rows: np.ndarray, limit: int | None, seed: int, index: int) -> np.ndarray:
    """At most `limit` of the rows of a fold, drawn at random, in order."""
    if limit is None or len(rows) <= limit:
        return rows
    rng = np.random.default_rng([seed, FOLDS, index])
    return np.sort(rng.permutation(rows)[:limit])


def assign(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold [N] of every example, -1 for the fewer than `count` that are left over.

    Args:
        labels: [N] int.
        count: of folds.
        seed: which.

    Raises:
        InputError: there are fewer examples than folds.
    """
    if len(labels) < count:
        raise InputError(f'{len(labels)} labelled images cannot be cut into {count} folds')
    rng = np.random.default_rng([seed, FOLDS])
    order = rng.permutation(len(labels))
    used = np.sort(order[len(labels) % count :])
    shuffled = rng.permutation(used)
    by_class = shuffled[np.argsort(labels[shuffled], kind='stable')]
    place = np.full(len(labels), -1)
    place[by_class] = np.arange(len(by_class)) % count
    return place
