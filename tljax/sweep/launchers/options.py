"""Reads the options of a launcher, `KEY=VALUE,...`."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tljax.sweep.space import SweepError

KEY = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)=(.*)', re.DOTALL)
TRUTH = {'true': True, 'false': False}


def truth(text: str) -> bool:
    """The value of `true` or `false`.

    Raises:
        ValueError: the text is neither.
    """
    if text not in TRUTH:
        raise ValueError(text)
    return TRUTH[text]


def number(text: str) -> float | int:
    """A number, whole if its text is.

    Raises:
        ValueError: the text is no positive number, nor 0.
    """
    value = float(text) if '.' in text else int(text)
    if not value >= 0:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """A whole number from 1.

    Raises:
        ValueError: the text is no such number.
    """
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


WANTED = {truth: 'true or false', number: 'a number', count: 'a whole number from 1'}


def read(text: str, known: Mapping[str, Callable[[str], Any]], launcher: str) -> dict[str, Any]:
    """Reads options.

    Args:
        text: `KEY=VALUE,...`; a value may have commas if no KEY= follows them.
        known: the options of the launcher, and what reads the value of each.
        launcher: its name.

    Raises:
        SweepError: an option is not known, or has another kind of value.
    """
    values: dict[str, Any] = {}
    for key, value in _pairs(text):
        if key not in known:
            raise SweepError(
                f'--launcher_options: {launcher} has no option {key}; it has {", ".join(known)}'
            )
        try:
            values[key] = known[key](value)
        except ValueError:
            raise SweepError(
                f'--launcher_options: {key}={value}, wanted {WANTED[known[key]]}'
            ) from None
    return values


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for piece in text.split(',') if text else []:
        if match := KEY.fullmatch(piece):
            pairs.append((match[1], match[2]))
        elif pairs:
            pairs[-1] = (pairs[-1][0], f'{pairs[-1][1]},{piece}')
        else:
            raise SweepError(f'--launcher_options: {piece!r}, wanted KEY=VALUE,...')
    return pairs
