"""The JSON form of a config's objects. Reading it constructs objects of known classes only."""

import dataclasses
import enum
import hashlib
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import tljax

PACKAGE = 'tljax'
RENAMED_FIELDS = {'tljax:Experiment': {'source': 'samples'}}  # class: {former name: present name}


def encode(value: Any) -> Any:
    """Turns dataclasses, enums and tuples into dicts and lists for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {'class': name_of(type(value)), **fields}
    if isinstance(value, enum.Enum):
        return {'enum': name_of(type(value)), 'value': value.value}
    return [encode(item) for item in value] if isinstance(value, tuple) else value


def name_of(kind: type) -> str:
    """The name of a class in JSON: `tljax:FreezeBelow`, or `module:name` of a user's class."""
    name = kind.__qualname__
    return f'{PACKAGE if is_public(kind) else kind.__module__}:{name}'


def is_public(kind: type) -> bool:
    """Whether tljax has a class under its own name."""
    return getattr(tljax, kind.__qualname__, None) is kind


def decode(value: Any, *, ours_only: bool = False) -> Any:
    """Constructs objects from their JSON form. It never imports a module from outside tljax.

    Args:
        value: the JSON form; it may come from an untrusted source.
        ours_only: whether only classes of tljax are allowed. Otherwise classes of modules that are
            already imported are allowed too; `--config` imports the user's file.

    Raises:
        TypeError: a class is not allowed.
    """
    if isinstance(value, list):
        return tuple(decode(item, ours_only=ours_only) for item in value)
    if isinstance(value, dict) and 'class' in value:
        fields = {
            name: decode(item, ours_only=ours_only)
            for name, item in value.items()
            if name != 'class'
        }
        return _resolve(value['class'], ours_only)(**fields)
    if isinstance(value, dict) and 'enum' in value:
        return _resolve(value['enum'], ours_only)(value['value'])
    return value


def current(encoded: Any) -> Any:
    """Replaces former names of tljax's classes and fields by the present ones.

    Older files name a class by the module that defined it then: `tljax.strategies:FreezeBelow`.
    """
    if isinstance(encoded, list):
        return [current(item) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    fields = {
        key: _current_name(item) if key in ('class', 'enum') else current(item)
        for key, item in encoded.items()
    }
    renamed = RENAMED_FIELDS.get(str(fields.get('class')), {})
    return {renamed.get(key, key): item for key, item in fields.items()}


def completed(encoded: dict[str, Any], kind: type) -> dict[str, Any]:
    """Adds the default of each field of a class that its JSON form lacks.

    Older files lack newer fields. A new field has a default that keeps the earlier behaviour.
    """
    defaults = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = encode(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = encode(field.default_factory())
    return {**defaults, **encoded}


def _current_name(name: Any) -> Any:
    module, _, qualname = str(name).partition(':')
    return f'{PACKAGE}:{qualname}' if _is_ours(module) else name


def _resolve(name: Any, ours_only: bool) -> Any:
    """The public dataclass or enum of tljax with a name, or that of an imported module."""
    module, _, qualname = str(name).partition(':')
    if _is_ours(module):
        result = getattr(tljax, qualname) if qualname in dir(tljax) else None
    elif ours_only or _is_standard(module) or module not in sys.modules:
        raise TypeError(
            f'{name} is no class of {PACKAGE}; import the file that defines a class of your own: '
            '--config=FILE on the command line, import in Python'
        )
    else:
        result = _defined_class(sys.modules[module], qualname)
    is_class = isinstance(result, type)
    if not is_class or not (dataclasses.is_dataclass(result) or issubclass(result, enum.Enum)):
        raise TypeError(f'{name} is no class of a config')
    return result


def _defined_class(module: types.ModuleType, qualname: str) -> type | None:
    """The class of a name, also nested in another, if the module itself defines it."""
    value: Any = module
    for part in qualname.split('.'):
        value = vars(value).get(part)
        if not isinstance(value, type):
            return None
    return value if value.__module__ == module.__name__ else None


def _is_standard(module: str) -> bool:
    return module.partition('.')[0] in sys.stdlib_module_names


def _is_ours(module: str) -> bool:
    """Whether a module is tljax or a part of it; `tljaxother` is not."""
    return module.partition('.')[0] == PACKAGE


def foreign_modules(encoded: Any) -> list[str]:
    """The modules outside tljax whose classes a JSON form names."""
    modules = {name.partition(':')[0] for name in _class_names(encoded)}
    return sorted(module for module in modules if not _is_ours(module))


def _class_names(encoded: Any) -> Iterator[str]:
    if isinstance(encoded, dict):
        yield from (str(encoded[key]) for key in ('class', 'enum') if key in encoded)
    if isinstance(encoded, dict | list):
        for item in encoded.values() if isinstance(encoded, dict) else encoded:
            yield from _class_names(item)


def module_file(module: str) -> dict[str, str] | None:
    """Path and SHA-256 of the file of an imported module; None if it has no file."""
    name = getattr(sys.modules.get(module), '__file__', None)
    if name is None or not (path := pathlib.Path(name).absolute()).is_file():
        return None
    return {'path': str(path), 'sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
