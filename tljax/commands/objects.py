"""Values of the command line: `3e-4`, `none`, `FreezeBelow(stage=stage3)`, `(a, b)`.

The type of a field decides what a text means.
"""

import dataclasses
import difflib
import enum
from typing import Any

from tljax.commands import value_syntax
from tljax.commands.command_line import SWITCH, UsageError, nearest, shown
from tljax.commands.value_syntax import Call, Items, Text, Value
from tljax.config.field_paths import UNSET
from tljax.config.value_text import fields_text, is_required
from tljax.config.value_types import (
    CLASSES_SHOWN,
    NONE,
    alternatives,
    element_type,
    field_types,
    fits,
    fitting_classes,
    is_class,
    is_tuple,
    public_class,
    type_text,
)


def read(text: str, kind: Any, flag: str) -> Any:
    """Reads a text as a value of a type.

    Args:
        text: as it is on the command line.
        kind: the annotation of the field.
        flag: `--config.FIELD`, for messages.

    Raises:
        UsageError: the text is no value of that type.
    """
    kinds = alternatives(kind)
    wants_tuple = any(map(is_tuple, kinds))
    try:
        value = value_syntax.parse(text)
    except ValueError as error:
        if wants_tuple:
            return _read_without_brackets(text, kind, flag)
        if str in kinds:  # a path may have any character
            return text
        raise UsageError(f'{flag}={shown(text)}: {error}') from None
    if wants_tuple and not isinstance(value, Items) and not _is_none(value, kinds):
        value = Items((value,))  # one item needs no brackets
    if str in kinds and _is_plain_text(value):
        return text
    return _build(value, kind, flag, text)


def _read_without_brackets(text: str, kind: Any, flag: str) -> Any:
    """Reads `a, b` as `(a, b)`."""
    try:
        return _build(value_syntax.parse(f'({text})'), kind, flag, text)
    except ValueError as error:
        raise UsageError(f'{flag}={shown(text)}: {error}') from None


def _is_plain_text(value: Value) -> bool:
    """Whether a value only looks like a tuple or a call, for a field that can hold any text."""
    unknown = isinstance(value, Call) and public_class(value.name) is None
    return unknown or isinstance(value, Items)


def _build(value: Value, kind: Any, flag: str, text: str) -> Any:
    """Turns a parsed value into a value of a type; `text` is its source, for messages."""
    kinds = alternatives(kind)
    if _is_none(value, kinds):
        return None
    if isinstance(value, Items):
        for one in filter(is_tuple, kinds):
            return _build_tuple(value, one, flag)
    elif isinstance(value, Call):
        return _build_object(value, kinds, flag)
    else:
        for one in sorted(kinds, key=lambda one: one is str):  # any word is a str, so it comes last
            try:
                return _build_scalar(value, one)
            except ValueError:
                continue
        if classes := list(filter(is_class, kinds)):
            return _build_object(Call(value.text), classes, flag)
    raise UsageError(f'{flag}={shown(text)}: wanted {type_text(kind)}')


def _is_none(value: Value, kinds: list[Any]) -> bool:
    if not isinstance(value, Text) or value.quoted:
        return False
    return NONE in kinds and value.text.lower() == 'none'


def _build_tuple(value: Items, kind: Any, flag: str) -> tuple[Any, ...]:
    return tuple(
        _build(item, element_type(kind, index), f'{flag}[{index}]', str(item))
        for index, item in enumerate(value.items)
    )


def _build_scalar(value: Text, kind: Any) -> Any:
    """Turns a word into a value of one type.

    Raises:
        ValueError: it is no value of that type.
    """
    text = value.text
    if kind is str or kind is Any:
        return text
    if kind is bool and text.lower() in SWITCH:
        return SWITCH[text.lower()]
    if kind in (int, float):
        return kind(text)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        for member in kind:
            if text.lower() in (str(member.value).lower(), member.name.lower()):
                return member
    if is_class(kind) and text.isidentifier():
        cls = public_class(text)
        if cls is not None and fits(cls, [kind]):
            return _build_object(Call(text), [kind], '')
    raise ValueError(text)


def _build_object(value: Call, kinds: list[Any], flag: str) -> Any:
    """Constructs an object; required fields that the text leaves out are `UNSET`."""
    cls = public_class(value.name)
    if cls is None or not fits(cls, kinds):
        raise UsageError(_unfit_class(value.name, cls, kinds, flag))
    hints = field_types(cls)
    values = {}
    for name, field_value in value.fields:
        if name not in hints:
            raise UsageError(
                f'{flag}={shown(str(value))}: {value.name} has no field {shown(name)!r}; '
                f'{nearest(name, list(hints))} Its fields: {fields_text(cls)}'
            )
        values[name] = _build(field_value, hints[name], f'{flag}.{name}', str(field_value))
    required = [field.name for field in dataclasses.fields(cls) if is_required(field)]
    return cls(**{**dict.fromkeys(required, UNSET), **values})


def _unfit_class(name: str, cls: Any, kinds: list[Any], flag: str) -> str:
    """Says why a name cannot be used for a field, and which classes can."""
    names = fitting_classes(kinds)
    near = difflib.get_close_matches(name, names, n=3)
    reason = 'is no class of tljax' if cls is None else 'does not fit there'
    if near:
        hint = f'did you mean {" or ".join(near)}?'
    elif names:
        more = ', …' if len(names) > CLASSES_SHOWN else ''
        hint = f'the classes that fit: {", ".join(names[:CLASSES_SHOWN])}{more}'
    else:
        hint = 'no class fits this field'
    name = shown(name)
    return f'{flag}={name}: {name} {reason}; {hint}'
