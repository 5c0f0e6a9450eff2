"""Shares and intervals as text."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def percent(value: float | None) -> str:
    """`83.6 %`; a dash for None."""
    return '–' if value is None else f'{100 * value:.1f} %'


def with_interval(value: float | None, ends: Sequence[float]) -> str:
    """`83.6 % (78.1 to 88.0)`."""
    low, high = (f'{100 * end:.1f}' for end in ends)
    return f'{percent(value)} ({low} to {high})'


def estimate(record: Record) -> str:
    """`with_interval` of the entries `value`, `low` and `high`."""
    return with_interval(record['value'], (record['low'], record['high']))


def accuracy(record: Record) -> str:
    """`with_interval` of the entries `accuracy` and `accuracy_interval`."""
    return with_interval(record['accuracy'], record['accuracy_interval'])


def difference(record: Record) -> str:
    """`with_interval` of the entries `difference`, `low` and `high`."""
    return with_interval(record['difference'], (record['low'], record['high']))
