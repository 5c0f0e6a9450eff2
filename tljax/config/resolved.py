"""Lists every field of an experiment: its value, what set it, its default and its meaning."""

import copy
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from tljax.config import json_form

DEFAULT, CONFIG, COMMAND_LINE = 'default', 'config', 'command line'
REQUIRED = 'required'
ATTRIBUTES = re.compile(r'^\s*Attributes:\n(.*)', re.DOTALL | re.MULTILINE)
ENTRY = re.compile(r'^ +(\w+): (.*)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A field of an experiment, or of an object in it.

    Attributes:
        path: of the field, e.g. `optimizer.learning_rate`.
        value: of the field.
        default: of the field; REQUIRED without one.
        set_by: DEFAULT, CONFIG or COMMAND_LINE.
        text: the description in the docstring of its class; empty without one.
    """

    path: str
    value: Any
    default: Any
    set_by: str
    text: str

    def record(self) -> dict[str, Any]:
        """The row as JSON."""
        default = self.default if self.default == REQUIRED else json_form.encode(self.default)
        return {
            'field': self.path,
            'value': json_form.encode(self.value),
            'set_by': self.set_by,
            'default': default,
            'text': self.text,
        }


def rows(experiment: Any, overridden: Sequence[str] = ()) -> list[Row]:
    """The fields of an experiment in order, each followed by the fields of its value.

    Args:
        experiment: the experiment.
        overridden: paths of the fields that the command line set, e.g. `augmentations[0].pad_px`.
    """
    return _rows('', experiment, tuple(overridden))


def _rows(prefix: str, value: Any, overridden: tuple[str, ...]) -> list[Row]:
    texts, result = attribute_texts(type(value)), []
    for field in dataclasses.fields(value):
        inner, path = getattr(value, field.name), f'{prefix}{field.name}'
        default = default_of(field)
        set_by = DEFAULT if default != REQUIRED and inner == default else CONFIG
        if any(_covers(one, path) for one in overridden):
            set_by = COMMAND_LINE
        text = texts.get(field.name, '')
        result.append(Row(path=path, value=inner, default=default, set_by=set_by, text=text))
        result += _inner_rows(path, inner, overridden)
    return result


def _inner_rows(path: str, value: Any, overridden: tuple[str, ...]) -> list[Row]:
    """The rows of an object, or of all objects of a tuple."""
    if isinstance(value, tuple):
        parts = [_inner_rows(f'{path}[{i}]', item, overridden) for i, item in enumerate(value)]
        return [row for part in parts for row in part]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return []
    return _rows(f'{path}.', value, overridden)


def _covers(overridden: str, path: str) -> bool:
    """Whether a path is an overridden field or inside one."""
    return path == overridden or path.startswith((f'{overridden}.', f'{overridden}['))


def default_of(field: dataclasses.Field) -> Any:
    """The default of a field of a dataclass; REQUIRED without one."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else copy.copy(field.default)


def attribute_texts(kind: type) -> dict[str, str]:
    """The description of each field, in the docstring of a class or of a class it inherits from."""
    result: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        result |= _own_texts(one.__doc__ or '')
    return result


def _own_texts(docstring: str) -> dict[str, str]:
    """The entries of the section `Attributes:` of a docstring."""
    section, result, last = ATTRIBUTES.search(docstring), {}, ''
    indent = None
    for line in section[1].splitlines() if section else ():
        entry = ENTRY.match(line)
        depth = len(line) - len(line.lstrip())
        if line.strip() and indent is not None and depth < indent:
            break
        if entry and (indent is None or depth == indent):
            indent, last = depth, entry[1]
            result[last] = entry[2].strip()
        elif last and line.strip():
            result[last] += f' {line.strip()}'
    return result
