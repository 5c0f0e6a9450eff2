"""`predictions.npz`: the logits of every evaluated image, with its id, path and label."""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from tljax.config import json_form
from tljax.metrics.tasks import choice
from tljax.types import Examples, InputError, Task

PREDICTIONS_FILE = 'predictions.npz'
PARTS = ('ids', 'paths', 'labels', 'logits', 'features')
DTYPE_KINDS = {'ids': 'i', 'paths': 'U', 'labels': 'ibf', 'logits': 'f', 'features': 'f'}
TASK = 'task'  # the entry with the JSON form of a task that the labels do not show


@dataclasses.dataclass(frozen=True)
class SplitPredictions:
    """The predictions of one split, in its order.

    Attributes:
        ids: [N] int64, the ids of the examples.
        paths: [N] text, relative to the folder of the data; '' for an image without a file.
        labels: [N, ...], as `Task.recorded` makes them: [N] int32, or [N, K] bool for sets.
        logits: [N, O] float32; with several views, those of the mean prediction.
        features: [N, F] float32, the pooled inputs of the head; None if they were not recorded.
        stated: the task; None if nothing states it, so that the labels decide.
    """

    ids: np.ndarray
    paths: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    features: np.ndarray | None = None
    stated: Task | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def task(self) -> Task:
        """What the labels and the logits mean."""
        return self.stated or choice.of_labels(self.labels)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions of a network.

    Attributes:
        classes: the K names, in the order of the logits.
        splits: by the name of the split.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, SplitPredictions]


def write(path: pathlib.Path, predictions: Predictions) -> None:
    """Writes a file completely or not at all; of several processes only the first one writes."""
    if jax.process_index():
        return
    content = {'classes': text_array(predictions.classes)}
    for name, split in predictions.splits.items():
        values = {part: getattr(split, part) for part in PARTS}
        content |= {f'{name}_{part}': x for part, x in values.items() if x is not None}
        if split.task != choice.of_labels(split.labels):
            content[TASK] = np.asarray(json.dumps(json_form.encode(split.task)))
    part = path.with_name(path.name + '.part')
    try:
        with part.open('wb') as file:
            np.savez(file, allow_pickle=False, **content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> Predictions:
    """Reads a file of predictions.

    Raises:
        InputError: the file is missing or its content is not valid.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f'{path}: there is no such file')
    try:
        with path.open('rb') as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f'{path} is no file of predictions: {error}') from error
    try:
        task = json_form.decode(json.loads(str(arrays[TASK]))) if TASK in arrays else None
    except (TypeError, ValueError) as error:
        raise InputError(f'{path} is no file of predictions: {TASK}: {error}') from error
    if problem := _problem(arrays, task):
        raise InputError(f'{path} is no file of predictions: {problem}')
    names = [name.removesuffix('_logits') for name in arrays if name.endswith('_logits')]
    splits = {
        name: SplitPredictions(*(arrays.get(f'{name}_{part}') for part in PARTS), task)  # type: ignore[arg-type]
        for name in names
    }
    return Predictions(classes=tuple(arrays['classes'].tolist()), splits=splits)


def _problem(arrays: Mapping[str, np.ndarray], task: Task | None) -> str | None:
    """The first problem in the content of a file; None without a problem."""
    classes = arrays.get('classes')
    if classes is None or classes.dtype.kind != 'U' or classes.ndim != 1:
        return 'classes are not a list of text'
    names = {name.rpartition('_')[0] for name in arrays} - {''}
    for name in sorted(names):
        parts = {part: arrays.get(f'{name}_{part}') for part in PARTS}
        if problem := _split_problem(parts, len(classes), task):
            return f'{name}_{problem}'
    return None


def _split_problem(
    parts: Mapping[str, np.ndarray | None], num_classes: int, task: Task | None
) -> str | None:
    """The first problem in the arrays of a split; it starts with the name of the array."""
    ids, labels = parts['ids'], parts['labels']
    count = 0 if ids is None or ids.ndim != 1 else len(ids)
    task = task or choice.recorded(multi_label=labels is not None and labels.dtype.kind == 'b')
    each: dict[str, tuple[int, ...]] = {'logits': (task.outputs(num_classes),), 'features': (-1,)}
    each['labels'] = task.label_shape(num_classes)
    for part, array in parts.items():
        if array is None:
            if part == 'features':
                continue
            return f'{part} is missing'
        wanted = (count, *each.get(part, ()))
        fits = len(array.shape) == len(wanted) and all(
            size in (n, -1) for n, size in zip(array.shape, wanted, strict=True)
        )
        if not fits or array.dtype.kind not in DTYPE_KINDS[part]:
            return f'{part} is {list(array.shape)} {array.dtype}, wanted {list(wanted)}'
    if labels is not None and task.one_label and count and not _within(labels, num_classes):
        return f'labels are {labels.min()} to {labels.max()}, wanted 0 to {num_classes - 1}'
    escaping = [path for path in parts['paths'].tolist() if _escapes(path)]  # type: ignore[union-attr]
    return f'paths has {escaping[0]!r}, wanted a path below the folder' if escaping else None


def _within(labels: np.ndarray, num_classes: int) -> bool:
    return bool(labels.min() >= 0 and labels.max() < num_classes)


def _escapes(path: str) -> bool:
    pure = pathlib.PurePosixPath(path)
    return pure.is_absolute() or '..' in pure.parts


def text_array(values: Sequence[str]) -> np.ndarray:
    """An array of text, which can be empty."""
    return np.array(list(values), np.str_) if len(values) else np.zeros(0, '<U1')


def data_folder(splits: Mapping[str, Examples], declared: str | None = None) -> pathlib.Path | None:
    """The folder that the paths of all images are relative to; None without image files.

    It is the folder of the data source if all image files are below it, and otherwise the deepest
    folder that contains all of them.

    Args:
        splits: the examples.
        declared: the path of the data source in the config, a folder or a file in it.
    """
    files = [path for examples in splits.values() for path in _files(examples) if path]
    if not files:
        return None
    if declared is not None:
        path = _absolute(declared)
        folder = path if path.is_dir() else path.parent
        if all(file.is_relative_to(folder) for file in files):
            return folder
    return pathlib.Path(os.path.commonpath([file.parent for file in files]))


def relative_paths(examples: Examples, folder: pathlib.Path | None) -> np.ndarray:
    """The path [N] of each image relative to a folder; '' for an image without its own file."""
    if folder is None or examples.encoded is None:
        return np.full(len(examples), '', '<U1')
    texts = [
        _text(file.relative_to(folder)) if file and file.is_relative_to(folder) else ''
        for file in _files(examples)
    ]
    return text_array(texts)


def _files(examples: Examples) -> list[pathlib.Path | None]:
    """The absolute path of each image without `..`; None for a record in a larger file."""
    paths = (getattr(image, 'path', None) for image in examples.encoded or ())
    return [_absolute(path) if isinstance(path, pathlib.Path) else None for path in paths]


def _absolute(path: str | pathlib.Path) -> pathlib.Path:
    # resolve() would follow links out of the folder.
    return pathlib.Path(os.path.abspath(pathlib.Path(path).expanduser()))  # noqa: PTH100


def _text(path: pathlib.Path) -> str:
    """A path as text; bytes that are not UTF-8 become backslash escapes."""
    return path.as_posix().encode('utf-8', 'backslashreplace').decode()
