"""The grammar that all commands share: positional words, flags, `--config` and `--config.FIELD`.

Imports neither JAX nor the rest of the package, so that `--help` answers at once.
"""

import argparse
import dataclasses
import difflib
import io
import math
import sys
from collections.abc import Callable, Sequence

HELP = {'--help', '-h', '-help', '--helpfull'}
SWITCH = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}


class UsageError(Exception):
    """A command line that cannot be used; a line for each problem."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Override:
    """`--config.FIELD=TEXT`: what a field of the experiment is set to."""

    field: str  # optimizer.learning_rate, augmentations[0].pad_px
    text: str | None  # None for a switch without a value

    @property
    def flag(self) -> str:
        """As it is written on a command line."""
        return f'--config.{self.field}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigWords:
    """What a command line says of the experiment."""

    spec: str | None = None  # NAME_OR_FILE[:ARGUMENT]; the last one counts
    overrides: tuple[Override, ...] = ()  # in order


class Parser(argparse.ArgumentParser):
    """The words of a command: positional ones, flags, and `--config` where the command takes it.

    Flags may be spelled with underscores or hyphens, and switches as `--name=true|false`.
    """

    def __init__(self, name: str, text: str | None, *, config: bool = False, fields: bool = False):
        """Makes an empty parser.

        Args:
            name: of the command, as in `tljax NAME`.
            text: its help, printed as it stands.
            config: whether it takes `--config`.
            fields: whether it wants an experiment: `--config` is required, and `--config.FIELD=`
                sets a field of it.
        """
        super().__init__(prog=f'tljax {name}', add_help=False, allow_abbrev=False)
        self.text = (text or '').rstrip()
        self.takes_config, self.takes_fields = config or fields, fields

    def error(self, message: str):
        """Raises a `UsageError` where argparse would end the process."""
        raise UsageError(f'{message}; {self.prog} --help lists what it takes')

    def switch(self, name: str) -> None:
        """Adds a flag without a value."""
        self.add_argument(name, action='store_true')

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Reads the words after the command's name.

        Returns:
            The values of all arguments, and `config`, a `ConfigWords`.

        Raises:
            UsageError: a word cannot be used.
        """
        config, rest = split_config(words)
        if config != ConfigWords() and not self.takes_config:
            raise UsageError(f'{self.prog} takes no --config')
        if config.overrides and not self.takes_fields:
            raise UsageError(f'{config.overrides[0].flag}: {self.prog} sets no field of a config')
        if config.spec is None and self.takes_fields:
            raise UsageError(
                '--config=NAME_OR_FILE is missing; --config=quickstart is one to start with'
            )
        own = [one for word in rest for one in self._canonical(word)]
        given, unknown = self.parse_known_intermixed_args(own)
        if unknown:
            raise UsageError(self._unknown(unknown[0]))
        given.config = config
        return given

    def flags(self) -> list[str]:
        """The names of all flags, sorted."""
        return sorted(self._option_string_actions)

    def switches(self) -> set[str]:
        """The names of the flags without a value."""
        return {name for name, action in self._option_string_actions.items() if action.nargs == 0}

    def _canonical(self, word: str) -> list[str]:
        """A flag with underscores; a switch with a value as the switch alone, or as nothing."""
        if not word.startswith('--') or word == '--':
            return [word]
        name, has_value, value = word.partition('=')
        name = '--' + name.removeprefix('--').replace('-', '_')
        if name not in self.switches():
            off = name.replace('--no', '--', 1) in self.switches() and not has_value
            return [] if off else [name + has_value + value]
        if not has_value:
            return [name]
        if value.lower() not in SWITCH:
            raise UsageError(f'{word}: wanted true or false')
        return [name] if SWITCH[value.lower()] else []

    def _unknown(self, word: str) -> str:
        if not word.startswith('-'):
            return f'{word}: {self.prog} has no use for this word; flags look like --name=value'
        name = word.partition('=')[0]
        known = [*self.flags(), *(['--config'] if self.takes_config else []), '--help']
        return f'{self.prog} has no flag {name}; {nearest(name, known)}'


def split_config(words: Sequence[str]) -> tuple[ConfigWords, list[str]]:
    """What the words say of the experiment, and the other words.

    Raises:
        UsageError: a flag has no value.
    """
    spec, overrides, others, rest = None, [], [], list(words)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition('=')
        off = name.startswith(('--noconfig.', '-noconfig.'))
        field = name.partition('config.')[2]
        if word == '--':
            return ConfigWords(spec=spec, overrides=tuple(overrides)), [*others, word, *rest]
        if name in ('--config', '-config'):
            spec = value if has_value else (rest.pop(0) if rest else '')
        elif off:
            overrides.append(Override(field=field, text='false'))
        elif name.startswith(('--config.', '-config.')):
            separate = not has_value and rest and not rest[0].startswith('--')
            text = rest.pop(0) if separate else (value if has_value else None)
            overrides.append(Override(field=field, text=text))
        else:
            others.append(word)
    return ConfigWords(spec=spec or None, overrides=tuple(overrides)), others


def nearest(name: str, known: Sequence[str], most: int = 3) -> str:
    """`did you mean X or Y?`, or all the names there are."""
    near = difflib.get_close_matches(name, known, n=most)
    return f'did you mean {" or ".join(near)}?' if near else f'there is {", ".join(known)}'


def number(kind: Callable[[str], float], least: float) -> Callable[[str], float]:
    """A type of arguments: numbers of a kind that are finite and not below `least`."""

    def read(text: str) -> float:
        value = kind(text)
        if not math.isfinite(value) or value < least:
            raise argparse.ArgumentTypeError(f'{text}: wanted {least} or more')
        return value

    read.__name__ = getattr(kind, '__name__', 'number')  # argparse says: invalid int value
    return read


def numbers(text: str) -> tuple[float, ...]:
    """A type of arguments: numbers with commas between them."""
    return tuple(map(float, text.split(',')))


def escape_unprintable() -> None:
    """Lets stdout write characters that its encoding lacks as escapes instead of an error."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')
