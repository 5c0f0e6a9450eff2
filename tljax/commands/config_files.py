"""The experiment of a command line: a shipped config, a file of the user's, or a run's record."""

import contextlib
import dataclasses
import difflib
import importlib.util
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

from tljax.commands import overrides
from tljax.commands.command_line import ConfigWords, UsageError
from tljax.commands.objects import CONFIG_MODULE

PACKAGE = pathlib.Path(__file__).parents[1]
RECORD = 'config.json'
PLACEHOLDER = re.compile('[A-Z_]*')  # DIR, LIST or nothing: a config's path of the user's images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """What `--config=NAME_OR_FILE[:ARGUMENT]` names."""

    file: pathlib.Path
    argument: str
    shipped: bool

    @property
    def name(self) -> str:
        """Of the run: `probe`, `probe-ARGUMENT`; of a record, that of the folder it is in."""
        if self.file.name == RECORD:
            return self.file.absolute().parent.name
        return self.file.stem + (f'-{self.argument}' if self.argument else '')


def shipped() -> dict[str, pathlib.Path]:
    """The configs that come with tljax, by name."""
    installed = PACKAGE / '_configs'
    folder = installed if installed.is_dir() else PACKAGE.parent / 'configs'
    return {path.stem: path for path in sorted(folder.glob('*.py')) if path.stem != '__init__'}


def choose(spec: str) -> Chosen:
    """The file that `NAME_OR_FILE[:ARGUMENT]` names; a file of that path wins over a name.

    Raises:
        UsageError: there is none; the nearest are named.
    """
    name, _, argument = spec.partition(':')
    for path, rest in ((spec, ''), (name, argument)):
        if (file := pathlib.Path(path).expanduser()).is_file():
            return Chosen(file=file, argument=rest, shipped=file.resolve() in _resolved())
    if name in shipped():
        return Chosen(file=shipped()[name], argument=argument, shipped=True)
    raise UsageError(f'--config={spec}: {_absent(pathlib.Path(name).expanduser())}')


def _resolved() -> set[pathlib.Path]:
    return {path.resolve() for path in shipped().values()}


def _absent(file: pathlib.Path) -> str:
    """What is there in the place of a file that is not."""
    if (file / RECORD).is_file():
        return f'this is a folder; the config of that run is --config={file / RECORD}'
    folder = file if file.is_dir() else file.parent
    there = [str(p) for p in sorted(folder.glob('*.py'))] if file.suffix or file.is_dir() else []
    near = difflib.get_close_matches(str(file), there, n=3) or (there if file.is_dir() else [])
    near = near[:10] or difflib.get_close_matches(file.stem, shipped(), n=3, cutoff=0.5)
    return f'there is no such file or name; there is {", ".join(near or shipped())}'


def experiment(words: ConfigWords) -> tuple[Any, str]:
    """The experiment of a command line, with its overrides, and its name.

    Raises:
        UsageError: the file cannot be used, or a field cannot be set.
    """
    loaded, name = load(words)
    overrides.apply(loaded, words.overrides)
    _check_paths(loaded)
    return loaded, name


def load(words: ConfigWords) -> tuple[Any, str]:
    """The experiment as its file has it, before any override, and its name.

    Raises:
        UsageError: the file cannot be used.
    """
    chosen = choose(words.spec or '')
    if chosen.file.suffix == '.json':
        return _record(chosen.file), chosen.name
    module = _imported(chosen)
    with _told(chosen.file):
        made = module.get_config(*([chosen.argument] if chosen.argument else []))
    if not dataclasses.is_dataclass(made) or isinstance(made, type):
        raise UsageError(f'{chosen.file}: get_config() returned {made!r:.60}, wanted an Experiment')
    return made, chosen.name


def import_classes(words: ConfigWords) -> None:
    """Imports the config file, if one is named: classes that it defines can be read from records.

    Raises:
        UsageError: there is no such file, or it cannot be run.
    """
    if words.spec is not None and (chosen := choose(words.spec)).file.suffix != '.json':
        _imported(chosen)


def _record(file: pathlib.Path) -> Any:
    from tljax.config import config_json
    from tljax.types import InputError

    try:
        return config_json.from_json(file.read_text(encoding='utf-8'))
    except (InputError, OSError, UnicodeDecodeError) as error:
        raise UsageError(f'--config={file}: {error}') from error


def _imported(chosen: Chosen) -> types.ModuleType:
    """The module of a config file: it is a program of the user's."""
    if str(pathlib.Path.cwd()) not in sys.path and '' not in sys.path:
        sys.path.append('')  # as `python -m` has it, for modules beside the config
    with _told(chosen.file), _shipped_importable(chosen):
        spec = importlib.util.spec_from_file_location(CONFIG_MODULE, chosen.file)
        if spec is None or spec.loader is None:
            raise ValueError('wanted a Python file, NAME.py, or a config.json')
        module = importlib.util.module_from_spec(spec)
        sys.modules[CONFIG_MODULE] = module  # dataclasses that it defines look themselves up there
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _shipped_importable(chosen: Chosen) -> Iterator[None]:
    """Lets a shipped config import another one, whatever else is called `configs`."""
    if not chosen.shipped:
        yield
        return
    before = {name: m for name, m in sys.modules.items() if name.split('.')[0] == 'configs'}
    for name in before:
        del sys.modules[name]
    folder = sys.modules['configs'] = types.ModuleType('configs')
    folder.__path__ = [str(chosen.file.parent)]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split('.')[0] == 'configs']:
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def _told(file: pathlib.Path) -> Iterator[None]:
    """Whatever a config file raises, in a line."""
    try:
        yield
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise UsageError(f'{_place(file, error)}: {reason}') from error


def _place(file: pathlib.Path, error: Exception) -> str:
    """`file:line`, where the file had to do with an error."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f'{file}:{error.lineno}'
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if pathlib.Path(f.filename).resolve() == file.resolve()]
    return f'{file}:{own[-1].lineno}' if own else str(file)


def _check_paths(loaded: Any) -> None:
    """Raises where a config's place for the user's own images was left as it is."""
    missing = []
    for path, value in overrides.fields('', loaded):
        is_path = path.rpartition('.')[2] == 'path' and isinstance(value, str)
        if (
            is_path
            and PLACEHOLDER.fullmatch(value)
            and not (value and pathlib.Path(value).exists())
        ):
            missing.append(f'--config.{path}={value or "DIR"} is missing: where your images are')
    if missing:
        raise UsageError('\n'.join(missing))
