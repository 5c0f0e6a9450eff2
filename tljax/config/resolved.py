"""Every field of an experiment: its value, what set it, its default, and what it does."""

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
    """A field of an experiment, or of an object in it."""

    path: str  # optimizer.learning_rate
    value: Any
    default: Any  # REQUIRED where the class has none
    set_by: str  # DEFAULT, CONFIG or COMMAND_LINE
    text: str  # what it does, a sentence; empty where its class does not say

    def record(self) -> dict[str, Any]:
        """As JSON can hold it."""
        default = self.default if self.default == REQUIRED else json_form.encode(self.default)
        return {
            'field': self.path,
            'value': json_form.encode(self.value),
            'set_by': self.set_by,
            'default': default,
            'text': self.text,
        }


def rows(experiment: Any, overridden: Sequence[str] = ()) -> list[Row]:
    """The fields of an experiment in order, each followed by those of the object in it.

    Args:
        experiment: with everything set.
        overridden: the fields that the command line set: `strategy`, `augmentations[0].pad_px`.
    """
    return _rows('', experiment, tuple(overridden))


def _rows(prefix: str, value: Any, overridden: tuple[str, ...]) -> list[Row]:
    texts, found = attribute_texts(type(value)), []
    for field in dataclasses.fields(value):
        inner, path = getattr(value, field.name), f'{prefix}{field.name}'
        default = default_of(field)
        set_by = DEFAULT if default != REQUIRED and inner == default else CONFIG
        if any(_covers(one, path) for one in overridden):
            set_by = COMMAND_LINE
        text = texts.get(field.name, '')
        found.append(Row(path=path, value=inner, default=default, set_by=set_by, text=text))
        found += _inside(path, inner, overridden)
    return found


def _inside(path: str, value: Any, overridden: tuple[str, ...]) -> list[Row]:
    """The rows of an object, or of each object of a tuple."""
    if isinstance(value, tuple):
        parts = [_inside(f'{path}[{i}]', item, overridden) for i, item in enumerate(value)]
        return [row for part in parts for row in part]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return []
    return _rows(f'{path}.', value, overridden)


def _covers(overridden: str, path: str) -> bool:
    """Whether setting one field set another: itself, or what is inside it."""
    return path == overridden or path.startswith((f'{overridden}.', f'{overridden}['))


def default_of(field: dataclasses.Field) -> Any:
    """The default of a field of a dataclass; REQUIRED where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else copy.copy(field.default)


def attribute_texts(kind: type) -> dict[str, str]:
    """What the section `Attributes:` of a class's docstring says of each field."""
    section, found, last = ATTRIBUTES.search(kind.__doc__ or ''), {}, ''
    indent = None
    for line in section[1].splitlines() if section else ():
        entry = ENTRY.match(line)
        depth = len(line) - len(line.lstrip())
        if line.strip() and indent is not None and depth < indent:
            break
        if entry and (indent is None or depth == indent):
            indent, last = depth, entry[1]
            found[last] = entry[2].strip()
        elif last and line.strip():
            found[last] += f' {line.strip()}'
    return found
