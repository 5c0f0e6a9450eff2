"""Matching the class names of a data set with those of a network."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.types import InputError

SHOWN = 20  # names in one message


class ClassesError(InputError):
    """A data set's classes differ from a network's; the message compares them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """The logit index of each class of a data set, [classes] int32."""

    numbers: np.ndarray
    note: str

    def reordered(self, labels: np.ndarray, count: int) -> np.ndarray:
        """Numbers [N, K] of the data in the network's order.

        Raises:
            ClassesError: the labels are not the `count` numbers that the network predicts.
        """
        if labels.dtype.kind != 'f' or labels.shape[1] != count:
            raise ClassesError(
                f'the labels are not the {count} number(s) that the network predicts'
            )
        result = np.zeros_like(labels)
        result[:, self.numbers] = labels
        return result

    def renumbered(self, labels: np.ndarray, num_classes: int, *, several: bool) -> np.ndarray:
        """Labels of the data in the network's numbering.

        Args:
            labels: [N] of the data, or multi-hot [N, classes].
            num_classes: K, of the network.
            several: whether the network predicts several labels per image.

        Returns:
            [N] int32, or multi-hot [N, K] uint8 if `several`.

        Raises:
            ClassesError: the data has several labels per image and the network predicts one, or
                the labels are numbers.
        """
        if labels.dtype.kind == 'f':
            raise ClassesError('the labels are numbers, but the network predicts classes')
        if labels.ndim == 1:
            indices = self.numbers[labels]
            return np.eye(num_classes, dtype=np.uint8)[indices] if several else indices
        if not several:
            raise ClassesError(
                'the data has several labels per image, but the network predicts one'
            )
        result = np.zeros((len(labels), num_classes), np.uint8)
        result[:, self.numbers] = labels
        return result


def match(
    network: Sequence[str] | None,
    data: Sequence[str] | None,
    count: int,
    num_classes: int,
    aliases: Mapping[str, int] | None = None,
) -> Match:
    """Matches the classes of a data set with those of a network, by name.

    The data can have fewer classes than the network. If either side has no names, the order cannot
    be checked, which the note says; data with names must then have as many classes as the network.

    Args:
        network: names in the order of the logits; None if unknown.
        data: names in the order of the labels; None if labels are only numbers.
        count: classes of the data.
        num_classes: K, of the network.
        aliases: other names of the network's classes, used if they cover all names of the data.

    Raises:
        ClassesError: the network lacks a class of the data, or the numbers of classes differ.
    """
    if network is None or data is None:
        return _unnamed(network, data, count, num_classes)
    indices = {name: index for index, name in enumerate(network)}
    if aliases and set(data) <= aliases.keys() and not set(data) <= indices.keys():
        indices = dict(aliases)
    unknown = [name for name in data if name not in indices]
    if unknown:
        raise ClassesError(difference(network, data))
    numbers = np.asarray([indices[name] for name in data], np.int32)
    if len(data) < num_classes:
        note = f'The data has {len(data)} of the {num_classes} classes, matched by name.'
    elif np.array_equal(numbers, np.arange(num_classes)):
        note = 'The data has the same classes as the network, in the same order.'
    else:
        note = 'The data has the same classes in another order; they were matched by name.'
    return Match(numbers=numbers, note=note)


def _unnamed(
    network: Sequence[str] | None, data: Sequence[str] | None, count: int, num_classes: int
) -> Match:
    """Labels unchanged, because one side has no names to match."""
    if network is None and data is not None:
        numbered = _as_numbers(data, num_classes)
        if numbered is not None:
            return numbered
    fits = count <= num_classes if data is None else count == num_classes
    if not fits:
        listed = f' ({_few(data)})' if data else ''
        raise ClassesError(
            f'the data has {count} classes{listed}, the network {num_classes}'
            f'{", which have no names" if network is None else ""}'
        )
    side = 'network' if network is None else 'data'
    note = f'The {side} has no class names, so the order of the classes could not be checked.'
    return Match(numbers=np.arange(count, dtype=np.int32), note=note)


def _as_numbers(data: Sequence[str], num_classes: int) -> Match | None:
    """Matches class names that are logit indices, counted from 0 or 1; None for other names."""
    if not all(name.isascii() and name.isdigit() for name in data):
        return None
    numbers = np.asarray([int(name) for name in data], np.int64)
    if len(set(numbers.tolist())) < len(data) or numbers.max(initial=0) > num_classes:
        return None
    first = int(numbers.max(initial=0) == num_classes)
    if numbers.min(initial=first) < first:
        return None
    note = (
        'The network has no class names. The class names of the data are numbers and were used as '
        f'indices of its outputs, counted from {first}.'
    )
    return Match(numbers=(numbers - first).astype(np.int32), note=note)


def difference(network: Sequence[str], data: Sequence[str]) -> str:
    """The names that only the data (`+`) or only the network (`-`) has, a line each."""
    known, used = set(network), set(data)
    extra = [f'+ {name}' for name in data if name not in known]
    missing = [f'- {name}' for name in network if name not in used]
    return '\n  '.join(
        [
            f'{len(extra)} of the {len(data)} classes of the data (+) are not among the '
            f'{len(network)} of the network (- are missing in the data):',
            *_cut(extra),
            *_cut(missing),
        ]
    )


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f'{lines[0][0]} {more} more']


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')


def labels(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """A unique label for each logit: its name, or its number if names are unknown."""
    if names is None:
        return tuple(map(str, range(num_classes)))
    counts = collections.Counter(names)
    return tuple(n if counts[n] == 1 else f'{n} ({index})' for index, n in enumerate(names))
