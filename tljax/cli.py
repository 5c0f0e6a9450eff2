"""Command lines: a config file with overrides, and errors of one line each.

Imports neither JAX nor the rest of the package, so that `--help` answers at once.
"""

import dataclasses
import difflib
import enum
import pathlib
import sys
import traceback
import types
import typing
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import config_flags as parsers
from ml_collections.config_flags import config_path


class UsageError(Exception):
    """A command line that cannot be used; a line for each problem."""


def new_flags() -> flags.FlagValues:
    """An empty set of flags, to define a command's own in."""
    return flags.FlagValues()


def parse(values: flags.FlagValues, argv: Sequence[str]) -> Any:
    """Reads a command line with `--config=FILE[:ARGUMENT]` and `--config.field=value`.

    Args:
        values: the command's own flags; they are set.
        argv: the command line, the program's name first.

    Returns:
        What the file's `get_config()` returned, with the overrides applied.

    Raises:
        UsageError: an unknown flag, file or field, or a value of another type.
    """
    argv = list(argv)
    path = _config_path(argv)
    config = _load(path)
    problems = [line for name in _overrides(argv) if (line := _unknown_field(config, name))]
    if problems:
        raise UsageError('\n'.join(problems))
    config_flags.DEFINE_config_file('config', lock_config=False, flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)[1:]
    except (flags.Error, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(_one_line(config, argv, error)) from error
    if rest:
        raise UsageError(f'{" ".join(rest)}: flags look like --name=value')
    config = values['config'].value
    _read_none(config, _overrides(argv))
    return config


def config_name(argv: Sequence[str]) -> str:
    """The config file's name without folder and suffix, and its argument: `probe` or `probe-x`."""
    path, _, argument = _config_path(argv).partition(':')
    return pathlib.Path(path).stem + (f'-{argument}' if argument else '')


def _config_path(argv: Sequence[str]) -> str:
    for i, word in enumerate(argv):
        name, has_value, value = word.partition('=')
        if name in ('--config', '-config'):
            value = value if has_value else ''.join(argv[i + 1 : i + 2])
            if value:
                return value
    raise UsageError('--config=FILE is missing; configs/quickstart.py is one to start with')


def _load(path: str) -> Any:
    """What `get_config()` returns; whatever is wrong with the file is said in a line."""
    file = pathlib.Path(path.partition(':')[0])
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else pathlib.Path('configs')
        known = [str(p) for p in sorted(folder.glob('*.py'))]
        near = difflib.get_close_matches(str(file), known, n=3) or known
        raise UsageError(f'--config={path}: there is no such file; there is {", ".join(near)}')
    try:
        return parsers.ConfigFileFlagParser('config', lock_config=False).parse(path)
    except Exception as error:  # the file is a program of the user's and may raise anything
        cause = error.__context__ or error
        frames = traceback.extract_tb(cause.__traceback__)
        own = [f for f in frames if pathlib.Path(f.filename).resolve() == file.resolve()]
        where = f'{file}:{own[-1].lineno}' if own else str(file)
        raise UsageError(f'{where}: {type(cause).__name__}: {cause}') from error


def _overrides(argv: Sequence[str]) -> list[str]:
    """The fields that are set on the command line: `optimizer.learning_rate`."""
    names = []
    for word in argv[1:]:
        name = word.partition('=')[0].lstrip('-')
        for prefix in ('config.', 'noconfig.'):
            if word.startswith('-') and name.startswith(prefix):
                names.append(name.removeprefix(prefix))
    return names


def _unknown_field(config: Any, name: str) -> str | None:
    """What is wrong with the name of an override; None if nothing."""
    try:
        parts = config_path.split(name)
    except ValueError:
        return f'--config.{name}: not a path of fields'
    value, done = config, 'config'
    for part in parts:
        if isinstance(part, int) and isinstance(value, (list, tuple)):
            if not -len(value) <= part < len(value):
                return f'--config.{name}: {done} has {len(value)} entries'
            value, done = value[part], f'{done}[{part}]'
            continue
        if not dataclasses.is_dataclass(value):
            return f'--config.{name}: {done} is {value!r:.60} and has no fields'
        fields = [field.name for field in dataclasses.fields(value)]
        if part not in fields:
            near = difflib.get_close_matches(str(part), fields, n=3)
            hint = f'did you mean {" or ".join(near)}? ' if near else ''
            return (
                f'--config.{name}: {type(value).__name__} has no field {part!r}; '
                f'{hint}It has {", ".join(fields)}'
            )
        value, done = getattr(value, str(part)), f'{done}.{part}'
    if dataclasses.is_dataclass(value):
        fields = ', '.join(field.name for field in dataclasses.fields(value))
        return f'--config.{name}: {done} is an object; set its fields ({fields}) one by one'
    return None


def _one_line(config: Any, argv: Sequence[str], error: Exception) -> str:
    """An error of the flag parser in a line, with what the field takes."""
    text = ' '.join(str(error).split())
    for name in _overrides(argv):
        words = [w for w in argv if w.lstrip('-').partition('=')[0] == f'config.{name}']
        if words and (f'config.{name}=' in text or f'config.{name}:' in text):
            return f'{words[-1]}: wanted {_wanted(config, name)}'
    return text.removeprefix('FATAL Flags parsing error: ')


def _wanted(config: Any, name: str) -> str:
    """The type of a field, in words."""
    kind = config_path.get_type(name, config, normalize=False)
    arguments = [a for a in typing.get_args(kind) if a is not type(None)]
    optional = len(arguments) < len(typing.get_args(kind))
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and len(arguments) == 1:
        kind = arguments[0]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f'one of {", ".join(member.name.lower() for member in kind)}'
    text = getattr(kind, '__name__', str(kind)) if not typing.get_args(kind) else str(kind)
    return f'{text} or none' if optional else text


def _read_none(config: Any, names: Sequence[str]) -> None:
    """Makes None of the word `none` where a field may be None; the parser leaves it a string."""
    for name in names:
        kind = config_path.get_type(name, config, normalize=False)
        value = config_path.get_value(name, config)
        if value == 'none' and type(None) in typing.get_args(kind):
            config_path.set_value(name, config, None)


def fail(message: str) -> typing.NoReturn:
    """Prints a message to stderr and exits with 2."""
    for line in message.splitlines():
        print(f'error: {line}' if not line.startswith(' ') else line, file=sys.stderr)
    sys.exit(2)
