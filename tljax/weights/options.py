"""Options of a network that a file stores next to its tensors: in dictionaries and metadata."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tljax.models import windows
from tljax.types import InputError

# Names of dictionaries with options of a network in checkpoints and configurations.
HOLDERS = re.compile(
    r'(args?|arch|architecture|cfg|config|configs|hyper_?parameters|hparams|options?|opts?|kwargs|'
    r'settings|meta|metadata|model|backbone|encoder|network|net|vision|pretrained_cfg|preprocessing|'
    r'data_preprocessor|img_norm_cfg|normali[sz]ation|'
    r'(model|backbone|encoder|vision|init|net|network|vit|resnet|convnext)_(args|cfg|config|kwargs|'
    r'params|hparams|options))'
)
DEPTH = 4


class OptionError(InputError):
    """An option of a network that tljax does not implement, or that contradicts the entries."""


def collect(content: Any) -> dict[str, Any]:
    """The options in a checkpoint, by name.

    Args:
        content: the content of the file; objects of unknown classes have their `fields`.

    Raises:
        OptionError: two places state different values of one option.
    """
    result: dict[str, Any] = {}
    for name, value in _options(content, 0):
        if name in result and result[name] != value:
            raise OptionError(f'{name} is stated as {result[name]!r} and as {value!r}')
        result[name] = value
    return result


def first(options: Mapping[str, Any], names: Sequence[str]) -> tuple[str, Any]:
    """The first name with a value, and that value; ('', None) if none has one."""
    return next(((n, options[n]) for n in names if options.get(n) is not None), ('', None))


def from_texts(texts: Mapping[str, str]) -> dict[str, Any]:
    """The options in the metadata of a safetensors file, whose values are texts or JSON."""
    return collect({name: _parsed(text) for name, text in texts.items()})


def from_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The options that entries without a counterpart in tljax show.

    Google's attention kernels have an axis of heads. The coordinates in a window, which files of a
    Swin Transformer V2 can have, show the windows and those of its pretraining.
    """
    attention = re.compile(r'.*/MultiHeadDotProductAttention_\d+/query/kernel')
    coordinates = re.compile(r'.*?(\d+)\.(?:blocks\.)?0\.att.*\.relative_coords_table')
    steps = {}
    for name, value in entries.items():
        shape = getattr(value, 'shape', ())
        if attention.fullmatch(name) and len(shape) == 3:
            return {'num_heads': int(shape[1])}
        if (place := coordinates.fullmatch(name)) and len(shape) == 4:
            steps[int(place[1])] = np.asarray(value)[0]
    if not steps:
        return {}
    of_stages = [steps[index] for index in sorted(steps)]
    return {
        'window_size': [(len(one) + 1) // 2 for one in of_stages],
        'pretrained_window_sizes': [windows.pretrained_window(one) for one in of_stages],
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _options(content: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """The named simple values, also of the dictionaries under `HOLDERS`."""
    fields = _fields(content)
    if fields is None or depth > DEPTH:
        return
    for name, value in fields.items():
        inner = _fields(value)
        if not isinstance(name, str) or value is None:
            continue
        if inner is None and _is_simple(value):
            yield name, list(value) if isinstance(value, tuple) else value
        elif inner is not None and HOLDERS.fullmatch(name.lower()) and not _has_arrays(inner):
            yield from _options(inner, depth + 1)


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """The items of a dictionary, or the fields of a `torch_pickle.StandIn`."""
    if isinstance(value, Mapping):
        return value
    fields = getattr(value, 'fields', None)
    return fields if isinstance(fields, dict) else None


def _is_simple(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= 16 and all(isinstance(v, str | int | float) for v in value)
    return isinstance(value, str | int | float)


def _has_arrays(fields: Mapping[Any, Any]) -> bool:
    return any(hasattr(value, 'dtype') and getattr(value, 'ndim', 0) for value in fields.values())
