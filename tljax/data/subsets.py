"""Which examples of a split are used: stratified, seeded, and nested where the size varies."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tljax.data import label_sets
from tljax.types import Examples, InputError

# What is drawn with a seed, so that one choice does not follow from another.
CARVED, NOISE = 1, 2


@dataclasses.dataclass(slots=True, kw_only=True)
class Subset:
    """A part of a data set, for ablations.

    Parts of the same seed are nested: what `fraction=0.1` keeps is among what 0.2 keeps, and what
    0.1 of `label_noise` makes wrong is wrong in the same way with 0.2.
    """

    classes: tuple[str, ...] = ()  # to keep in all splits, in this order; none for all
    fraction: float = 1.0  # of each class's training examples, one at least
    imbalance: float = 1.0  # how often the first class is in training for one of the last
    label_noise: float = 0.0  # share of each class's training labels that are made wrong

    def problems(self) -> list[str]:
        """What `validate` reports."""
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
    """The indices of `count` examples of every class, ascending.

    Sets of the same seed are nested: the first five of a class are among its first ten.

    Args:
        labels: [N] int.
        count: examples per class.
        seed: which.

    Raises:
        InputError: a class has fewer.
    """
    there = dict(zip(*(x.tolist() for x in np.unique(labels, return_counts=True)), strict=True))
    short = [f'class {label} has {size}' for label, size in there.items() if size < count]
    if short:
        raise InputError(f'{count} examples per class were asked for, but {", ".join(short)}')
    return first_of_each(labels, dict.fromkeys(there, count), seed)


def first_of_each(labels: np.ndarray, counts: Mapping[int, int], seed: int) -> np.ndarray:
    """The indices of the first `counts[label]` of every class in its seeded order, ascending."""
    chosen = []
    for label, count in counts.items():
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, label]).permutation(len(members))
        chosen.append(members[order[:count]])
    return np.sort(np.concatenate(chosen))


def long_tailed(counts: Mapping[int, int], ratio: float) -> dict[int, int]:
    """Counts that fall from the first class to the last, by a factor of `ratio` in all.

    Source: Cui et al. 2019, "Class-Balanced Loss", section 5.1: n_k = n_0 ratio^(-k / (K - 1)).
    n_0 is the most that all classes can follow.

    Args:
        counts: examples per label.
        ratio: 1 or more.
    """
    labels = sorted(counts)
    falls = {label: ratio ** (-k / max(1, len(labels) - 1)) for k, label in enumerate(labels)}
    top = min(counts[label] / fall for label, fall in falls.items())
    return {label: max(1, round(top * fall)) for label, fall in falls.items()}


def noisy(labels: np.ndarray, share: float, num_classes: int, seed: int) -> np.ndarray:
    """Labels of which a share of each class is replaced by other classes, evenly.

    Args:
        labels: [N] int.
        share: of each class, rounded.
        num_classes: K.
        seed: which, and by what.
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


def carve(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices in two, class by class.

    Args:
        labels: [N] int, or [N, K] multi-hot.
        fraction: the share of each class that goes to the second part, rounded; a class keeps
            at least one example in the first.
        seed: which.

    Returns:
        Both parts' indices, ascending.
    """
    if labels.ndim == 2:
        return label_sets.carve(labels, fraction, seed)
    first, second = [], []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label), CARVED]).permutation(len(members))
        away = min(round(fraction * len(members)), len(members) - 1)
        second.append(members[order[:away]])
        first.append(members[order[away:]])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def prepare(
    splits: Mapping[str, Examples],
    count: int | None,
    validation_fraction: float,
    seed: int,
    subset: Subset | None = None,
) -> dict[str, Examples]:
    """`train`, `val` and, where the source has it, `test` of an experiment.

    The labelled examples are limited first, and validation is carved out of those, so that
    selection never sees a label more than the budget. Labels are made wrong in what is left to
    train on. The test split is left as it is, but for classes that are not kept.

    Args:
        splits: what a source gave.
        count: labelled examples per class; None for all.
        validation_fraction: the share of `train` that becomes `val`, where the source has none.
        seed: of all choices.
        subset: what else limits or changes the training examples.

    Raises:
        InputError: a class is not there, or has too few examples, or labels are several and
            something is asked for that is of one.
    """
    subset = subset or Subset()
    if splits['train'].multi_label:
        _refuse_of_one_label(subset)
    if subset.classes:
        splits = {name: only(split, subset.classes) for name, split in splits.items()}
    train = _limited(splits['train'], count, subset, seed)
    if 'val' in splits:
        result = {'train': train, 'val': splits['val']}
    else:
        rest, val = carve(train.labels, validation_fraction, seed)
        result = {'train': train.take(rest), 'val': train.take(val)}
    if 'test' in splits:
        result['test'] = splits['test']
    if subset.label_noise:
        train = result['train']
        labels = noisy(train.labels, subset.label_noise, len(train.class_names), seed)
        result['train'] = dataclasses.replace(train, labels=labels)
    return result


def only(examples: Examples, classes: tuple[str, ...]) -> Examples:
    """The examples of some classes, which become labels 0, 1, ... in that order.

    Of several labels the others are dropped, and examples that had no label at all stay.

    Raises:
        InputError: a class is not there.
    """
    unknown = [name for name in classes if name not in examples.class_names]
    if unknown:
        raise InputError(f'no classes {unknown}, found {list(examples.class_names)}')
    before = [examples.class_names.index(name) for name in classes]
    if examples.multi_label:
        labels = examples.labels[:, before]
        kept = np.flatnonzero(labels.any(1) | ~examples.labels.any(1))
        return dataclasses.replace(examples.take(kept), labels=labels[kept], class_names=classes)
    numbers = np.full(len(examples.class_names), -1, np.int32)
    numbers[before] = np.arange(len(classes))
    kept = examples.take(np.flatnonzero(np.isin(examples.labels, before)))
    return dataclasses.replace(kept, labels=numbers[kept.labels], class_names=classes)


def _refuse_of_one_label(subset: Subset) -> None:
    fields = {'imbalance': 1.0, 'label_noise': 0.0}
    asked = [f'{n} is {getattr(subset, n)}' for n, no in fields.items() if getattr(subset, n) != no]
    if asked:
        wanted = ', '.join(f'{name} {value}' for name, value in fields.items())
        raise InputError(
            f'config.subset: {", ".join(asked)}; with several labels an image, wanted {wanted}'
        )


def _limited(train: Examples, count: int | None, subset: Subset, seed: int) -> Examples:
    labels = train.labels
    if train.multi_label:
        if count is None and subset.fraction == 1:
            return train
        return train.take(label_sets.limited(labels, count, subset.fraction, seed))
    if count is not None:
        per_class(labels, count, seed)  # has every class as many?
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


def balanced_weights(labels: np.ndarray, num_classes: int) -> tuple[float, ...]:
    """Weights that make every class count alike, 1 in the mean over the examples.

    Source: King & Zeng 2001, "Logistic Regression in Rare Events Data", section 4.2; scikit-learn's
    `class_weight='balanced'`: N / (K n_k). A class without an example has 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.divide(
        len(labels), num_classes * counts, where=counts > 0, out=np.zeros(num_classes)
    )
    return tuple(weights.tolist())
