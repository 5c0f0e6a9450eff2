"""An experiment as a Python file that a person reads and `tljax.main` runs."""

import dataclasses
import enum
import importlib
from typing import Any

from tljax.config import json_form
from tljax.config.experiment import ConfigError, Experiment

WIDTH = 100
INDENT = '    '


def source(experiment: Experiment, text: str) -> str:
    """A config file whose `get_config()` returns an equal experiment.

    Fields that have their default are left out.

    Args:
        experiment: what it returns.
        text: its docstring.

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
    """Raises a `ConfigError` where a class of an experiment cannot be imported by its name."""
    found = []
    for value in _objects(experiment):
        kind = type(value)
        if json_form.is_public(kind):
            continue
        try:
            there = getattr(importlib.import_module(kind.__module__), kind.__qualname__, None)
        except ImportError:
            there = None
        if there is not kind or kind.__module__ in ('config_file', '__main__'):
            found.append(
                f'config: {kind.__qualname__} is defined in the config file; wanted in a module '
                'that can be imported, as the advised config stands alone'
            )
    if found:
        raise ConfigError('\n'.join(dict.fromkeys(found)))


def _objects(value: Any) -> list[Any]:
    """The dataclasses and enums in a value that is spelled out, itself included."""
    if isinstance(value, enum.Enum):
        return [value]
    if isinstance(value, tuple):
        return [found for item in value for found in _objects(item)]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return []
    return [value, *(found for _, item in _stated(value) for found in _objects(item))]


def _stated(value: Any) -> list[tuple[str, Any]]:
    """The fields that differ from their defaults."""
    found = []
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        same = type(item) is type(default) and item == default
        if not same:
            found.append((field.name, item))
    return found


def _code(value: Any, depth: int, used: int = 0) -> str:
    """Python code of a value; over several lines where one is too short."""
    if isinstance(value, enum.Enum):
        return f'{_name(type(value))}.{value.name}'
    if isinstance(value, tuple):
        items = [(None, item) for item in value]
        opening, closing = '(', ')'
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = _stated(value)
        opening, closing = f'{_name(type(value))}(', ')'
    else:
        return repr(value)
    parts = [_item(name, item, depth + 1) for name, item in items]
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    flat = f'{opening}{", ".join(parts)}{comma}{closing}'
    if '\n' not in flat and len(INDENT) * depth + used + len(flat) < WIDTH:
        return flat
    inside = ''.join(f'{INDENT * (depth + 1)}{part},\n' for part in parts)
    return f'{opening}\n{inside}{INDENT * depth}{closing}'


def _name(kind: type) -> str:
    """A class as the file names it: through tljax, or as imported from the user's module."""
    name = kind.__qualname__
    return f'tljax.{name}' if json_form.is_public(kind) else name


def _item(name: str | None, value: Any, depth: int) -> str:
    return _code(value, depth) if name is None else f'{name}={_code(value, depth, len(name) + 1)}'
