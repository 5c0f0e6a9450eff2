"""A data set whose validation split is one fold of its labelled images."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tljax.data import subsets
from tljax.data.subsets import Subset
from tljax.types import DataSource, Examples, InputError

SEED_STREAM = 3  # added to the seed, so that folds are independent of other random draws


@dataclasses.dataclass(slots=True, kw_only=True)
class Fold:
    """The labelled images of a source: one fold as `val`, the others as `train`.

    Folds are stratified and of equal size. Images left over by the division are always trained on.
    With `count=1` the fold is the source's own validation split. There is no test split, because
    test images must not influence the choice.

    Attributes:
        source: of the labelled images.
        index: of the fold that is `val`.
        count: number of folds.
        per_class: as in the experiment.
        subset: as in the experiment.
        seed: seed of the folds.
        val_limit: images of the fold that are evaluated; none for all.
    """

    source: DataSource
    index: int = 0
    count: int = 5
    per_class: int | None = None
    subset: Subset = dataclasses.field(default_factory=Subset)
    seed: int = 0
    val_limit: int | None = None

    def problems(self) -> list[str]:
        """What `validate` reports."""
        if 0 <= self.index < self.count:
            return []
        return [f'index is {self.index} of {self.count} folds, wanted 0 to {self.count - 1}']

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `val`.

        Raises:
            InputError: the source cannot be read, has fewer examples than folds, or has no
                validation split for `count=1`.
        """
        source = self.source.splits()
        if self.count == 1:
            parts = subsets.prepare(source, self.per_class, 0.0, self.seed, self.subset)
            if not len(parts['val']):
                raise InputError('one fold: wanted a validation split in the data')
            train, val = parts['train'], parts['val']
        else:
            examples = labelled(source, self.per_class, self.seed, self.subset)
            fold_of = assign(examples.labels, self.count, self.seed)
            train = examples.take(np.flatnonzero(fold_of != self.index))
            val = examples.take(np.flatnonzero(fold_of == self.index))
        rows = limited(np.arange(len(val)), self.val_limit, self.seed, self.index)
        return {'train': train, 'val': val.take(rows)}


def labelled(
    source: Mapping[str, Examples], per_class: int | None, seed: int, subset: Subset
) -> Examples:
    """The training images of an experiment without a validation split."""
    without_val = {name: split for name, split in source.items() if name != 'val'}
    return subsets.prepare(without_val, per_class, 0.0, seed, subset)['train']


def limited(rows: np.ndarray, limit: int | None, seed: int, index: int) -> np.ndarray:
    """At most `limit` random rows of fold `index`, in order."""
    if limit is None or len(rows) <= limit:
        return rows
    rng = np.random.default_rng([seed, SEED_STREAM, index])
    return np.sort(rng.permutation(rows)[:limit])


def assign(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Assigns examples to stratified folds.

    Args:
        labels: [N] int.
        count: of folds.
        seed: of the random assignment.

    Returns:
        [N] the fold of every example; -1 for the remainder of the division by `count`.

    Raises:
        InputError: there are fewer examples than folds.
    """
    if len(labels) < count:
        raise InputError(f'{len(labels)} labelled images cannot be divided into {count} folds')
    rng = np.random.default_rng([seed, SEED_STREAM])
    order = rng.permutation(len(labels))
    used = np.sort(order[len(labels) % count :])
    shuffled = rng.permutation(used)
    by_class = shuffled[np.argsort(labels[shuffled], kind='stable')]
    fold_of = np.full(len(labels), -1)
    fold_of[by_class] = np.arange(len(by_class)) % count
    return fold_of
