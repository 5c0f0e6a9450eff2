"""The parser of all commands: positional arguments, flags, `--config` and `--config.FIELD`.

It imports neither JAX nor the rest of the package, so that `--help` answers at once.
"""

import argparse
import dataclasses
import difflib
import io
import math
import pathlib
import sys
from collections.abc import Callable, Sequence

BUCKETS = ('gs', 's3')  # the schemes of buckets; `storage.addresses` reads them
HELP = {'--help', '-h', '-help', '--helpfull'}
LONGEST = 200  # characters of a user's text in a message
SWITCH = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}


class UsageError(Exception):
    """A command line cannot be used; the message has a line for each problem."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Override:
    """`--config.FIELD=TEXT`: sets a field of the experiment.

    Attributes:
        field: the path of the field, e.g. `optimizer.learning_rate`, `augmentations[0].pad_px`.
        text: its value; None for a flag without `=VALUE`, which sets a bool to true.
    """

    field: str
    text: str | None

    @property
    def flag(self) -> str:
        """The flag without its value."""
        return f'--config.{shown(self.field)}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigArguments:
    """The arguments of a command line that describe an experiment.

    Attributes:
        spec: NAME_OR_FILE[:ARGUMENT] of the last `--config`; None without one.
        overrides: in their order on the command line.
    """

    spec: str | None = None
    overrides: tuple[Override, ...] = ()


class Parser(argparse.ArgumentParser):
    """Parses the arguments of a command.

    Flags may be spelled with underscores or hyphens, and switches as `--name=true|false`.
    """

    def __init__(
        self,
        name: str,
        text: str | None,
        *,
        config: bool = False,
        fields: bool = False,
        config_optional: bool = False,
    ):
        """Makes an empty parser.

        Args:
            name: of the command, as in `tljax NAME`.
            text: its help, which is printed unchanged.
            config: whether it takes `--config`.
            fields: whether it runs an experiment. Then `--config` is required and
                `--config.FIELD=VALUE` is taken.
            config_optional: whether a command with `fields` may do without `--config`.
        """
        super().__init__(prog=f'tljax {name}', add_help=False, allow_abbrev=False)
        self.text = (text or '').rstrip()
        self.takes_config, self.takes_fields = config or fields, fields
        self.needs_config = fields and not config_optional

    def error(self, message: str):
        """Raises a `UsageError`; argparse would end the process."""
        raise UsageError(f'{message}; {self.prog} --help lists the arguments')

    def switch(self, name: str) -> None:
        """Adds a flag without a value."""
        self.add_argument(name, action='store_true')

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parses the arguments after the command's name.

        Returns:
            The values of all arguments, and `config`, a `ConfigArguments`.

        Raises:
            UsageError: an argument cannot be used.
        """
        config, rest = split_config(argv)
        if config != ConfigArguments() and not self.takes_config:
            raise UsageError(f'{self.prog} takes no --config')
        if config.overrides and not self.takes_fields:
            raise UsageError(
                f'{config.overrides[0].flag}: {self.prog} changes no field of a config'
            )
        if config.spec is None and self.needs_config:
            raise UsageError(
                '--config=NAME_OR_FILE is missing; --config=quickstart is a small example'
            )
        canonical = [one for argument in rest for one in self._canonical(argument)]
        result, unknown = self.parse_known_intermixed_args(canonical)
        if unknown:
            raise UsageError(self._unknown(unknown[0]))
        result.config = config
        return result

    def flags(self) -> list[str]:
        """The names of all flags for users, sorted."""
        actions = self._option_string_actions.items()
        return sorted(name for name, action in actions if action.help != argparse.SUPPRESS)

    def switches(self) -> set[str]:
        """The names of the flags without a value."""
        return {name for name, action in self._option_string_actions.items() if action.nargs == 0}

    def _canonical(self, argument: str) -> list[str]:
        """Spells a flag with underscores, `--switch=true` as `--switch`, drops `--switch=false`."""
        if not argument.startswith('--') or argument == '--':
            return [argument]
        name, has_value, value = argument.partition('=')
        name = '--' + name.removeprefix('--').replace('-', '_')
        if name not in self.switches():
            off = name.replace('--no', '--', 1) in self.switches() and not has_value
            return [] if off else [name + has_value + value]
        if not has_value:
            return [name]
        if value.lower() not in SWITCH:
            raise UsageError(f'{shown(argument)}: wanted true or false')
        return [name] if SWITCH[value.lower()] else []

    def _unknown(self, argument: str) -> str:
        if not argument.startswith('-'):
            return (
                f'{shown(argument)}: {self.prog} takes no such argument; '
                'flags look like --name=value'
            )
        name = shown(argument.partition('=')[0])
        known = [*self.flags(), *(['--config'] if self.takes_config else []), '--help']
        return f'{self.prog} has no flag {name}; {nearest(name, known)}'


def split_config(argv: Sequence[str]) -> tuple[ConfigArguments, list[str]]:
    """Separates `--config` and `--config.FIELD` from the other arguments."""
    spec, overrides, others, rest = None, [], [], list(argv)
    while rest:
        argument = rest.pop(0)
        name, has_value, value = argument.partition('=')
        off = name.startswith(('--noconfig.', '-noconfig.'))
        field = name.partition('config.')[2]
        if argument == '--':
            others += [argument, *rest]
            break
        if name in ('--config', '-config'):
            spec = value if has_value else (rest.pop(0) if rest else '')
        elif off:
            overrides.append(Override(field=field, text='false'))
        elif name.startswith(('--config.', '-config.')):
            separate = not has_value and rest and not rest[0].startswith('--')
            text = rest.pop(0) if separate else (value if has_value else None)
            overrides.append(Override(field=field, text=text))
        else:
            others.append(argument)
    return ConfigArguments(spec=spec or None, overrides=tuple(overrides)), others


def shown(text: str, longest: int = LONGEST) -> str:
    r"""Text in one line of a message: without control characters (`\n`, `\x1b`), cut if longer."""
    more = f'… ({len(text):,} characters)' if len(text) > longest else ''
    return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text[:longest]) + more


def nearest(name: str, known: Sequence[str], most: int = 3) -> str:
    """Suggests similar names: `did you mean X or Y?`. Without any it lists all known names."""
    near = difflib.get_close_matches(name, known, n=most)
    return f'did you mean {" or ".join(near)}?' if near else f'wanted one of {", ".join(known)}'


def number(kind: Callable[[str], float], least: float) -> Callable[[str], float]:
    """Makes an argparse type: a finite number that is at least `least`."""

    def read(text: str) -> float:
        value = kind(text)
        if not math.isfinite(value) or value < least:
            raise argparse.ArgumentTypeError(f'{text}: wanted {least} or more')
        return value

    read.__name__ = getattr(kind, '__name__', 'number')  # for argparse's "invalid int value"
    return read


def local_path(text: str) -> pathlib.Path:
    """An argparse type: a path of this machine's file systems; `~` is the home folder."""
    scheme, separator, rest = text.partition('://')
    if separator and scheme == 'file':
        text = rest
    elif separator:
        raise argparse.ArgumentTypeError(
            f'{shown(text)}: folders at {shown(scheme)}:// are not supported, wanted a local path'
        )
    if '\0' in text:
        raise argparse.ArgumentTypeError(f'{text!r}: a path has no NUL character')
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f'{text}: {error}') from error


def path_or_address(text: str) -> pathlib.Path | str:
    """An argparse type: a path of this machine, or an address of a bucket as text."""
    scheme, separator, rest = text.partition('://')
    if not separator or scheme == 'file':
        return local_path(text)
    if scheme not in BUCKETS or not rest.strip('/'):
        raise argparse.ArgumentTypeError(
            f'{text}: wanted a local path, file://, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER'
        )
    return text.rstrip('/')


def numbers(text: str) -> tuple[float, ...]:
    """An argparse type: numbers separated by commas."""
    return tuple(map(float, text.split(',')))


def escape_unprintable() -> None:
    """Makes stdout write characters that its encoding lacks as backslash escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')
