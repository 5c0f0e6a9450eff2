"""The page of the fields that a config can set: type, default, range and meaning.

Types and defaults are those of the dataclasses, meanings those of their docstrings. A range is what
the class itself answers when a field is given a number out of it.
"""

import dataclasses
import enum
import math
import re
from collections.abc import Iterator
from typing import Any

from _pages.public_names import FOLDERS, by_folder
from tljax.config import resolved, validation, value_types
from tljax.config.experiment import Experiment
from tljax.config.value_text import value_text

OUTSIDE = (-math.inf, math.nan, -1e9, -1, 0, 0.5, 1, 2, 1e3, 1e6, 1e12, math.inf)
STATED = re.compile(r'\b(?:is|are) .*?, wanted (.*)$')
INTRODUCTION = """# Fields of a config

Every class that can stand in a config, with its fields. `tljax config --config=NAME` prints the
fields of one experiment with their values. On a command line a field is set by
`--config.FIELD=VALUE` ([commands.md](../commands.md#grammar)).

A field without a default is required. *Range* is what the class wants of a number; a value out of
it stops the command before anything is compiled.
"""


def page(experiment: Experiment) -> str:
    """The page as Markdown.

    Args:
        experiment: any valid experiment; the ranges of the fields of `Experiment` are asked of it.
    """
    parts = [INTRODUCTION]
    for folder, classes in config_classes().items():
        parts.append(f'## {FOLDERS[folder]}\n')
        parts += [_section(cls, experiment) for cls in classes]
    return '\n'.join(parts)


def config_classes() -> dict[str, list[type]]:
    """The public dataclasses whose fields a config sets, by folder."""
    result = {}
    for folder, names in by_folder().items():
        classes = [one.value for one in names if _is_config_class(one.value)]
        if classes:
            result[folder] = sorted(classes, key=lambda cls: (cls is not Experiment, cls.__name__))
    return result


def _is_config_class(value: Any) -> bool:
    """The command line sets fields of a config's objects, so none of their classes is frozen."""
    if not isinstance(value, type) or not dataclasses.is_dataclass(value):
        return False
    return not value.__dataclass_params__.frozen and bool(dataclasses.fields(value))  # type: ignore[attr-defined]


def _section(cls: type, experiment: Experiment) -> str:
    first = (cls.__doc__ or '').strip().partition('\n\n')[0].replace('\n', ' ')
    texts = resolved.attribute_texts(cls)
    example = experiment if cls is Experiment else _example(cls)
    rows = ['| field | what it is | type | default | range |', '| --- | --- | --- | --- | --- |']
    for field in dataclasses.fields(cls):
        default = resolved.default_of(field)
        shown = '' if default == resolved.REQUIRED else f'`{_cell(value_text(default))}`'
        kind = value_types.field_types(cls)[field.name]
        wanted = '; '.join(ranges(cls, field, example))
        cells = (_cell(texts.get(field.name, '')), _cell(_type_text(kind)), shown, _cell(wanted))
        rows.append(f'| `{field.name}` | {" | ".join(cells)} |')
    heading = f'### {cls.__name__}\n\n{_escaped(" ".join(first.split()))}\n'
    return heading + '\n' + '\n'.join(rows) + '\n'


def ranges(cls: type, field: dataclasses.Field, example: Any) -> list[str]:
    """What a class says that it wants of a numeric field, asked with numbers out of range."""
    kinds = value_types.alternatives(value_types.field_types(cls)[field.name])
    number = next((kind for kind in kinds if kind in (int, float)), None)
    if number is None or example is None:
        return []
    return list(dict.fromkeys(_answers(example, field.name, number)))


def _answers(example: Any, name: str, number: type) -> Iterator[str]:
    for value in OUTSIDE:
        if number is int and not float(value).is_integer():
            continue
        tried = dataclasses.replace(example, **{name: number(value)})
        for line in _problems(tried):
            path, _, rest = line.removeprefix('config.').partition(' ')
            if path == name and (stated := STATED.search(f'is {rest.removeprefix("is ")}')):
                yield stated[1]


def _problems(value: Any) -> list[str]:
    if not isinstance(value, Experiment):
        try:
            return list(getattr(value, 'problems', list)())
        except (ArithmeticError, ValueError):  # a number that no check can compute with
            return []
    try:
        validation.validate(value)
    except validation.ConfigError as error:
        return str(error).splitlines()
    return []


def _example(cls: type) -> Any:
    """An object with the defaults of a class; None if a required field is no number or text."""
    values = {}
    for field in dataclasses.fields(cls):
        if field.init and resolved.default_of(field) == resolved.REQUIRED:
            kind = value_types.alternatives(value_types.field_types(cls)[field.name])[0]
            if kind not in (int, float, str):
                return None
            values[field.name] = kind(1)
    return cls(**values)


def _type_text(kind: Any) -> str:
    """A type in words; an object by the contract that it fulfils."""
    kinds = value_types.alternatives(kind)
    text = ' or '.join(_one_type_text(one) for one in kinds if one is not value_types.NONE)
    return f'{text} or none' if value_types.NONE in kinds else text


def _one_type_text(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ', '.join(f'`{member.value}`' for member in kind)
    if value_types.is_tuple(kind):
        inner = ', '.join(
            '...' if one is ... else _type_text(one) for one in getattr(kind, '__args__', ())
        )
        return f'({inner})'
    return getattr(kind, '__name__', str(kind))


def _cell(text: str) -> str:
    """A text in one cell of a table."""
    return ' '.join(_escaped(text).split())


def _escaped(text: str) -> str:
    """Markdown of a text whose code is in backticks."""
    parts = text.split('`')
    plain = [re.sub(r'([*_<>|\[\]])', r'\\\1', part) for part in parts[::2]]
    code = [part.replace('|', r'\|') for part in parts[1::2]]
    pairs = [f'{a}`{b}`' for a, b in zip(plain, code, strict=False)]
    return ''.join(pairs) + (plain[-1] if len(plain) > len(code) else '')
