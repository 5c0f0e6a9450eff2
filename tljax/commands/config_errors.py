"""The errors of config files in the words of a config: fields and classes instead of Python's."""

import dataclasses
import difflib
import re

from tljax.config.field_paths import SYNONYMS
from tljax.config.value_text import fields_text
from tljax.config.value_types import CLASSES_SHOWN, public_class, public_classes

UNKNOWN_FIELD = re.compile(r"([\w.<>]+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
UNKNOWN_ATTRIBUTE = re.compile(r"'(\w+)' object has no attribute '(\w+)'")
UNKNOWN_IMPORT = re.compile(r"cannot import name '(\w+)' from 'tljax'")
MISSING_FIELDS = re.compile(r'([\w.<>]+)\.__init__\(\) missing \d+ required .*arguments?: (.*)')
POSITIONAL = re.compile(r'([\w.<>]+)\.__init__\(\) takes .*positional arguments? but .* given')


def explain(error: Exception) -> str:
    """Says in one line what is wrong in a config file; Python's message if nothing is better."""
    text = ' '.join(str(error).split())
    python_text = f'{type(error).__name__}: {text}'.removesuffix(': ')
    explained = ''
    if isinstance(error, AttributeError | ImportError):
        explained = _unknown_name(error, text) or _unknown_field(UNKNOWN_ATTRIBUTE, text)
    elif isinstance(error, TypeError):
        explained = _unknown_field(UNKNOWN_FIELD, text) or _missing(text) or _positional(text)
    return explained or python_text


def _unknown_field(pattern: re.Pattern[str], text: str) -> str:
    """Says that a class has no such field, and suggests the intended one."""
    match = pattern.match(text)
    cls = match and _class(match[1])
    if not match or cls is None:
        return ''
    return f'{cls.__name__} has no field {match[2]!r}; {_suggestion(cls, match[2])}'


def _suggestion(cls: type, name: str) -> str:
    """The similar fields of a class; else the classes that have the field; else all fields."""
    own = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    meant = SYNONYMS.get(name.lower(), name)
    near = [meant] if meant in own else difflib.get_close_matches(name, own, n=3)
    if near:
        return f'did you mean {" or ".join(near)}?'
    outer, _, inner = meant.rpartition('.')
    if outer in own:
        return f'did you mean {inner} of {outer}?'
    others = [
        other
        for other, one in public_classes().items()
        if inner in (field.name for field in dataclasses.fields(one))  # type: ignore[arg-type]
    ]
    if others:
        more = ', …' if len(others) > CLASSES_SHOWN else ''
        return f'{inner} is a field of {", ".join(sorted(others)[:CLASSES_SHOWN])}{more}'
    return f'its fields: {fields_text(cls)}'


def _missing(text: str) -> str:
    """Says which required fields have no value."""
    match = MISSING_FIELDS.match(text)
    cls = match and _class(match[1])
    if not match or cls is None:
        return ''
    return f'{cls.__name__} needs a value for {match[2]}; its fields: {fields_text(cls)}'


def _positional(text: str) -> str:
    """Says that a class takes its fields by name only."""
    match = POSITIONAL.match(text)
    cls = match and _class(match[1])
    if not match or cls is None:
        return ''
    return f'{cls.__name__} takes its fields by name; its fields: {fields_text(cls)}'


def _unknown_name(error: Exception, text: str) -> str:
    """Says that tljax has no such public name, and suggests similar ones."""
    import tljax

    match = UNKNOWN_IMPORT.match(text)
    name = match[1] if match else getattr(error, 'name', None)
    if not name or not (match or getattr(error, 'obj', None) is tljax):
        return ''
    names = dir(tljax)
    near = [known for known in names if known.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, names, n=3)
    hint = f'; did you mean {" or ".join(f"tljax.{known}" for known in near)}?' if near else ''
    return f'tljax has no name {name!r}{hint}'


def _class(qualified: str) -> type | None:
    """The class that a message of Python names; None if it is not known."""
    return public_class(qualified.rpartition('.')[2])
