"""Values of the command line: `3e-4`, `none`, `FreezeBelow(stage=stage3)`, `(a, b)`.

Text is never executed. What it means is decided by the type of the field that it is for, and the
only classes are tljax's public ones and those that the config file defines.
"""

import dataclasses
import difflib
import enum
import inspect
import re
import sys
import types
import typing
from typing import Any

from tljax.commands.command_line import SWITCH, UsageError, nearest

CONFIG_MODULE = 'config_file'  # the name under which a config file is imported
CALL = re.compile(r'([A-Za-z_]\w*)\s*\(')
FIELD = re.compile(r'\s*([A-Za-z_]\w*)\s*=')
PLAIN = re.compile(r'[^,()\[\]]*')
SHOWN = 12  # class names in a message
NONE = type(None)


class _Unset:
    """In the place of a field without a default, until another flag sets it."""

    def __repr__(self) -> str:
        return 'unset'


UNSET = _Unset()


@dataclasses.dataclass(frozen=True)
class Text:
    """A word, or text in quotes."""

    text: str
    quoted: bool = False

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Call:
    """`Name(field=value, ...)`."""

    name: str
    fields: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f'{self.name}({", ".join(f"{name}={value}" for name, value in self.fields)})'


@dataclasses.dataclass(frozen=True)
class Items:
    """`(value, ...)`."""

    items: tuple[Any, ...]

    def __str__(self) -> str:
        return f'({", ".join(map(str, self.items))})'


class _Reader:
    """A cursor in a text."""

    def __init__(self, text: str):
        self.text, self.at = text, 0

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """What begins here."""
        first = self.peek()
        if first and first in '\'"':
            return self._quoted(first)
        if first and first in '([':
            self.at += 1
            return Items(self._separated({'(': ')', '[': ']'}[first], self.value))
        if call := CALL.match(self.text, self.at):
            self.at = call.end()
            return Call(call[1], self._separated(')', self._field))
        plain = PLAIN.match(self.text, self.at)
        assert plain
        self.at = plain.end()
        return Text(plain[0].strip())

    def _quoted(self, quote: str) -> Text:
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            raise ValueError(f'there is no closing {quote}')
        text, self.at = self.text[self.at + 1 : end], end + 1
        return Text(text, quoted=True)

    def _separated(self, end: str, one: Any) -> tuple[Any, ...]:
        found = []
        while self.peek() != end:
            found.append(one())
            if self.peek() == ',':
                self.at += 1
            elif self.peek() != end:
                raise ValueError(f'wanted , or {end} at {self.text[self.at :] or "the end"!r}')
        self.at += 1
        return tuple(found)

    def _field(self) -> tuple[str, Any]:
        name = FIELD.match(self.text, self.at)
        if not name:
            raise ValueError(f'wanted FIELD=VALUE at {self.text[self.at :]!r}')
        self.at = name.end()
        return name[1], self.value()


def parse(text: str) -> Any:
    """The structure of a value, without a meaning yet.

    Raises:
        ValueError: it has none; the message says where.
    """
    reader = _Reader(text)
    value = reader.value()
    if reader.peek():
        raise ValueError(f'wanted the end at {reader.text[reader.at :]!r}')
    return value


def read(text: str, kind: Any, flag: str) -> Any:
    """The value of a type that a text stands for.

    Args:
        text: as it is on the command line.
        kind: the annotation of the field.
        flag: `--config.FIELD`, for messages.

    Raises:
        UsageError: it stands for none.
    """
    kinds = members(kind)
    try:
        node = parse(text)
        if any(_is_tuple(one) for one in kinds) and isinstance(node, Call | Text):
            node = node if _is_none(node, kinds) else Items((node,))
    except ValueError as error:
        if any(_is_tuple(one) for one in kinds):
            return _many(text, kind, flag)
        if str in kinds:  # a path may have any character
            return text
        raise UsageError(f'{flag}={text}: {error}') from None
    if str in kinds and isinstance(node, Items):
        return text
    if str in kinds and isinstance(node, Call) and public_class(node.name) is None:
        return text
    return _built(node, kind, flag, text)


def _many(text: str, kind: Any, flag: str) -> Any:
    """A tuple whose items stand without brackets around them."""
    try:
        return _built(parse(f'({text})'), kind, flag, text)
    except ValueError as error:
        raise UsageError(f'{flag}={text}: {error}') from None


def _built(node: Any, kind: Any, flag: str, text: str) -> Any:
    kinds = members(kind)
    if _is_none(node, kinds):
        return None
    if isinstance(node, Items):
        for one in kinds:
            if _is_tuple(one):
                return _tuple(node, one, flag)
    elif isinstance(node, Call):
        return _object(node, kinds, flag)
    else:
        for one in sorted(kinds, key=lambda one: one is str):  # anything is a text
            try:
                return _scalar(node, one)
            except ValueError:
                continue
        if objects := [one for one in kinds if _is_object(one)]:
            return _object(Call(node.text), objects, flag)
    raise UsageError(f'{flag}={text}: wanted {wanted(kind)}')


def _is_none(node: Any, kinds: list[Any]) -> bool:
    plain = isinstance(node, Text) and not node.quoted
    return plain and NONE in kinds and node.text.lower() == 'none'


def _tuple(node: Items, kind: Any, flag: str) -> tuple[Any, ...]:
    arguments = typing.get_args(kind) or (str, ...)
    return tuple(
        _built(item, element_kind(arguments, place), f'{flag}[{place}]', str(item))
        for place, item in enumerate(node.items)
    )


def element_kind(arguments: tuple[Any, ...], place: int) -> Any:
    """The type of an element of `tuple[arguments]`."""
    if arguments[-1] is ... or not -len(arguments) <= place < len(arguments):
        return arguments[0]
    return arguments[place]


def _scalar(node: Text, kind: Any) -> Any:
    """A word as a value of a plain type; ValueError where it is none."""
    text = node.text
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
    if _is_object(kind) and text.isidentifier():
        found = public_class(text)
        if found is not None and fits(found, [kind]):
            return _object(Call(text), [kind], '')
    raise ValueError(text)


def _object(node: Call, kinds: list[Any], flag: str) -> Any:
    """An object of a public class; fields that it needs and that are missing are `UNSET`."""
    found = public_class(node.name)
    if found is None or not fits(found, kinds):
        there = sorted(name for name, one in public_classes().items() if fits(one, kinds))
        near = difflib.get_close_matches(node.name, there, n=3)
        what = 'is no class of tljax' if found is None else 'does not fit there'
        hint = f'did you mean {" or ".join(near)}?' if near else _list(there)
        raise UsageError(f'{flag}={node.name}: {node.name} {what}; {hint}')
    hints = field_types(found)
    values = {}
    for name, value in node.fields:
        if name not in hints:
            raise UsageError(
                f'{flag}={node}: {node.name} has no field {name!r}; '
                f'{nearest(name, list(hints))} Its fields: {fields_text(found)}'
            )
        values[name] = _built(value, hints[name], f'{flag}.{name}', str(value))
    needed = [f.name for f in dataclasses.fields(found) if _is_required(f)]
    return found(**{**dict.fromkeys(needed, UNSET), **values})


def _list(names: list[str]) -> str:
    if not names:
        return 'there is none for this field'
    more = ', …' if len(names) > SHOWN else ''
    return f'there is {", ".join(names[:SHOWN])}{more}'


def _is_required(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.init and field.default is missing and field.default_factory is missing


def fields_text(kind: type) -> str:
    """The fields of a class with their defaults."""
    texts = []
    for field in dataclasses.fields(kind):
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        shown = '(required)' if _is_required(field) else f'={shown_value(value)}'
        texts.append(f'{field.name} {shown}' if shown[0] == '(' else field.name + shown)
    return ', '.join(texts) or 'none'


def shown_value(value: Any) -> str:
    """A value in the grammar of the command line, its defaults left out."""
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return f'({", ".join(map(shown_value, value))})'
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [
            f'{f.name}={shown_value(getattr(value, f.name))}'
            for f in dataclasses.fields(value)
            if not _is_default(f, getattr(value, f.name))
        ]
        return type(value).__name__ + (f'({", ".join(fields)})' if fields else '')
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    if _is_required(field):
        return False
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return bool(value == field.default)


def public_class(name: str) -> Any:
    """The class of that public name of tljax, or of the config file; None where there is none."""
    import tljax

    ours = getattr(tljax, name, None) if not name.startswith('_') else None
    for found in (ours, _own().get(name)):
        if isinstance(found, type) and dataclasses.is_dataclass(found):
            return found
    return None


def _own() -> dict[str, Any]:
    """What the config file defines or imports, by name."""
    return getattr(sys.modules.get(CONFIG_MODULE), '__dict__', {})


def public_classes() -> dict[str, type]:
    """All classes of tljax that a config may construct, and the config file's own, by name."""
    import tljax

    names = [*dir(tljax), *_own()]
    found = {name: public_class(name) for name in names}
    return {name: kind for name, kind in found.items() if kind is not None}


def fits(kind: type, wanted_kinds: list[Any]) -> bool:
    """Whether an object of a class could be the value of a field of one of these types."""
    return any(_fits(kind, one) for one in wanted_kinds)


def _fits(kind: type, one: Any) -> bool:
    if one is Any:
        return True
    if not isinstance(one, type):
        return False
    if not getattr(one, '_is_protocol', False):
        return issubclass(kind, one)
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    names = _protocol_names(one)
    if not all(hasattr(kind, name) or name in fields for name in names):
        return False
    return '__call__' not in names or _arity(kind) == _arity(one)


def _protocol_names(protocol: type) -> set[str]:
    """The members of a protocol."""
    bases = [b for b in protocol.__mro__ if getattr(b, '_is_protocol', False)]
    names = {
        name
        for base in bases
        if base is not typing.Protocol
        for name in (*vars(base), *getattr(base, '__annotations__', {}))
    }
    return {name for name in names if name == '__call__' or not name.startswith('_')}


def _arity(kind: type) -> int:
    return len(inspect.signature(vars(kind).get('__call__', kind.__call__)).parameters)  # type: ignore[operator]


def field_types(kind: type) -> dict[str, Any]:
    """The annotations of the fields of a dataclass, by name."""
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError):  # names that the class's module imports for type checkers alone
        hints = {}
    return {f.name: hints.get(f.name, f.type) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]


def members(kind: Any) -> list[Any]:
    """The types of a union; of another type, that type."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return list(typing.get_args(kind))
    return [kind]


def _is_tuple(kind: Any) -> bool:
    return kind is tuple or typing.get_origin(kind) is tuple


def _is_object(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    return dataclasses.is_dataclass(kind) or getattr(kind, '_is_protocol', False)


def wanted(kind: Any) -> str:
    """A type, in words."""
    kinds = [one for one in members(kind) if one is not NONE]
    text = ' or '.join(map(_named, kinds))
    return f'{text} or none' if NONE in members(kind) else text


def _named(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f'one of {", ".join(str(member.value) for member in kind)}'
    if _is_tuple(kind):
        inner = typing.get_args(kind)
        return f'({", ".join(_named(a) if a is not ... else "..." for a in inner)})'
    if _is_object(kind):
        names = sorted(name for name, one in public_classes().items() if _fits(one, kind))
        return f'one of {", ".join(names[:SHOWN])}' if names else kind.__name__
    return getattr(kind, '__name__', str(kind))
