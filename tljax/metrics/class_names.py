"""Whether the classes of a data set are those of a network, and which is which."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.types import InputError

SHOWN = 20  # names that one message lists


class ClassesError(InputError):
    """Classes of a data set that are not a network's; the message compares them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """The place of each class of a data set among a network's logits, [classes] int32."""

    numbers: np.ndarray
    note: str

    def placed(self, labels: np.ndarray, num_classes: int, *, several: bool) -> np.ndarray:
        """Labels of the data as the network has them.

        Args:
            labels: [N] of the data, or multi-hot [N, classes].
            num_classes: K, of the network.
            several: whether the network tells several labels of an image.

        Returns:
            [N] int32, or multi-hot [N, K] uint8 where it does.

        Raises:
            ClassesError: the data has several labels an image, and the network tells one.
        """
        if labels.ndim == 1:
            own = self.numbers[labels]
            return np.eye(num_classes, dtype=np.uint8)[own] if several else own
        if not several:
            raise ClassesError(
                'images of the data have several labels or none, and the network tells one an image'
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
    """Finds the classes of a data set among those of a network, by their names.

    Data may have fewer classes than the network, whose other ones remain possible answers. Where
    names are missing on either side the order cannot be checked, and the note says so: classes
    that the data names must then be as many as the network's.

    Args:
        network: the names in the order of the logits; None where they are not known.
        data: the names in the order of the labels; None where labels are numbers only.
        count: classes of the data.
        num_classes: K, of the network.
        aliases: other names of the network's classes, used where all of the data are such.

    Raises:
        ClassesError: the data has a class that the network has not, or another number of them.
    """
    if network is None or data is None:
        return _unnamed(network, data, count, num_classes)
    places = {name: place for place, name in enumerate(network)}
    if aliases and set(data) <= aliases.keys() and not set(data) <= places.keys():
        places = dict(aliases)
    unknown = [name for name in data if name not in places]
    if unknown:
        raise ClassesError(difference(network, data))
    numbers = np.asarray([places[name] for name in data], np.int32)
    if len(data) < num_classes:
        note = f'The data has {len(data)} of the {num_classes} classes, found by their names.'
    elif np.array_equal(numbers, np.arange(num_classes)):
        note = 'The classes are those of the network, in the same order.'
    else:
        note = 'The classes stand in another order than in the network: they go by their names.'
    return Match(numbers=numbers, note=note)


def _unnamed(
    network: Sequence[str] | None, data: Sequence[str] | None, count: int, num_classes: int
) -> Match:
    """Labels as they are, for want of names to check them by."""
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
    whose = 'network' if network is None else 'data'
    note = f'The {whose} has no names of classes: that both have one order could not be checked.'
    return Match(numbers=np.arange(count, dtype=np.int32), note=note)


def _as_numbers(data: Sequence[str], num_classes: int) -> Match | None:
    """Class names that are the numbers of a network's logits, from 0 or from 1; None for others."""
    if not all(name.isascii() and name.isdigit() for name in data):
        return None
    numbers = np.asarray([int(name) for name in data], np.int64)
    if len(set(numbers.tolist())) < len(data) or numbers.max(initial=0) > num_classes:
        return None
    first = int(numbers.max(initial=0) == num_classes)
    if numbers.min(initial=first) < first:
        return None
    note = (
        f'The network has no names of classes. The classes of the data are numbers, and were taken '
        f'as the places of its outputs, counted from {first}.'
    )
    return Match(numbers=(numbers - first).astype(np.int32), note=note)


def difference(network: Sequence[str], data: Sequence[str]) -> str:
    """What `+` the data has and `-` the network has alone, a line each."""
    there, here = set(network), set(data)
    more = [f'+ {name}' for name in data if name not in there]
    less = [f'- {name}' for name in network if name not in here]
    return '\n  '.join(
        [
            f'{len(more)} of the {len(data)} classes of the data (+) are not among the '
            f'{len(network)} of the network (- are those that the data has not):',
            *_cut(more),
            *_cut(less),
        ]
    )


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f'{lines[0][0]} {more} more']


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')


def labels(names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """A text for each logit, no two alike: its name, or its number where that is all."""
    if names is None:
        return tuple(map(str, range(num_classes)))
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    return tuple(n if seen[n] == 1 else f'{n} ({place})' for place, n in enumerate(names))
