"""Selection of the examples of a split: stratified, seeded, and nested over sizes."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tljax.data import label_sets
from tljax.metrics.tasks import choice
from tljax.types import Examples, InputError

CARVED, NOISE = 1, 2  # parts of random seeds, so that the choices are independent


@dataclasses.dataclass(slots=True, kw_only=True)
class Subset:
    """A part of a data set, for ablations.

    Parts with the same seed are nested: `fraction=0.2` keeps all examples of `fraction=0.1`, and
    `label_noise=0.2` has all wrong labels of `label_noise=0.1`.

    Attributes:
        classes: the classes to keep, in this order; () for all.
        fraction: part of the training examples of each class that is kept, at least one.
        imbalance: training examples of the first class divided by those of the last.
        label_noise: share of wrong training labels in each class.
    """

    classes: tuple[str, ...] = ()
    fraction: float = 1.0
    imbalance: float = 1.0
    label_noise: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = []
        if len(set(self.classes)) < len(self.classes) or len(self.classes) == 1:
            problems.append(f'classes is {self.classes}, wanted two or more, each once')
        if not 0 < self.fraction <= 1:
            problems.append(f'fraction is {self.fraction}, wanted 0 < x <= 1')
        if not 1 <= self.imbalance < float('inf'):
            problems.append(f'imbalance is {self.imbalance}, wanted 1 or more')
        if not 0 <= self.label_noise <= 1:
            problems.append(f'label_noise is {self.label_noise}, wanted 0 <= x <= 1')
        return problems


def per_class(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The indices of `count` random examples of every class, ascending.

    Sets with the same seed are nested: five examples of a class are among its ten.

    Args:
        labels: [N] int.
        count: examples per class.
        seed: random seed.

    Raises:
        InputError: a class has fewer examples.
    """
    sizes = dict(zip(*(x.tolist() for x in np.unique(labels, return_counts=True)), strict=True))
    short = [f'class {label} has {size}' for label, size in sizes.items() if size < count]
    if short:
        raise InputError(f'{count} examples per class were asked for, but {", ".join(short)}')
    return first_of_each(labels, dict.fromkeys(sizes, count), seed)


def first_of_each(labels: np.ndarray, counts: Mapping[int, int], seed: int) -> np.ndarray:
    """The indices of `counts[label]` examples of each class, the first in random order."""
    chosen = []
    for label, count in counts.items():
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, label]).permutation(len(members))
        chosen.append(members[order[:count]])
    return np.sort(np.concatenate(chosen))


def long_tailed(counts: Mapping[int, int], ratio: float) -> dict[int, int]:
    """Counts that decrease exponentially from the first class to the last.

    Source: Cui et al. 2019, "Class-Balanced Loss", section 5.1: n_k = n_0 ratio^(-k / (K - 1)).
    n_0 is the largest number for which every class has enough examples.

    Args:
        counts: examples per label.
        ratio: count of the first class divided by that of the last, 1 or more.
    """
    labels = sorted(counts)
    falls = {label: ratio ** (-k / max(1, len(labels) - 1)) for k, label in enumerate(labels)}
    top = min(counts[label] / fall for label, fall in falls.items())
    return {label: max(1, round(top * fall)) for label, fall in falls.items()}


def noisy(labels: np.ndarray, share: float, num_classes: int, seed: int) -> np.ndarray:
    """Replaces a share of the labels of each class by random other classes.

    Args:
        labels: [N] int.
        share: share of the labels of each class, rounded to a whole number.
        num_classes: K.
        seed: random seed.
    """
    changed = labels.copy()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rng = np.random.default_rng([seed, int(label), NOISE])
        order = rng.permutation(len(members))
        others = (label + rng.integers(1, num_classes, len(members))) % num_classes
        wrong = order[: round(share * len(members))]
        changed[members[wrong]] = others[wrong]
    return changed


def carve(strata: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices into two parts, stratified by class.

    Args:
        strata: the class of each example [N] int, or its set of classes [N, K] multi-hot; see
            `Task.strata`.
        fraction: share of each class in the second part, rounded; the first part has at least one
            example of each class.
        seed: random seed.

    Returns:
        The indices of both parts, ascending.
    """
    if strata.ndim == 2:
        return label_sets.carve(strata, fraction, seed)
    first, second = [], []
    for label in np.unique(strata):
        members = np.flatnonzero(strata == label)
        order = np.random.default_rng([seed, int(label), CARVED]).permutation(len(members))
        size = min(round(fraction * len(members)), len(members) - 1)
        second.append(members[order[:size]])
        first.append(members[order[size:]])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def prepare(
    splits: Mapping[str, Examples],
    count: int | None,
    validation_fraction: float,
    seed: int,
    subset: Subset | None = None,
) -> dict[str, Examples]:
    """The splits of an experiment: `train`, `val` and, if the data source has it, `test`.

    The labelled examples are limited first, and `val` is taken from the limited `train`. So the
    selection of a checkpoint uses no labels outside the limit. Label noise is added to the
    remaining `train` only. The test split changes only by the selection of classes.

    Args:
        splits: the splits of the data source.
        count: labelled examples per class; None for all.
        validation_fraction: the share of `train` that becomes `val`, if the source has no `val`.
        seed: random seed of all choices.
        subset: further limits or changes of the training examples.

    Raises:
        InputError: a class does not exist or has too few examples, or a limit needs classes, or
            one label per image, and the labels are others.
    """
    subset = subset or Subset()
    task = choice.of(splits['train'])
    if not task.one_label:
        _check_other_labels(subset, 'numbers as' if task.numbers else 'several')
    if task.numbers and count is not None:
        raise InputError(
            f'config.per_class is {count}, which needs classes; with numbers as labels, wanted '
            'config.subset.fraction'
        )
    if subset.classes:
        splits = {name: only(split, subset.classes) for name, split in splits.items()}
    train = _limited(splits['train'], count, subset, seed)
    if 'val' in splits:
        result = {'train': train, 'val': splits['val']}
    else:
        rest, val = carve(task.strata(train.labels), validation_fraction, seed)
        result = {'train': train.take(rest), 'val': train.take(val)}
    if 'test' in splits:
        result['test'] = splits['test']
    if subset.label_noise:
        train = result['train']
        labels = noisy(train.labels, subset.label_noise, len(train.class_names), seed)
        result['train'] = dataclasses.replace(train, labels=labels)
    return result


def only(examples: Examples, classes: tuple[str, ...]) -> Examples:
    """The examples of some classes, with labels 0, 1, ... in that order.

    With several labels per image, labels of other classes are removed, and images that had no label
    are kept.

    Raises:
        InputError: a class does not exist.
    """
    unknown = [name for name in classes if name not in examples.class_names]
    if unknown:
        raise InputError(f'no classes {unknown}, found {list(examples.class_names)}')
    before = [examples.class_names.index(name) for name in classes]
    kept, labels = choice.of(examples).only(examples.labels, before)
    return dataclasses.replace(examples.take(kept), labels=labels, class_names=classes)


def _check_other_labels(subset: Subset, kind: str) -> None:
    """Raises an error for fields that need one label per image."""
    neutral = {'imbalance': 1.0, 'label_noise': 0.0}
    values = {name: getattr(subset, name) for name in neutral}
    problems = [f'{name} is {value}' for name, value in values.items() if value != neutral[name]]
    if problems:
        wanted = ', '.join(f'{name} {value}' for name, value in neutral.items())
        raise InputError(
            f'config.subset: {", ".join(problems)}; with {kind} labels per image, wanted {wanted}'
        )


def _limited(train: Examples, count: int | None, subset: Subset, seed: int) -> Examples:
    """The training examples within a count per class and the limits of a subset."""
    labels = choice.of(train).strata(train.labels)
    if labels.ndim == 2:
        if count is None and subset.fraction == 1:
            return train
        return train.take(label_sets.limited(labels, count, subset.fraction, seed))
    if count is not None:
        per_class(labels, count, seed)  # raises if a class has fewer
    present, sizes = (x.tolist() for x in np.unique(labels, return_counts=True))
    limits = {
        label: max(1, round(subset.fraction * (size if count is None else count)))
        for label, size in zip(present, sizes, strict=True)
    }
    if subset.imbalance > 1:
        limits = long_tailed(limits, subset.imbalance)
    if limits == dict(zip(present, sizes, strict=True)):
        return train
    return train.take(first_of_each(labels, limits, seed))
