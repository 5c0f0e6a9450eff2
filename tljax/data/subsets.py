"""Which examples of a split are used: stratified, seeded, and nested where the size varies."""

from collections.abc import Mapping

import numpy as np

from tljax.types import Examples, InputError


def per_class(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The indices of `count` examples of every class, ascending.

    Sets of the same seed are nested: the first five of a class are among its first ten.

    Args:
        labels: [N] int.
        count: examples per class.
        seed: which.

    Raises:
        InputError: a class has fewer.
    """
    chosen, short = [], []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < count:
            short.append(f'class {label} has {len(members)}')
        order = np.random.default_rng([seed, int(label)]).permutation(len(members))
        chosen.append(members[order[:count]])
    if short:
        raise InputError(f'{count} examples per class were asked for, but {", ".join(short)}')
    return np.sort(np.concatenate(chosen))


def carve(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices in two, class by class.

    Args:
        labels: [N] int.
        fraction: the share of each class that goes to the second part, rounded; a class keeps
            at least one example in the first.
        seed: which.

    Returns:
        Both parts' indices, ascending.
    """
    first, second = [], []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label), 1]).permutation(len(members))
        away = min(round(fraction * len(members)), len(members) - 1)
        second.append(members[order[:away]])
        first.append(members[order[away:]])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def prepare(
    splits: Mapping[str, Examples], count: int | None, validation_fraction: float, seed: int
) -> dict[str, Examples]:
    """`train`, `val` and `test` of an experiment.

    The labelled examples are limited first, and validation is carved out of those, so that
    selection never sees a label more than the budget. The test split is left as it is.

    Args:
        splits: what a source gave.
        count: labelled examples per class; None for all.
        validation_fraction: the share of `train` that becomes `val`, where the source has none.
        seed: of both choices.
    """
    train = splits['train']
    if count is not None:
        train = train.take(per_class(train.labels, count, seed))
    if 'val' in splits:
        return {'train': train, 'val': splits['val'], 'test': splits['test']}
    rest, val = carve(train.labels, validation_fraction, seed)
    return {'train': train.take(rest), 'val': train.take(val), 'test': splits['test']}
