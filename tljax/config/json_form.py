"""The JSON form of a config's objects, and the classes that reading it may construct."""

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
    """Dataclasses, enums and tuples as what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {'class': name_of(type(value)), **fields}
    if isinstance(value, enum.Enum):
        return {'enum': name_of(type(value)), 'value': value.value}
    return [encode(item) for item in value] if isinstance(value, tuple) else value


def name_of(kind: type) -> str:
    """`tljax:FreezeBelow` of a public class of tljax, `module:name` of any other."""
    name = kind.__qualname__
    return f'{PACKAGE if is_public(kind) else kind.__module__}:{name}'


def is_public(kind: type) -> bool:
    """Whether a class is the one that tljax has under its name."""
    return getattr(tljax, kind.__qualname__, None) is kind


def decode(value: Any, *, ours_only: bool = False) -> Any:
    """The inverse of `encode`. It never imports a module from outside this package.

    Args:
        value: the JSON form; it may be somebody else's.
        ours_only: whether only classes of tljax are taken. Otherwise those of modules that the
            program has already imported are taken too, as `--config` imports the user's file.

    Raises:
        TypeError: a class is not one of those.
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
    """A JSON form with the public names of tljax's classes and the present names of their fields.

    Older files name a class by the module that defined it, as `tljax.strategies:FreezeBelow`.
    Classes have moved to other modules since.
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


def _current_name(name: Any) -> Any:
    module, _, qualname = str(name).partition(':')
    return f'{PACKAGE}:{qualname}' if _is_ours(module) else name


def _resolve(name: Any, ours_only: bool) -> Any:
    """The dataclass or enum of that name: a public one of tljax, or one of an imported module."""
    module, _, qualname = str(name).partition(':')
    if _is_ours(module):
        found = getattr(tljax, qualname) if qualname in dir(tljax) else None
    elif ours_only or _is_standard(module) or module not in sys.modules:
        raise TypeError(
            f'{name} is no class of {PACKAGE}; a class of your own is known once its file is '
            'imported: --config=FILE on the command line, import in Python'
        )
    else:
        found = _inside(sys.modules[module], qualname)
    known = isinstance(found, type)
    if not known or not (dataclasses.is_dataclass(found) or issubclass(found, enum.Enum)):
        raise TypeError(f'{name} is no class of a config')
    return found


def _inside(module: types.ModuleType, qualname: str) -> type | None:
    """The class of that name, nested ones included, if the module itself defines it."""
    found: Any = module
    for part in qualname.split('.'):
        found = vars(found).get(part)
        if not isinstance(found, type):
            return None
    return found if found.__module__ == module.__name__ else None


def _is_standard(module: str) -> bool:
    return module.partition('.')[0] in sys.stdlib_module_names


def _is_ours(module: str) -> bool:
    """Whether it is the name of tljax or of a module of it, by whole segments."""
    return module.partition('.')[0] == PACKAGE


def foreign_modules(encoded: Any) -> list[str]:
    """The modules outside tljax that a JSON form has classes of."""
    modules = {name.partition(':')[0] for name in _class_names(encoded)}
    return sorted(module for module in modules if not _is_ours(module))


def _class_names(encoded: Any) -> Iterator[str]:
    if isinstance(encoded, dict):
        yield from (str(encoded[key]) for key in ('class', 'enum') if key in encoded)
    if isinstance(encoded, dict | list):
        for item in encoded.values() if isinstance(encoded, dict) else encoded:
            yield from _class_names(item)


def module_file(module: str) -> dict[str, str] | None:
    """Path and SHA-256 of the file that defines an imported module; None where there is none."""
    name = getattr(sys.modules.get(module), '__file__', None)
    if name is None or not (path := pathlib.Path(name).absolute()).is_file():
        return None
    return {'path': str(path), 'sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
