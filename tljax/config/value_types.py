"""The types of fields, and the classes whose objects a command line can construct.

These classes are tljax's public ones and those that the config file defines or imports.
"""

import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any

CONFIG_MODULE = 'config_file'  # the name under which a config file is imported
CLASSES_SHOWN = 12  # in a message
NONE = type(None)


def alternatives(kind: Any) -> list[Any]:
    """The types of a union; for any other type that type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return list(typing.get_args(kind))
    return [kind]


def is_tuple(kind: Any) -> bool:
    """Whether a type is a tuple, with or without the types of its elements."""
    return kind is tuple or typing.get_origin(kind) is tuple


def is_class(kind: Any) -> bool:
    """Whether values of a type are objects with fields: it is a dataclass or a protocol."""
    if not isinstance(kind, type):
        return False
    return dataclasses.is_dataclass(kind) or _is_protocol(kind)


def element_type(kind: Any, index: int) -> Any:
    """The type of an element of a tuple type."""
    arguments = typing.get_args(kind) or (str, ...)
    if arguments[-1] is ... or not -len(arguments) <= index < len(arguments):
        return arguments[0]
    return arguments[index]


def field_types(kind: type) -> dict[str, Any]:
    """The annotations of the fields of a dataclass, by name."""
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError):  # a name that the module imports for type checkers only
        hints = {}
    return {f.name: hints.get(f.name, f.type) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]


def type_text(kind: Any) -> str:
    """A type in words, for messages: `float or none`."""
    kinds = alternatives(kind)
    text = ' or '.join(_one_type_text(one) for one in kinds if one is not NONE)
    return f'{text} or none' if NONE in kinds else text


def _one_type_text(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f'one of {", ".join(str(member.value) for member in kind)}'
    if is_tuple(kind):
        elements = ['...' if one is ... else _one_type_text(one) for one in typing.get_args(kind)]
        return f'({", ".join(elements)})'
    if is_class(kind):
        names = fitting_classes([kind])
        return f'one of {", ".join(names[:CLASSES_SHOWN])}' if names else kind.__name__
    return getattr(kind, '__name__', str(kind))


def public_class(name: str) -> Any:
    """The dataclass of a public name of tljax, or of a name in the config file; None without."""
    import tljax

    public = None if name.startswith('_') else getattr(tljax, name, None)
    for value in (public, _config_names().get(name)):
        if isinstance(value, type) and dataclasses.is_dataclass(value):
            return value
    return None


def public_classes() -> dict[str, type]:
    """All classes that `public_class` knows, by name."""
    import tljax

    classes = {name: public_class(name) for name in (*dir(tljax), *_config_names())}
    return {name: one for name, one in classes.items() if one is not None}


def fitting_classes(kinds: Sequence[Any]) -> list[str]:
    """The sorted names of the classes whose objects are values of one of these types."""
    return sorted(name for name, one in public_classes().items() if fits(one, kinds))


def fits(cls: type, kinds: Sequence[Any]) -> bool:
    """Whether an object of a class can be a value of one of these types."""
    return any(_fits_one(cls, kind) for kind in kinds)


def _config_names() -> dict[str, Any]:
    """What the config file defines or imports, by name."""
    return getattr(sys.modules.get(CONFIG_MODULE), '__dict__', {})


def _fits_one(cls: type, kind: Any) -> bool:
    if kind is Any:
        return True
    if not isinstance(kind, type):
        return False
    if not _is_protocol(kind):
        return issubclass(cls, kind)
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    names = _protocol_members(kind)
    if not all(hasattr(cls, name) or name in fields for name in names):
        return False
    return '__call__' not in names or _call_arity(cls) == _call_arity(kind)


def _is_protocol(kind: type) -> bool:
    return getattr(kind, '_is_protocol', False)


def _protocol_members(protocol: type) -> set[str]:
    """The public methods and attributes of a protocol, and `__call__` if it has that."""
    bases = [base for base in protocol.__mro__ if _is_protocol(base)]
    names = {
        name
        for base in bases
        if base is not typing.Protocol
        for name in (*vars(base), *getattr(base, '__annotations__', {}))
    }
    return {name for name in names if name == '__call__' or not name.startswith('_')}


def _call_arity(kind: type) -> int:
    call = vars(kind).get('__call__', kind.__call__)  # type: ignore[operator]
    return len(inspect.signature(call).parameters)
