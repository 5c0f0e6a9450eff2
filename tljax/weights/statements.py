"""What files state beside their tensors: options in dictionaries, objects and metadata."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tljax.types import InputError

# Keys under which checkpoints and configurations keep the options of a network.
HOLDERS = re.compile(
    r'(args?|arch|architecture|cfg|config|configs|hyper_?parameters|hparams|options?|opts?|kwargs|'
    r'settings|meta|metadata|model|backbone|encoder|network|net|vision|pretrained_cfg|preprocessing|'
    r'data_preprocessor|img_norm_cfg|normali[sz]ation|'
    r'(model|backbone|encoder|vision|init|net|network|vit|resnet|convnext)_(args|cfg|config|kwargs|'
    r'params|hparams|options))'
)
DEPTH = 4


class StatedError(InputError):
    """A statement beside weights that the implementation cannot follow."""


def beside(content: Any) -> dict[str, Any]:
    """The facts that a checkpoint states beside its tensors, by name.

    Args:
        content: what the file holds; objects of unknown classes have their `fields`.

    Raises:
        StatedError: two places state different values of one fact.
    """
    found: dict[str, Any] = {}
    for name, value in _facts(content, 0):
        if name in found and found[name] != value:
            raise StatedError(f'{name} is stated as {found[name]!r} and as {value!r}')
        found[name] = value
    return found


def in_texts(texts: Mapping[str, str]) -> dict[str, Any]:
    """Likewise, of the metadata of a safetensors file, whose values are texts or JSON."""
    return beside({name: _parsed(text) for name, text in texts.items()})


def in_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What entries state of themselves: the heads are an axis of Google's attention kernels."""
    attention = re.compile(r'.*/MultiHeadDotProductAttention_\d+/query/kernel')
    for name, value in entries.items():
        if attention.fullmatch(name) and len(getattr(value, 'shape', ())) == 3:
            return {'num_heads': int(value.shape[1])}
    return {}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _facts(content: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Every simple value under a name, and those in dictionaries that hold options."""
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
            yield from _facts(inner, depth + 1)


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """A dictionary, or the fields of an object that stands in for an unknown one."""
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
