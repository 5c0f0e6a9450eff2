"""Labels in arrays: strings, whole floats and columns [N, 1] become numbers; others are refused."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tljax.data import class_order, csv_cells
from tljax.types import InputError

NAMES = ('labels', 'train_labels', 'val_labels', 'test_labels')
SHOWN = 20  # names in one message


class ArraysError(InputError):
    """Arrays that cannot be used as a data set; the message lists the reasons."""


def normalised(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Converts labels that are strings, whole floats or columns [N, 1] to integers [N].

    A string becomes its index in `class_names`. Without `class_names`, the sorted labels of `train`
    (or of all labels without `train`) become the class names.

    Args:
        content: arrays by name, as in `Arrays`.
        where: their source, for messages.

    Raises:
        ArraysError: a label is empty or not the name of a class.
    """
    content = dict(content)
    if 'class_names' in content:
        names = [csv_cells.clean(name) for name in _texts(content['class_names'])]
        content['class_names'] = np.asarray(names, str)
    present = [name for name in NAMES if name in content]
    content |= {name: _numbers(np.asarray(content[name])) for name in present}
    texts = {name: content[name] for name in present if content[name].dtype.kind == 'U'}
    if texts:
        content |= _indices(texts, content.get('class_names', ()), where)
    return content


def _numbers(values: np.ndarray) -> np.ndarray:
    """Labels as integers or cleaned strings; others unchanged."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    strings = values.dtype.kind == 'O' and all(isinstance(x, (str, bytes)) for x in values.flat)
    if values.dtype.kind in 'SU' or (strings and values.size):
        cleaned = [csv_cells.clean(text) for text in _texts(values)]
        return np.asarray(cleaned, str).reshape(values.shape)
    integral = values.dtype.kind == 'f' and values.ndim == 1 and (values == np.round(values)).all()
    if values.dtype.kind == 'b' or (integral and np.isfinite(values).all()):
        return values.astype(np.int64) if values.ndim == 1 else values
    return values


def _texts(values: Any) -> list[str]:
    flat = np.asarray(values).ravel().tolist()
    return [x.decode('utf-8', 'replace') if isinstance(x, bytes) else str(x) for x in flat]


def _indices(texts: Mapping[str, np.ndarray], class_names: Any, where: str) -> dict[str, Any]:
    """The indices of labels in the class names, and `class_names`."""
    for name, values in texts.items():
        missing = np.flatnonzero(np.isin(values, ('', 'nan', 'NaN')))
        if missing.size:
            raise ArraysError(
                f'{where}: {name} has {missing.size} empty labels, the first at {missing[0]}'
            )
    named = [texts['train_labels']] if 'train_labels' in texts else list(texts.values())
    names = list(class_names) or class_order.ordered(
        {name for values in named for name in values.ravel().tolist()}
    )
    numbers = {name: number for number, name in enumerate(names)}
    for name, values in texts.items():
        unknown = [(i, one) for i, one in enumerate(values.ravel().tolist()) if one not in numbers]
        if unknown:
            raise ArraysError(
                f'{where}: {name} has {len(unknown)} of other classes, the first at '
                f'{unknown[0][0]}: {unknown[0][1]!r}; wanted one of {names[:SHOWN]}'
            )
    arrays_by_name: dict[str, Any] = {'class_names': np.asarray(names, str)}
    for name, values in texts.items():
        indices = [numbers[one] for one in values.ravel().tolist()]
        arrays_by_name[name] = np.asarray(indices, np.int64).reshape(values.shape)
    return arrays_by_name


def problems(values: np.ndarray, name: str, count: int) -> list[str]:
    """Messages for labels that do not fit `count` images; empty if they fit."""
    if values.ndim == 2 and values.size and len(values) == count:
        if np.isin(values, (0, 1)).all():
            return []
        return [f'{name} is {values.shape}, wanted only 0 and 1, or one label per image']
    if values.shape == (count,) and values.dtype.kind == 'f':
        odd = ~np.isfinite(values) | (values != np.round(values))
        first = int(np.flatnonzero(odd)[0])
        what = f'{odd.sum()} values that are not integers, the first at {first}: {values[first]}'
        return [f'{name} is {values.dtype} {values.shape} and has {what}; wanted integers']
    if values.shape != (count,) or values.dtype.kind not in 'iu':
        return [f'{name} is {values.dtype} {values.shape}, wanted {(count,)} integers or strings']
    negative = np.flatnonzero(values < 0)
    if not negative.size:
        return []
    first = int(negative[0])
    problem = f'{negative.size} values below 0, the first at {first}: {values[first]}'
    return [f'{name} has {problem}; wanted 0 or more: leave out images without a label']
