"""Loads the experiment that `--config` names: a shipped config, a user's file or a run's record."""

import contextlib
import dataclasses
import difflib
import importlib.util
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from typing import Any

from tljax.commands import config_errors, overrides
from tljax.commands.command_line import ConfigArguments, UsageError, shown
from tljax.config import field_paths
from tljax.config.value_types import CONFIG_MODULE

PACKAGE = pathlib.Path(__file__).parents[1]
RECORD = 'config.json'
SWEEP_NAME = re.compile(r'[A-Za-z0-9_-]+')
NOT_SWEEPS = (
    'cells',
    'configs',
    'leases',
    'figures',
    'slurm',
)  # other folders
PLACEHOLDER = re.compile('[A-Z_]*')  # DIR, LIST or nothing, as the path of the user's images


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """The file that `--config=NAME_OR_FILE[:ARGUMENT]` names.

    Attributes:
        path: of the file.
        argument: for its `get_config`; empty for none.
        shipped: whether the file comes with tljax.
    """

    path: pathlib.Path
    argument: str
    shipped: bool

    @property
    def run_name(self) -> str:
        """The name of its run: `FILE`, `FILE-ARGUMENT`, or the folder of a run's record."""
        if self.path.name == RECORD:
            return self.path.absolute().parent.name
        return self.path.stem + (f'-{self.argument}' if self.argument else '')


def shipped() -> dict[str, pathlib.Path]:
    """The configs that come with tljax, by name; those with sweeps as `sweeps/NAME`."""
    folder = _shipped_folder()
    paths = [*sorted(folder.glob('*.py')), *sorted(folder.glob('sweeps/*.py'))]
    return {
        str(path.relative_to(folder).with_suffix('')): path
        for path in paths
        if path.stem != '__init__'
    }


def _shipped_folder() -> pathlib.Path:
    installed = PACKAGE / '_configs'
    return installed if installed.is_dir() else PACKAGE.parent / 'configs'


def find(spec: str) -> ConfigFile:
    """Finds the file that `NAME_OR_FILE[:ARGUMENT]` names. A file wins over a shipped config.

    Raises:
        UsageError: there is no such file or name; the message suggests similar ones.
    """
    name, _, argument = spec.partition(':')
    files = {path.resolve() for path in shipped().values()}
    for file, rest in ((spec, ''), (name, argument)):
        if (path := pathlib.Path(file).expanduser()).is_file():
            return ConfigFile(path=path, argument=rest, shipped=path.resolve() in files)
    if name in shipped():
        return ConfigFile(path=shipped()[name], argument=argument, shipped=True)
    raise UsageError(f'--config={shown(spec)}: {_suggestion(pathlib.Path(name).expanduser())}')


def _suggestion(path: pathlib.Path) -> str:
    """Says that a path is no config, and which similar files or shipped configs there are."""
    is_folder = path.is_dir()
    if (path / RECORD).is_file():
        return f'this is a folder; the config of that run is --config={path / RECORD}'
    folder = path if is_folder else path.parent
    files = [str(p) for p in sorted(folder.glob('*.py'))] if path.suffix or is_folder else []
    near = difflib.get_close_matches(str(path), files, n=3) or (files[:10] if is_folder else [])
    near = near or difflib.get_close_matches(path.stem, shipped(), n=3, cutoff=0.5)
    if near:
        return f'there is no such file or name; did you mean {" or ".join(near)}?'
    return f'there is no such file or name; the shipped configs are {", ".join(shipped())}'


def experiment(arguments: ConfigArguments, *, with_data: bool = True) -> tuple[Any, str]:
    """Loads the experiment of a command line and applies its overrides.

    Args:
        arguments: of the command line.
        with_data: whether the experiment needs the path of the user's images.

    Returns:
        The experiment and the name of its run.

    Raises:
        UsageError: the file cannot be used, or a field cannot be set.
    """
    loaded, name = load(arguments)
    overrides.apply(loaded, arguments.overrides)
    if with_data:
        _check_paths(loaded)
    return loaded, name


def load(arguments: ConfigArguments) -> tuple[Any, str]:
    """Loads an experiment without its overrides.

    Returns:
        The experiment and the name of its run.

    Raises:
        UsageError: the file cannot be used.
    """
    file = find(arguments.spec or '')
    if file.path.suffix == '.json':
        return _read_record(file.path), file.run_name
    module = _import(file)
    with _errors_in_one_line(file.path):
        result = module.get_config(*([file.argument] if file.argument else []))
    if not dataclasses.is_dataclass(result) or isinstance(result, type):
        raise UsageError(f'{file.path}: get_config() returned {result!r:.60}, wanted an Experiment')
    return result, file.run_name


def sweep(arguments: ConfigArguments, name: str | None) -> tuple[Any, Any, str]:
    """Loads the experiment of a config file, with its overrides, and one of its sweeps.

    Args:
        arguments: of the command line.
        name: of the sweep; None for the only one.

    Returns:
        The experiment, the sweep, and the name of the config.

    Raises:
        UsageError: the file cannot be used, or has no such sweep.
    """
    loaded, run_name = experiment(arguments)
    file = find(arguments.spec or '')
    function = getattr(sys.modules.get(CONFIG_MODULE), 'sweep', None)
    if file.path.suffix == '.json' or not callable(function):
        raise UsageError(f'{file.path}: it has no function sweep(), which returns the axes')
    with _errors_in_one_line(file.path):
        result = function()
    if not isinstance(result, Mapping):
        if name is not None:
            raise UsageError(f'--sweep={name}: {file.path} has one sweep, without a name')
        return loaded, result, run_name
    if name not in result:
        raise UsageError(
            f'--sweep={name or ""}: wanted one of the sweeps of {file.path}: {", ".join(result)}'
        )
    if not SWEEP_NAME.fullmatch(name or '') or name in NOT_SWEEPS:
        raise UsageError(f'--sweep={name}: the name of a sweep has letters, digits, - and _ only')
    return loaded, result[name], run_name


def import_classes(arguments: ConfigArguments) -> None:
    """Imports the config file, if one is named, so that its classes can be read from records.

    Raises:
        UsageError: there is no such file, or it raises an error.
    """
    if arguments.spec is not None and (file := find(arguments.spec)).path.suffix != '.json':
        _import(file)


def _read_record(path: pathlib.Path) -> Any:
    from tljax.config import config_json
    from tljax.types import InputError

    try:
        return config_json.from_json(path.read_text(encoding='utf-8'))
    except (InputError, OSError, UnicodeDecodeError) as error:
        raise UsageError(f'--config={path}: {error}') from error


def _import(file: ConfigFile) -> types.ModuleType:
    """Runs a config file, which is a program of the user's, and returns its module."""
    if str(pathlib.Path.cwd()) not in sys.path and '' not in sys.path:
        sys.path.append('')  # as with `python -m`, for modules in the current folder
    with _errors_in_one_line(file.path), _shipped_importable(file):
        spec = importlib.util.spec_from_file_location(CONFIG_MODULE, file.path)
        if spec is None or spec.loader is None:
            raise ValueError('wanted a Python file, NAME.py, or a config.json')
        module = importlib.util.module_from_spec(spec)
        sys.modules[CONFIG_MODULE] = module  # `dataclass` looks up the module of a class here
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _shipped_importable(file: ConfigFile) -> Iterator[None]:
    """Makes `configs` the folder of a shipped config, even if another module has that name."""
    if not file.shipped:
        yield
        return
    before = {name: m for name, m in sys.modules.items() if name.split('.')[0] == 'configs'}
    for name in before:
        del sys.modules[name]
    folder = sys.modules['configs'] = types.ModuleType('configs')
    folder.__path__ = [str(_shipped_folder())]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split('.')[0] == 'configs']:
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def _errors_in_one_line(path: pathlib.Path) -> Iterator[None]:
    """Turns any error of a config file into a `UsageError` of one line."""
    try:
        yield
    except Exception as error:
        raise UsageError(f'{_location(path, error)}: {config_errors.explain(error)}') from error


def _location(path: pathlib.Path, error: Exception) -> str:
    """`FILE:LINE` of an error in a config file; `FILE` if the error has no line in it."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f'{path}:{error.lineno}'
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if pathlib.Path(f.filename).resolve() == path.resolve()]
    return f'{path}:{own[-1].lineno}' if own else str(path)


def _check_paths(loaded: Any) -> None:
    """Raises a `UsageError` if the path of the user's images is still a config's placeholder."""
    missing = [
        f'--config.{path}={value or "DIR"} is missing: the path of your images'
        for path, value in field_paths.fields('', loaded)
        if path.rpartition('.')[2] == 'path' and isinstance(value, str) and _is_placeholder(value)
    ]
    if missing:
        raise UsageError('\n'.join(missing))


def _is_placeholder(path: str) -> bool:
    exists = path and pathlib.Path(path).exists()
    return bool(PLACEHOLDER.fullmatch(path)) and not exists
