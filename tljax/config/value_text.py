"""Values and the fields of classes as text, in the syntax of the command line."""

import dataclasses
import enum
from typing import Any


def value_text(value: Any) -> str:
    """A value; of an object only the fields that differ from their defaults."""
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return f'({", ".join(map(value_text, value))})'
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object_text(value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _object_text(value: Any) -> str:
    values = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    texts = [
        f'{field.name}={value_text(one)}'
        for field, one in values
        if is_required(field) or one != _default(field)
    ]
    return type(value).__name__ + (f'({", ".join(texts)})' if texts else '')


def fields_text(cls: type) -> str:
    """The fields of a class with their defaults: `stage (required), learning_rate_scale=1.0`."""
    texts = [
        f'{field.name} (required)'
        if is_required(field)
        else f'{field.name}={value_text(_default(field))}'
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
    ]
    return ', '.join(texts) or 'none'


def is_required(field: dataclasses.Field) -> bool:
    """Whether the constructor needs a value for a field."""
    missing = dataclasses.MISSING
    return field.init and field.default is missing and field.default_factory is missing


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
