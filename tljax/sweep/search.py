"""Search for the best values of some axes, as a part of a sweep."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.config.experiment import Experiment
from tljax.sweep import cells
from tljax.sweep.cells import Cell
from tljax.sweep.space import Axis, AxisValue, Part, Point, Range, Role, SweepError

SAMPLERS = ('tpe', 'random')
PRUNERS = ('halving', None)

Values = Mapping[str, Any]  # by axis: a number of its range, or the name of one of its values


class Search:
    """Searches for the values of some axes with the best validation score.

    In a `Product` with compared axes and `Seeds`, every compared cell and seed has a search of its
    own. A search needs the extra `search`.

    Args:
        axes: their values are ranges or lists.
        budget_steps: the training steps of all trials of a search.
        sampler: 'tpe' draws values close to those of good trials; 'random' draws them
            independently.
        pruner: 'halving' pauses trials at 1/9 and 1/3 of their steps, and the best third goes on;
            None trains every trial to its end.
        seed: of the draws.
    """

    def __init__(
        self,
        *axes: Axis,
        budget_steps: int,
        sampler: str = 'tpe',
        pruner: str | None = 'halving',
        seed: int = 0,
    ):
        self.axes, self.budget_steps = axes, budget_steps
        self.sampler, self.pruner, self.seed = sampler, pruner, seed

    def points(self) -> list[Point]:
        """One point that stands for all trials."""
        if problems := self._problems():
            raise SweepError('\n'.join(f'Search: {problem}' for problem in problems))
        return [Point(searches=(self,))]

    def _problems(self) -> list[str]:
        problems = []
        if not self.axes or not all(isinstance(axis, Axis) for axis in self.axes):
            problems.append('wanted one Axis or several')
        if not isinstance(self.budget_steps, int) or self.budget_steps < 1:
            problems.append(f'budget_steps is {self.budget_steps!r}, wanted a whole number from 1')
        if self.sampler not in SAMPLERS:
            problems.append(f'sampler is {self.sampler!r}, wanted one of {", ".join(SAMPLERS)}')
        if self.pruner not in PRUNERS:
            problems.append(f"pruner is {self.pruner!r}, wanted 'halving' or None")
        if not isinstance(self.seed, int):
            problems.append(f'seed is {self.seed!r}, wanted a whole number')
        for axis in self.axes:
            if isinstance(axis, Axis) and isinstance(axis.values, Range):
                problems += axis.values.problems()
        return problems

    @property
    def names(self) -> dict[str, list[str]]:
        """The names of the values of each axis that has a list."""
        return {axis.path: list(_by_name(axis)) for axis in self.axes if not _is_range(axis)}

    @property
    def ranges(self) -> dict[str, Range]:
        """The range of each axis that has one."""
        return {axis.path: axis.values for axis in self.axes if isinstance(axis.values, Range)}

    def settings(self, values: Values) -> tuple[AxisValue, ...]:
        """The values of a trial as settings of its cell."""
        return tuple(_setting(axis, values[axis.path]) for axis in self.axes)

    def corners(self) -> list[Values]:
        """Values of trials in which every value of a list and every end of a range occurs."""
        options = [_extremes(axis) for axis in self.axes]
        first = {axis.path: values[0] for axis, values in zip(self.axes, options, strict=True)}
        return [
            {**first, axis.path: value}
            for axis, values in zip(self.axes, options, strict=True)
            for value in values
        ]


def _is_range(axis: Axis) -> bool:
    return isinstance(axis.values, Range)


def _by_name(axis: Axis) -> dict[str, AxisValue]:
    settings = [point.settings[0] for point in axis.points()]
    return {setting.name: setting for setting in settings}


def _setting(axis: Axis, value: Any) -> AxisValue:
    setting = axis.setting(value) if _is_range(axis) else _by_name(axis)[value]
    return dataclasses.replace(setting, role=Role.TUNED, baseline=False)


def _extremes(axis: Axis) -> Sequence[Any]:
    if isinstance(axis.values, Range):
        return axis.values.low, axis.values.high
    return list(_by_name(axis))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A search with the compared values and the seed that all of its trials have.

    Attributes:
        name: a hash of the fixed experiment and of the axes.
        point: the compared values and the seed.
        search: the search.
        base: the experiment that the trials change.
    """

    name: str
    point: Point
    search: Search
    base: Experiment

    @property
    def title(self) -> str:
        """`strategy=LinearProbe, seed=0`; empty without compared axes and seeds."""
        return ', '.join(f'{one.axis}={one.name}' for one in self.point.settings)

    def cell(self, values: Values) -> Cell | None:
        """The cell of a trial; None if it does not meet the conditions of the sweep.

        Raises:
            InputError: the experiment cannot be used.
        """
        point = Point(
            settings=self.point.settings + self.search.settings(values),
            conditions=self.point.conditions,
        )
        return cells.cell_of(point, self.base)


def studies(part: Part, base: Experiment) -> tuple[Study, ...]:
    """The searches of a sweep, after a check of all their axes.

    Raises:
        SweepError: with a line for each field that does not exist or cannot have a value.
    """
    result, corners = [], []
    for point in cells.points(part):
        searches: list[Search] = list(point.searches)
        if not searches:
            continue
        if len(searches) > 1:
            raise SweepError('Search: a sweep has one search for each cell, this one has several')
        (search,) = searches
        for values in search.corners():
            settings = point.settings + search.settings(values)
            corners.append(Point(settings=settings, conditions=point.conditions))
        name = _name(point, search, base)
        result.append(Study(name=name, point=point, search=search, base=base))
    cells.checked(corners, base)
    return tuple(result)


def _name(point: Point, search: Search, base: Experiment) -> str:
    """A hash of what decides the trials of a search, apart from its budget."""
    fixed = Point(settings=point.settings + search.settings(search.corners()[0]))
    experiment = cells.checked([fixed], base)[0].experiment
    ranges = {path: dataclasses.astuple(range_) for path, range_ in search.ranges.items()}
    parts = [
        cells.name_of(experiment), ranges, search.names, search.sampler, search.pruner, search.seed
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[: cells.NAME_DIGITS]
