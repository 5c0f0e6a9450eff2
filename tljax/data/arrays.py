"""Images in arrays: an `.npz` file, or memory."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tljax.data import array_labels, bit_depth, number_labels, subsets
from tljax.data.array_labels import ArraysError
from tljax.metrics.tasks.values import Values
from tljax.storage import data_copies
from tljax.types import Examples, Findings, Range

SPLITS = ('train', 'val', 'test')
_KEPT: dict[str, dict[str, Any]] = {}  # the arrays passed to `keep`, by digest


@dataclasses.dataclass(slots=True, kw_only=True)
class Arrays:
    """An `.npz` file with `train_images`, `train_labels`, `test_images` and `test_labels`.

    Optional arrays are `val_images`, `val_labels` and `class_names`. A file with only `images` and
    `labels`, or only those of `train`, is split into `train` and `test`, stratified by class. With
    `train` and `val` there is no test split.

    Images are [N, h, w] or [N, h, w, 1 or 3]. Other types than uint8 are scaled by the range of
    the values of `train`; see `depth.find`. Labels are integers from 0 or strings, [N] or [N, 1].
    With several labels per image, or none, they are [N, K] of 0 and 1. With `numbers`, labels are
    numbers to predict, [N] or [N, K], and `class_names` are their names.

    Attributes:
        path: of the `.npz` file.
        test_fraction: part of each class that becomes the test split if there is none.
        split_seed: seed of the choice of these test images.
        numbers: whether labels are numbers that are predicted.
        changed_by: kinds of augmentation that change a number, as `rotation`.
    """

    path: str
    test_fraction: float = 0.2
    split_seed: int = 0
    numbers: bool = False
    changed_by: tuple[str, ...] = ()  # kinds of augmentation that change a number, as 'rotation'

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 < self.test_fraction < 1
        problems = [] if valid else [f'test_fraction is {self.test_fraction}, wanted 0 < x < 1']
        if self.split_seed < 0:
            problems.append(f'split_seed is {self.split_seed}, wanted at least 0')
        return problems

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` if the file has them or `test` is drawn.

        Raises:
            ArraysError: the file cannot be read, or its arrays do not fit together.
        """
        path = data_copies.local(self.path)
        task = Values(changed_by=self.changed_by) if self.numbers else None
        content = _normalised(read(path), str(path), task)
        present = {name.partition('_')[0] for name in content} & {'images', *SPLITS}
        if present in ({'images'}, {'train'}):
            content = _drawn(content, self.test_fraction, self.split_seed, task)
        return _examples(content, str(path), task)


@dataclasses.dataclass(slots=True, kw_only=True)
class InMemory:
    """Arrays in the memory of this process; make it with `keep`. A run records their digest.

    Attributes:
        digest: identifies the arrays; `keep` computes it.
        numbers: as in `Arrays`.
        changed_by: as in `Arrays`.
    """

    digest: str
    numbers: bool = False
    changed_by: tuple[str, ...] = ()

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` if they were passed to `keep`.

        Raises:
            ArraysError: no arrays with this digest were passed to `keep` in this process.
        """
        if self.digest not in _KEPT:
            raise ArraysError(
                f'no arrays with digest {self.digest} are in memory, found {sorted(_KEPT)}: '
                'pass the same arrays to tljax.data.arrays.keep first'
            )
        task = Values(changed_by=self.changed_by) if self.numbers else None
        content = _normalised(_KEPT[self.digest], 'arrays in memory', task)
        return _examples(content, 'arrays in memory', task)


def keep(
    *,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray] | None = None,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    class_names: Sequence[str] = (),
    numbers: bool = False,
    changed_by: Sequence[str] = (),
) -> InMemory:
    """Makes a data source of arrays, which stay in memory until the process ends.

    Args:
        train: images and labels, as in `Arrays`.
        test: likewise; None for no test split.
        val: likewise; None to take it from `train`.
        class_names: names in the order of the labels; their numbers by default.
        numbers: whether labels are numbers to predict, as in `Arrays`.
        changed_by: kinds of augmentation that change a number.
    """
    content: dict[str, Any] = {'class_names': np.asarray(class_names, str)}
    for name, split in (('train', train), ('val', val), ('test', test)):
        if split is not None:
            content[f'{name}_images'], content[f'{name}_labels'] = map(np.asarray, split)
    digest = hashlib.sha256()
    for name, value in content.items():
        digest.update(f'{name} {value.shape} {value.dtype}'.encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    _KEPT[digest.hexdigest()] = content
    return InMemory(digest=digest.hexdigest(), numbers=numbers, changed_by=tuple(changed_by))


def _normalised(content: Mapping[str, Any], where: str, task: Values | None) -> dict[str, Any]:
    """The arrays with labels in the form of their task."""
    form = array_labels if task is None else number_labels
    return form.normalised(content, where)


def read(path: pathlib.Path) -> dict[str, Any]:
    """Reads the arrays of an `.npz` file.

    Raises:
        ArraysError: the file cannot be read.
    """
    try:
        with np.load(path) as file:  # never unpickles
            return dict(file)
    except Exception as error:  # damaged files raise errors of almost any type
        raise ArraysError(f'{path}: not a readable .npz file: {error}') from error


def one_split(
    content: Mapping[str, Any], split: str | None, where: str, *, numbers: bool = False
) -> tuple[Examples, bool]:
    """Reads a single split, and whether its classes have names.

    Args:
        content: arrays by name, as in `Arrays`.
        split: the name of the split; None for `images` and `labels`.
        where: the source of the arrays, for messages.
        numbers: whether labels are numbers.

    Raises:
        ArraysError: the arrays of the split are missing, or do not fit together.
    """
    task = Values() if numbers else None
    prefix, split = ('', 'test') if split is None else (f'{split}_', split)
    if f'{prefix}images' not in content:
        raise ArraysError(f'{where}: missing {prefix}images, found {sorted(content)}')
    content = _normalised(content, where, task)
    names = ('images', 'labels')
    content = {**content, **{f'{split}_{n}': content.get(f'{prefix}{n}') for n in names}}
    problems = [line.replace(f'{split}_', prefix) for line in _problems(content, split, task)]
    class_names = tuple(map(str, content.get('class_names', ())))
    if not problems and class_names and task is None:
        top = largest_label(content[f'{split}_labels'])
        if len(class_names) <= top:
            problems.append(f'class_names has {len(class_names)} names, labels go up to {top}')
    if problems:
        raise ArraysError(f'{where}:\n  ' + '\n  '.join(problems))
    findings = _findings([content[f'{split}_images']], where, alone=True)
    return _split(content, split, class_names, 0, findings, task), bool(class_names)


def _drawn(
    content: dict[str, Any], fraction: float, seed: int, task: Values | None
) -> dict[str, Any]:
    """The arrays with `train` and `test` in place of their only split."""
    prefix = '' if 'images' in content else 'train_'
    if f'{prefix}labels' not in content:
        return content
    images, labels = content.pop(f'{prefix}images'), content.pop(f'{prefix}labels')
    if labels.ndim not in (1, 2) or len(images) != len(labels) or not labels.size:
        raise ArraysError(f'images are {images.shape} and labels {labels.shape}, wanted N of both')
    if task is None and (problems := array_labels.problems(labels, f'{prefix}labels', len(images))):
        raise ArraysError(problems[0])
    strata = labels if task is None else task.strata(labels)
    for name, part in zip(('train', 'test'), subsets.carve(strata, fraction, seed), strict=True):
        content[f'{name}_images'], content[f'{name}_labels'] = images[part], labels[part]
    return content


def _examples(content: Mapping[str, Any], where: str, task: Values | None) -> dict[str, Examples]:
    """Checks the arrays and returns the splits."""
    splits = [name for name in SPLITS if f'{name}_images' in content]
    labelled = [f'{name}_images' for name in SPLITS if f'{name}_labels' in content]
    wanted = dict.fromkeys(('train_images', 'train_labels', *labelled))
    missing = [name for name in wanted if name not in content]
    if missing:
        raise ArraysError(f'{where}: missing {missing}, found {sorted(content)}')
    problems = [line for name in splits for line in _problems(content, name, task)]
    if not problems and task is None:
        problems = _class_problems(content, splits)
    if problems:
        raise ArraysError(f'{where}:\n  ' + '\n  '.join(problems))
    names = _names(content)
    images = [content[f'{name}_images'] for name in splits]
    findings = _findings(images, where)
    result, first_id = {}, 0
    for name in splits:
        result[name] = _split(content, name, names, first_id, findings, task)
        first_id += len(result[name])
    return result


def _names(content: Mapping[str, Any]) -> tuple[str, ...]:
    class_names = content.get('class_names', ())
    if len(class_names):
        return tuple(str(name) for name in class_names)
    return tuple(str(i) for i in range(largest_label(content['train_labels']) + 1))


def largest_label(labels: np.ndarray) -> int:
    """The largest label; K - 1 for labels [N, K]."""
    return labels.shape[1] - 1 if labels.ndim == 2 else int(labels.max())


def _class_problems(content: Mapping[str, Any], splits: Sequence[str]) -> list[str]:
    """Messages for classes that differ between splits or lack a name or an example."""
    labels = {name: content[f'{name}_labels'] for name in splits}
    if len({values.shape[1:] for values in labels.values()}) > 1:
        shapes = {name: values.shape for name, values in labels.items()}
        return [f'labels are {shapes}, wanted [N] in all splits or the same K in [N, K]']
    top = max(map(largest_label, labels.values()))
    names, train = _names(content), labels['train']
    several = train.ndim == 2
    trained = np.flatnonzero(train.any(0)) if several else train
    absent = sorted(set(range(top + 1)) - set(trained.tolist()))
    problems = [f'train_labels has no example of the classes {absent[:20]}'] if absent else []
    if len(names) <= top or (several and len(names) > top + 1):
        problems.append(f'class_names has {len(names)} names, labels go up to {top}')
    return problems


def _problems(content: Mapping[str, Any], name: str, task: Values | None) -> list[str]:
    images, labels = content[f'{name}_images'], content.get(f'{name}_labels')
    if labels is None:
        return [f'{name}_labels is missing']
    problems = []
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)) or not images.size:
        problems.append(f'{name}_images is {images.shape}, wanted [N, h, w] or [N, h, w, 1 or 3]')
    if images.dtype.kind not in 'fiub':
        problems.append(f'{name}_images is {images.dtype}, wanted numbers')
    elif images.dtype.kind == 'f' and images.size and not np.isfinite(images).any():
        problems.append(f'{name}_images has no finite value')
    if task is None:
        problems += array_labels.problems(labels, f'{name}_labels', len(images))
    elif len(labels) != len(images):
        problems.append(f'{name}_labels is {labels.shape}, wanted labels of {len(images)} images')
    return problems


def _findings(images: Sequence[np.ndarray], where: str, *, alone: bool = False) -> Findings | None:
    """Findings with the range of values of all splits, from the first split; None for 8 bits.

    Args:
        images: the images of each split.
        where: their source, for messages.
        alone: for a split without training images, from which no range can be computed.
    """
    if all(one.dtype in (np.uint8, bool) for one in images):
        return None

    @functools.cache
    def gray_range() -> Range:
        ends = bit_depth.find(iter(images[0]), len(images[0]), where)
        if alone and ends not in bit_depth.CONVENTIONS:
            raise bit_depth.RangeError(
                f'{where}: images are {images[0].dtype} from {ends[0]:g} to {ends[1]:g}, and the '
                'network has no range: pass --gray_range=LOW,HIGH'
            )
        return ends

    return Findings(deep={where}, gray_range=gray_range)


def _split(
    content: Mapping[str, Any],
    name: str,
    class_names: tuple[str, ...],
    first_id: int,
    findings: Findings | None,
    task: Values | None,
) -> Examples:
    images = content[f'{name}_images']
    images = images.astype(np.uint8) * 255 if images.dtype == bool else images

    def load(index: int) -> np.ndarray:
        image = images[index]
        if images.dtype != np.uint8:
            assert findings
            assert findings.gray_range
            image = bit_depth.scaled(image, findings.gray_range())
        image = image.reshape(*image.shape[:2], -1)
        return np.broadcast_to(image, (*image.shape[:2], 3))

    labels = content[f'{name}_labels']
    dtype = np.uint8 if labels.ndim == 2 else np.int32
    return Examples(
        load=load,
        labels=labels.astype(dtype if task is None else np.float32),
        ids=first_id + np.arange(len(labels)),
        class_names=class_names,
        findings=findings,
        task=task,
    )
