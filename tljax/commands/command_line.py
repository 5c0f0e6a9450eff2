"""Command lines: a config file with overrides, and errors of one line each.

Imports neither JAX nor the rest of the package, so that `--help` answers at once.
"""

import argparse
import contextlib
import dataclasses
import difflib
import enum
import importlib.util
import io
import pathlib
import sys
import traceback
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import config_path

HELP = {'--help', '-h', '-help', '--helpfull'}


class UsageError(Exception):
    """A command line that cannot be used; a line for each problem."""


def parser(module: str, text: str | None) -> argparse.ArgumentParser:
    """An empty parser, for a command without a config; its help is `text` as it stands."""
    escape_unprintable()
    return argparse.ArgumentParser(
        prog=f'python -m {module}',
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_classes_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--config=FILE`, which imports the user's file while the line is parsed."""
    parser.add_argument(
        '--config',
        action=_ImportFile,
        dest=argparse.SUPPRESS,
        metavar='FILE',
        help=argparse.SUPPRESS,
    )


class _ImportFile(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        try:
            import_file(str(values).partition(':')[0])
        except UsageError as error:
            fail(str(error))


def escape_unprintable() -> None:
    """Lets stdout write characters that its encoding lacks as escapes instead of an error."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')


def new_flags() -> flags.FlagValues:
    """An empty set of flags, to define a command's own in."""
    return flags.FlagValues()


def command_line(
    text: str | None, values: flags.FlagValues, argv: Sequence[str]
) -> tuple[Any, str]:
    """The experiment of a command line, and the name of its config; see `parse`.

    Ends the process where help is wanted, with `text`, or where the line cannot be used.
    """
    escape_unprintable()
    if HELP & set(argv):
        print(text)
        sys.exit(0)
    try:
        return parse(values, argv), config_name(argv)
    except UsageError as error:
        fail(str(error))


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
    path, words = _split(argv)
    config = _load(path)
    overrides = [name for word in words if (name := _field_of(word))]
    problems = [line for name in overrides if (line := _unknown_field(config, name))]
    if problems:
        raise UsageError('\n'.join(problems))
    words = _joined(config, words)
    ours = [word for word in words if _is_ours(config, word)]
    theirs = [argv[0], *(word for word in words if word not in ours)]
    try:
        config_flags.DEFINE_config_dataclass('config', config, flag_values=values, sys_argv=theirs)
        rest = values(theirs)[1:]
    except (flags.Error, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(_one_line(config, words, error)) from error
    if rest:
        raise UsageError(f'{" ".join(rest)}: flags look like --name=value')
    config = values['config'].value
    for word in ours:
        _set(config, word)
    return config


def config_name(argv: Sequence[str]) -> str:
    """The config file's name without folder and suffix, and its argument: `probe` or `probe-x`."""
    path, _, argument = _split(argv)[0].partition(':')
    return pathlib.Path(path).stem + (f'-{argument}' if argument else '')


def _split(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The config file (the last one named counts) and the other words."""
    path, words, rest = '', [], list(argv[1:])
    while rest:
        name, has_value, value = (word := rest.pop(0)).partition('=')
        if name not in ('--config', '-config'):
            words.append(word)
        elif has_value or rest:
            path = value if has_value else rest.pop(0)
    if not path:
        raise UsageError('--config=FILE is missing; configs/quickstart.py is one to start with')
    return path, words


def _load(path: str) -> Any:
    """What `get_config()` returns; whatever is wrong with the file is said in a line."""
    name, _, argument = path.partition(':')
    module = import_file(name)
    with _told(pathlib.Path(name)):
        config = module.get_config(*([argument] if argument else []))
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise UsageError(f'{name}: get_config() returned {config!r:.60}, wanted an Experiment')
    return config


def import_file(name: str) -> types.ModuleType:
    """Runs a config file of the user's, as the module `config_file`.

    Raises:
        UsageError: there is no such file, or it cannot be run.
    """
    file = pathlib.Path(name)
    if not file.is_file():
        folders = (file, file.parent, pathlib.Path('configs'))
        folder = next((f for f in folders if f.is_dir()), pathlib.Path())
        known = [str(p) for p in sorted(folder.glob('*.py'))]
        known = known or [str(p) for p in sorted(pathlib.Path('configs').glob('*.py'))]
        near = difflib.get_close_matches(str(file), known, n=3) or known
        raise UsageError(f'--config={name}: there is no such file; there is {", ".join(near)}')
    with _told(file):
        spec = importlib.util.spec_from_file_location('config_file', file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses that it defines look themselves up there
        spec.loader.exec_module(module)
        return module


@contextlib.contextmanager
def _told(file: pathlib.Path) -> Iterator[None]:
    """Whatever the file raises, which is a program of the user's, in a line."""
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


def _field_of(word: str) -> str | None:
    """The field that a word of the command line sets: `optimizer.learning_rate`."""
    name = word.partition('=')[0]
    for prefix in ('--config.', '-config.', '--noconfig.', '-noconfig.'):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return None


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


def _joined(config: Any, words: Sequence[str]) -> list[str]:
    """`--config.field value` as `--config.field=value`; switches stand alone."""
    result, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        name = _field_of(word)
        alone = name is None or '=' in word or _type(config, name) is bool
        result.append(word if alone or not rest else f'{word}={rest.pop(0)}')
    return result


def _is_ours(config: Any, word: str) -> bool:
    """Whether config_flags cannot set it.

    That is `none` where a field may be None, a tuple's element, and the text of a field that may be
    an object too.
    """
    name = _field_of(word)
    if name is None:
        return False
    if name.endswith(']') or _text_or_object(_type(config, name)):
        return True
    return word.endswith('=none') and type(None) in typing.get_args(_type(config, name))


def _text_or_object(kind: Any) -> bool:
    """Whether it is a union of `str` and other types than None."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return False
    kinds = [one for one in typing.get_args(kind) if one is not type(None)]
    return len(kinds) > 1 and str in kinds


def _set(config: Any, word: str) -> None:
    name, text = _field_of(word), word.partition('=')[2]
    assert name is not None
    if not name.endswith(']'):
        config_path.set_value(name, config, None if text == 'none' else text)
        return
    holder, _, index = name.removesuffix(']').rpartition('[')
    items = list(config_path.get_value(holder, config))
    kind = typing.get_args(_type(config, holder))[0]
    try:
        items[int(index)] = kind(text)
    except (TypeError, ValueError):
        raise UsageError(f'{word}: wanted {kind.__name__}') from None
    config_path.set_value(holder, config, tuple(items))


def _type(config: Any, name: str) -> Any:
    return config_path.get_type(name, config, normalize=False)


def _one_line(config: Any, words: Sequence[str], error: Exception) -> str:
    """An error of the flag parser in a line, with what the field takes."""
    text = ' '.join(str(error).split())
    for word in words:
        name = _field_of(word)
        if name and (f'config.{name}=' in text or f'config.{name}:' in text):
            return f'{word}: wanted {_wanted(_type(config, name))}'
    return text.removeprefix('FATAL Flags parsing error: ')


def _wanted(kind: Any) -> str:
    """A type, in words."""
    arguments = [a for a in typing.get_args(kind) if a is not type(None)]
    optional = len(arguments) < len(typing.get_args(kind))
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and len(arguments) == 1:
        kind = arguments[0]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f'one of {", ".join(member.name.lower() for member in kind)}'
    text = str(kind) if typing.get_args(kind) else getattr(kind, '__name__', str(kind))
    return f'{text} or none' if optional else text


def fail(message: str) -> typing.NoReturn:
    """Prints a message to stderr and exits with 2."""
    first, *rest = message.splitlines()
    print('\n'.join([f'error: {first}', *rest]), file=sys.stderr)
    sys.exit(2)
