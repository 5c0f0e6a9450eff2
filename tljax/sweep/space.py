"""What a sweep varies: axes, and how they are combined.

A part of a sweep has `points()`. A point sets some fields of the experiment; each point of the
sweep is a cell. A user's own part is any object with that method.
"""

import dataclasses
import enum
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tljax.config.value_text import value_text
from tljax.types import InputError


class SweepError(InputError):
    """A sweep cannot be used; the message has a line for each problem."""


class Role(enum.StrEnum):
    """What an axis is for.

    Attributes:
        COMPARED: its values are compared in the tables.
        TUNED: its best value is chosen on the validation split, for each compared cell and seed.
        SEED: its values repeat an experiment; results are averaged over them.
    """

    COMPARED = 'compared'
    TUNED = 'tuned'
    SEED = 'seed'


@dataclasses.dataclass(frozen=True, kw_only=True)
class AxisValue:
    """A value of an axis.

    Attributes:
        axis: the name of the axis.
        name: the name of the value, unique on its axis.
        fields: the fields of the experiment that it sets, by their paths.
        role: of the axis.
        number: the value if it is a number.
        baseline: whether the other values of its axis are compared with this one.
    """

    axis: str
    name: str
    fields: Mapping[str, Any]
    role: Role
    number: float | None = None
    baseline: bool = False


Condition = Callable[[Any], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """Settings of a cell, and conditions that its experiment has to meet.

    Attributes:
        settings: in the order in which they are applied.
        conditions: the cell is left out unless all are true of its experiment.
        searches: the point has the trials of a search instead of one cell, if there is one.
    """

    settings: tuple[AxisValue, ...] = ()
    conditions: tuple[Condition, ...] = ()
    searches: tuple[Any, ...] = ()

    def __add__(self, other: 'Point') -> 'Point':
        return Point(
            settings=self.settings + other.settings,
            conditions=self.conditions + other.conditions,
            searches=self.searches + other.searches,
        )


class Part(Protocol):
    """A part of a sweep."""

    def points(self) -> list[Point]:
        """The points of this part.

        Raises:
            SweepError: the part is not valid.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers between two limits, for `Sample` and `Search`.

    Attributes:
        low: the lower limit.
        high: the upper limit. Numbers are whole if both limits are.
        log: whether the logarithms of the numbers are equally likely, instead of the numbers.
    """

    low: float
    high: float
    log: bool = False

    def problems(self) -> list[str]:
        """Errors in the limits, one line each."""
        least = 0.0 if self.log else -math.inf
        if all(map(_is_number, (self.low, self.high))) and least < self.low < self.high < math.inf:
            return []
        return [f'{self}: wanted {"0 < " if self.log else ""}low < high']

    def draw(self, rng: np.random.Generator) -> float:
        """A random number; one that is not whole has four significant digits.

        Raises:
            SweepError: the limits are not valid.
        """
        if problems := self.problems():
            raise SweepError(problems[0])
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        elif whole:
            value = int(rng.integers(int(self.low), int(self.high) + 1))
        else:
            value = rng.uniform(self.low, self.high)
        return round(value) if whole else float(f'{value:.4g}')


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field of the experiment and the values it takes.

    Attributes:
        path: of the field: `strategy`, `optimizer.learning_rate`, `augmentations[0].pad_px`.
        values: a list of values, `{name: value}`, or a `Range` (in `Sample` and `Search`). A value
            may be an object. Without names, a value is named as it is typed on the command line.
        role: what the axis is for: 'compared', 'tuned' or 'seed'.
        baseline: the value, or its name, that the other values are compared with; None for the
            first value of the first compared axis.
    """

    path: str
    values: Sequence[Any] | Mapping[str, Any] | Range
    role: str = Role.COMPARED
    baseline: Any = None

    def points(self) -> list[Point]:
        """One point for each value."""
        if isinstance(self.values, Range):
            raise SweepError(f'Axis({self.path!r}): {self.values} is a range; wanted in a Sample')
        if isinstance(self.values, str) or not isinstance(self.values, Sequence | Mapping | range):
            raise SweepError(f'Axis({self.path!r}): values are {self.values!r:.60}, wanted a list')
        names, values = self._named()
        if not values:
            raise SweepError(f'Axis({self.path!r}): it has no values')
        first = dict(zip(reversed(names), reversed(values), strict=True))
        if twice := {n for n, value in zip(names, values, strict=True) if first[n] != value}:
            text = ', '.join(sorted(twice))
            raise SweepError(f'Axis({self.path!r}): different values are named {text}')
        is_baseline = [self._is_baseline(*pair) for pair in zip(names, values, strict=True)]
        if self.baseline is not None and not any(is_baseline):
            raise SweepError(
                f'Axis({self.path!r}): baseline is {self.baseline!r:.60}, wanted one of '
                f'{", ".join(names)}'
            )
        return [
            Point(settings=(self.setting(value, name, baseline=chosen),))
            for name, value, chosen in zip(names, values, is_baseline, strict=True)
        ]

    def setting(self, value: Any, name: str | None = None, *, baseline: bool = False) -> AxisValue:
        """A value of the axis as a setting."""
        return AxisValue(
            axis=self.path,
            name=value_text(value) if name is None else name,
            fields={self.path: value},
            role=self._role(),
            number=float(value) if _is_number(value) else None,
            baseline=baseline,
        )

    def _named(self) -> tuple[list[str], list[Any]]:
        if isinstance(self.values, Mapping):
            return [str(name) for name in self.values], list(self.values.values())
        values = list(self.values)  # type: ignore[arg-type]
        return [value_text(value) for value in values], values

    def _is_baseline(self, name: str, value: Any) -> bool:
        return self.baseline is not None and (self.baseline == name or self.baseline == value)

    def _role(self) -> Role:
        try:
            return Role(self.role)
        except ValueError:
            wanted = ', '.join(Role)
            raise SweepError(
                f'Axis({self.path!r}): role is {self.role!r}, wanted one of {wanted}'
            ) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


VARIED = ('both', 'training', 'images')


@dataclasses.dataclass(frozen=True)
class Seeds:
    """Repeats every experiment with several seeds.

    Attributes:
        count: the number of seeds.
        first: the first seed.
        vary: 'both' varies the training (initial values, order, augmentation) and the choice of the
            labelled and validation images; 'training' or 'images' varies one of them and holds the
            other fixed at the first seed.
    """

    count: int
    first: int = 0
    vary: str = 'both'

    def points(self) -> list[Point]:
        """One point for each seed."""
        if not isinstance(self.count, int) or self.count < 1 or self.vary not in VARIED:
            raise SweepError(f'{self}: wanted a count of 1 or more, and vary one of {VARIED}')
        return [self._point(seed) for seed in range(self.first, self.first + self.count)]

    def _point(self, seed: int) -> Point:
        fields = {
            'both': {'seed': seed, 'data_seed': None},
            'training': {'seed': seed, 'data_seed': self.first},
            'images': {'seed': self.first, 'data_seed': seed},
        }[self.vary]
        setting = AxisValue(axis='seed', name=str(seed), fields=fields, role=Role.SEED, number=seed)
        return Point(settings=(setting,))


class _Combination:
    """Several parts.

    Args:
        parts: axes, seeds, conditions and other combinations.
    """

    def __init__(self, *parts: Part):
        for part in parts:
            if not callable(getattr(part, 'points', None)):
                raise SweepError(
                    f'{type(self).__name__}: {part!r:.60} is no part of a sweep; wanted Axis, '
                    'Seeds, Where, Sample, Product, Zip or Chain'
                )
        self.parts = parts


class Product(_Combination):
    """Every combination of the points of its parts; the last part varies fastest."""

    def points(self) -> list[Point]:
        """See `Part`."""
        combinations = itertools.product(*(part.points() for part in self.parts))
        return [sum(points, Point()) for points in combinations]


class Zip(_Combination):
    """The first points of all parts together, then the second points, and so on."""

    def points(self) -> list[Point]:
        """See `Part`."""
        columns = [part.points() for part in self.parts]
        lengths = [len(column) for column in columns]
        if len(set(lengths)) > 1:
            raise SweepError(f'Zip: its parts have {lengths} values, wanted equal numbers')
        return [sum(points, Point()) for points in zip(*columns, strict=True)]


class Chain(_Combination):
    """The points of the first part, then those of the second, and so on."""

    def points(self) -> list[Point]:
        """See `Part`."""
        return [point for part in self.parts for point in part.points()]


@dataclasses.dataclass(frozen=True)
class Where:
    """In a `Product`, leaves out the cells whose experiment does not meet a condition.

    Attributes:
        condition: a function of the `Experiment`: `Where(lambda e: e.per_class > 5)`.
    """

    condition: Condition

    def points(self) -> list[Point]:
        """One point that sets nothing."""
        return [Point(conditions=(self.condition,))]


class Sample:
    """Random search: draws a value of each axis independently.

    Args:
        count: the number of points.
        seed: of the draws. A larger count keeps the points of a smaller one.
        axes: their values are ranges or lists; of a list each value is equally likely.
    """

    def __init__(self, count: int, seed: int, *axes: Axis):
        self.count, self.seed, self.axes = count, seed, axes

    def points(self) -> list[Point]:
        """See `Part`."""
        if not isinstance(self.count, int) or self.count < 1 or not self.axes:
            raise SweepError(
                f'Sample({self.count}, {self.seed}): wanted a count of 1 or more, a seed, and axes'
            )
        rng = np.random.default_rng(self.seed)
        return [
            sum((self._drawn(axis, rng) for axis in self.axes), Point()) for _ in range(self.count)
        ]

    def _drawn(self, axis: Axis, rng: np.random.Generator) -> Point:
        if isinstance(axis, Axis) and isinstance(axis.values, Range):
            return Point(settings=(axis.setting(axis.values.draw(rng)),))
        points = axis.points()
        return points[rng.integers(len(points))]
