"""An experiment as the source of a config file."""

import dataclasses
import enum
import importlib
from typing import Any

from tljax.config import json_form
from tljax.config.experiment import ConfigError, Experiment

WIDTH = 100
INDENT = '    '


def source(experiment: Experiment, text: str) -> str:
    """The text of a config file whose `get_config()` returns an equal experiment.

    Fields that have their default are omitted.

    Args:
        experiment: that is returned.
        text: the docstring of the file.

    Raises:
        ConfigError: a class of the experiment cannot be imported by its name.
    """
    check(experiment)
    kinds = {type(value) for value in _objects(experiment)}
    own = sorted((k.__module__, k.__qualname__) for k in kinds if not json_form.is_public(k))
    imports = ['import tljax', *(f'from {module} import {name}' for module, name in own)]
    body = f'{INDENT}return {_code(experiment, 1, len("return "))}'
    quoted = text.replace('\\', '\\\\').replace('"""', "'''")
    return (
        f'"""{quoted}\n"""\n\n'
        + '\n'.join(imports)
        + '\n\n\ndef get_config() -> tljax.Experiment:\n'
        f'{INDENT}"""The experiment."""\n{body}\n'
    )


def check(experiment: Experiment) -> None:
    """Checks that every class of an experiment can be imported by its name.

    Raises:
        ConfigError: a class cannot.
    """
    kinds = dict.fromkeys(type(value) for value in _objects(experiment))
    problems = [
        f'config: {kind.__qualname__} is defined in the config file; wanted in a module that can '
        'be imported, because the advised config is a file of its own'
        for kind in kinds
        if not json_form.is_public(kind) and not _is_importable(kind)
    ]
    if problems:
        raise ConfigError('\n'.join(problems))


def _is_importable(kind: type) -> bool:
    if kind.__module__ in ('config_file', '__main__'):
        return False
    try:
        module = importlib.import_module(kind.__module__)
    except ImportError:
        return False
    return getattr(module, kind.__qualname__, None) is kind


def _objects(value: Any) -> list[Any]:
    """All dataclasses and enums in a value that the file spells out, with the value itself."""
    if isinstance(value, enum.Enum):
        return [value]
    if isinstance(value, tuple):
        return [inner for item in value for inner in _objects(item)]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return []
    return [value, *(inner for _, item in _changed(value) for inner in _objects(item))]


def _changed(value: Any) -> list[tuple[str, Any]]:
    """The fields that differ from their defaults."""
    result = []
    for field in dataclasses.fields(value):
        item, default = getattr(value, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if type(item) is not type(default) or item != default:
            result.append((field.name, item))
    return result


def _code(value: Any, depth: int, used: int = 0) -> str:
    """Python code of a value, on one line if it fits, else one line per item."""
    if isinstance(value, enum.Enum):
        return f'{_name(type(value))}.{value.name}'
    if isinstance(value, tuple):
        items, opening = [(None, item) for item in value], '('
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items, opening = _changed(value), f'{_name(type(value))}('
    else:
        return repr(value)
    parts = [_item(name, item, depth + 1) for name, item in items]
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    flat = f'{opening}{", ".join(parts)}{comma})'
    if '\n' not in flat and len(INDENT) * depth + used + len(flat) < WIDTH:
        return flat
    lines = ''.join(f'{INDENT * (depth + 1)}{part},\n' for part in parts)
    return f'{opening}\n{lines}{INDENT * depth})'


def _name(kind: type) -> str:
    """`tljax.Name` of a public class, `Name` of one that is imported from the user's module."""
    name = kind.__qualname__
    return f'tljax.{name}' if json_form.is_public(kind) else name


def _item(name: str | None, value: Any, depth: int) -> str:
    return _code(value, depth) if name is None else f'{name}={_code(value, depth, len(name) + 1)}'
