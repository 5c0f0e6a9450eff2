"""The JSON form of a config's objects, and the classes that reading it may construct."""

import dataclasses
import enum
import hashlib
import importlib
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

PACKAGE = 'tljax'


def encode(value: Any) -> Any:
    """Dataclasses, enums and tuples as what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {'class': f'{type(value).__module__}:{type(value).__qualname__}', **fields}
    if isinstance(value, enum.Enum):
        kind = type(value)
        return {'enum': f'{kind.__module__}:{kind.__qualname__}', 'value': value.value}
    return [encode(item) for item in value] if isinstance(value, tuple) else value


def decode(value: Any, within: str = '') -> Any:
    """The inverse of `encode`. It never imports a module from outside this package.

    Args:
        value: the JSON form; it may be somebody else's.
        within: the package whose classes alone are taken. Empty for those of tljax and of modules
            that the program has imported already, as `--config` imports the user's config file.

    Raises:
        TypeError: a class is not one of those.
    """
    if isinstance(value, list):
        return tuple(decode(item, within) for item in value)
    if isinstance(value, dict) and 'class' in value:
        fields = {name: decode(item, within) for name, item in value.items() if name != 'class'}
        return _resolve(value['class'], within)(**fields)
    if isinstance(value, dict) and 'enum' in value:
        return _resolve(value['enum'], within)(value['value'])
    return value


def _resolve(name: Any, within: str) -> Any:
    """The dataclass or enum of that name, defined in the module that the name says."""
    module, _, qualname = str(name).partition(':')
    package = within.rstrip('.') or PACKAGE
    found: Any = None
    if _is_inside(module, package):
        found = importlib.import_module(module)
    elif not within and module.partition('.')[0] not in sys.stdlib_module_names:
        found = sys.modules.get(module)
    if found is None:
        raise TypeError(
            f'{name} is no class of {package}; a class of your own is known once its file is '
            'imported: --config=FILE on the command line, import in Python'
        )
    for part in qualname.split('.'):
        found = vars(found).get(part)
        if not isinstance(found, type):
            raise TypeError(f'{name} is no class of a config')
    own = _is_inside(found.__module__, package) or found.__module__ == module
    if not own or not (dataclasses.is_dataclass(found) or issubclass(found, enum.Enum)):
        raise TypeError(f'{name} is no class of a config')
    return found


def _is_inside(module: str, package: str) -> bool:
    """Whether whole segments of the name say so; a package's command is no part of it."""
    segments = module.split('.')
    return segments[0] == package and '__main__' not in segments


def foreign_modules(encoded: Any) -> list[str]:
    """The modules outside tljax that a JSON form has classes of."""
    modules = {name.partition(':')[0] for name in _class_names(encoded)}
    return sorted(module for module in modules if not _is_inside(module, PACKAGE))


def _class_names(encoded: Any) -> Iterator[str]:
    if isinstance(encoded, dict):
        yield from (encoded[key] for key in ('class', 'enum') if key in encoded)
    if isinstance(encoded, dict | list):
        for item in encoded.values() if isinstance(encoded, dict) else encoded:
            yield from _class_names(item)


def module_file(module: str) -> dict[str, str] | None:
    """Path and SHA-256 of the file that defines an imported module; None where there is none."""
    name = getattr(sys.modules.get(module), '__file__', None)
    if name is None or not (path := pathlib.Path(name).absolute()).is_file():
        return None
    return {'path': str(path), 'sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
