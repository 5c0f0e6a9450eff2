"""The public names of tljax, by the folder that defines them."""

import dataclasses
import pathlib
import re
import types
from collections.abc import Iterator
from typing import Any

import tljax

LINE = re.compile(r'^from \.([\w.]*) import (\w+) as (\w+)$', re.MULTILINE)
# The pages in order: the folder, and what the page is called.
FOLDERS = {
    'config': 'Experiments',
    'training': 'Training and runs',
    'weights': 'Networks and weights',
    'strategies': 'Strategies, optimizers, schedules, penalties',
    'data': 'Data sources',
    'augment': 'Augmentations',
    'models': 'Backbones, heads, adapters, views',
    'metrics': 'Losses, tasks and metrics',
    'features': 'Features, probes, transferability',
    'sample_transfer': 'Sample transfer',
    'sweep': 'Sweeps',
    'advise': 'Advice',
    'records': 'Records of a run',
    'types': 'Contracts and types',
}


@dataclasses.dataclass(frozen=True)
class Name:
    """A public name.

    Attributes:
        dotted: as a reader writes it, e.g. `tljax.probes.ridge`.
        value: the class or the function.
    """

    dotted: str
    value: Any


def by_folder() -> dict[str, list[Name]]:
    """The public classes and functions of every folder, in the order of `FOLDERS`.

    Raises:
        KeyError: a folder has public names and no page.
    """
    result: dict[str, list[Name]] = {folder: [] for folder in FOLDERS}
    stub = pathlib.Path(tljax.__file__).with_suffix('.pyi')
    entries = LINE.findall(stub.read_text(encoding='utf-8'))
    seen: set[int] = set()
    for module, _, name in sorted(entries, key=lambda one: _is_module(one[2])):
        value = getattr(tljax, name)
        if isinstance(value, str):
            continue  # the version
        folder = (module or name).split('.')[0]
        for one in _of_module(name, value) if _is_module(name) else [Name(f'tljax.{name}', value)]:
            if id(one.value) not in seen:
                seen.add(id(one.value))
                result[folder].append(one)
    return result


def _is_module(name: str) -> bool:
    return isinstance(getattr(tljax, name), types.ModuleType)


def _of_module(name: str, module: Any) -> Iterator[Name]:
    """The classes and functions of a public module: `__all__`, or those that it defines."""
    own = [k for k, v in vars(module).items() if getattr(v, '__module__', '') == module.__name__]
    for inner in getattr(module, '__all__', [one for one in own if not one.startswith('_')]):
        value = getattr(module, inner)
        if isinstance(value, types.ModuleType) and name != 'tljax':
            if value.__name__.startswith('tljax.features.probes.grid'):
                yield from _of_module(f'{name}.{inner}', value)
        elif callable(value) and not isinstance(value, type(dict[str, int])):
            yield Name(f'tljax.{name}.{inner}', value)
