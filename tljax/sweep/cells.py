"""The cells of a sweep: one experiment each, checked, and named by what it computes."""

import copy
import dataclasses
import enum
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tljax.config import field_paths, json_form, validation, value_types
from tljax.config.experiment import HARMLESS, ConfigError, Experiment
from tljax.sweep.space import AxisValue, Condition, Part, Point, SweepError

PROBLEMS_SHOWN = 10
NAME_DIGITS = 12  # of a hash; two of a million cells have the same name with probability 0.002


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One experiment of a sweep.

    Attributes:
        name: a hash of the experiment without the fields that change no result. The folder of the
            cell has this name, so cells with the same experiment share one run.
        settings: the values of the axes.
        experiment: the experiment, without baselines and without a page of its own.
    """

    name: str
    settings: tuple[AxisValue, ...]
    experiment: Experiment

    @property
    def title(self) -> str:
        """`strategy=LinearProbe, seed=0`."""
        return ', '.join(f'{one.axis}={one.name}' for one in self.settings)


def expand(part: Part, base: Experiment) -> tuple[Cell, ...]:
    """Makes the cells of a sweep and checks each of them.

    Args:
        part: the sweep.
        base: the experiment that the cells change.

    Raises:
        SweepError: with a line for each field that does not exist or cannot have a value.
    """
    planned = points(part)
    cells = checked([point for point in planned if not point.searches], base)
    if not cells and not any(point.searches for point in planned):
        raise SweepError('the sweep has no cells: its conditions leave none')
    return cells


def points(part: Part) -> list[Point]:
    """The points of a sweep.

    Raises:
        SweepError: a part of it is not valid.
    """
    if not callable(getattr(part, 'points', None)):
        raise SweepError(f'the sweep is {part!r:.60}, wanted a Product, an Axis or another part')
    return part.points()


def checked(planned: Sequence[Point], base: Experiment) -> tuple[Cell, ...]:
    """Makes the cells of points, without those that do not meet their conditions.

    Raises:
        SweepError: with a line for each field that does not exist or cannot have a value.
    """
    cells, problems = [], {}
    for point in planned:
        try:
            if cell := cell_of(point, base):
                cells.append(cell)
        except (field_paths.FieldError, ConfigError) as error:
            problems |= dict.fromkeys(str(error).splitlines(), _title(point.settings))
    if problems:
        raise SweepError(_problems_text(problems))
    return tuple(cells)


def cell_of(point: Point, base: Experiment) -> Cell | None:
    """The cell of a point; None if it does not meet its conditions.

    Raises:
        FieldError: a field does not exist or cannot have a value.
        ConfigError: the experiment cannot be used.
    """
    cell = _cell(point, base)
    if not all(_is_met(condition, cell.experiment) for condition in point.conditions):
        return None
    validation.validate(cell.experiment)
    return cell


def _is_met(condition: Condition, experiment: Experiment) -> bool:
    try:
        return bool(condition(experiment))
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'
        raise ConfigError(f'Where: its condition raised {reason}') from error


def _problems_text(problems: dict[str, str]) -> str:
    lines = [f'{line} (in the cell {title})' for line, title in problems.items()]
    more = len(lines) - PROBLEMS_SHOWN
    return '\n'.join(lines[:PROBLEMS_SHOWN] + ([f'and {more} more'] if more > 0 else []))


def _title(settings: Sequence[AxisValue]) -> str:
    return ', '.join(f'{one.axis}={one.name}' for one in settings)


def _cell(point: Point, base: Experiment) -> Cell:
    experiment = copy.deepcopy(base)
    for setting in point.settings:
        for path, value in setting.fields.items():
            experiment = _changed(experiment, path, value)
    changes: dict[str, Any] = {'baselines': (), 'report': False}
    if experiment.data_seed == experiment.seed:
        changes['data_seed'] = None
    experiment = dataclasses.replace(experiment, **changes)
    return Cell(name=name_of(experiment), settings=point.settings, experiment=experiment)


def _changed(experiment: Experiment, path: str, value: Any) -> Experiment:
    """The experiment with a field set; the field may be in an object."""
    label = f'Axis({path!r})'

    def read(kind: Any) -> Any:
        converted = _converted(copy.deepcopy(value), kind)
        if not validation.fits(converted, kind):
            raise field_paths.FieldError(
                f'{label}: {value!r:.60} ({type(value).__name__}), '
                f'wanted {value_types.type_text(kind)}'
            )
        return converted

    return field_paths.Change(path=path, read=read, label=label).apply(experiment)


def _converted(value: Any, kind: Any) -> Any:
    """A list as a tuple and a text as the member of an enum, where a field takes those."""
    kinds = value_types.alternatives(kind)
    if isinstance(value, list) and any(map(value_types.is_tuple, kinds)):
        return tuple(value)
    if isinstance(value, str) and not isinstance(value, enum.Enum) and str not in kinds:
        for one in kinds:
            if isinstance(one, type) and issubclass(one, enum.Enum):
                members = {member.value: member for member in one}
                return members.get(value, value)
    return value


def name_of(experiment: Experiment) -> str:
    """The name of a cell: a hash of what its experiment computes.

    Fields that change no result are left out, and fields with their default, so that a new field in
    a later version keeps the names of cells.

    Raises:
        ConfigError: a value has no JSON form.
    """
    changes = {
        field.name: _default(field)
        for field in dataclasses.fields(experiment)
        if field.name in HARMLESS
    }
    essential = _essential(dataclasses.replace(experiment, **changes))
    try:
        text = json.dumps(essential, sort_keys=True)
    except TypeError as error:
        raise ConfigError(f'config: the experiment cannot be written as JSON: {error}') from error
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_DIGITS]


def _essential(value: Any) -> Any:
    """A value in JSON form, without fields that have their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        fields = {f.name: _essential(v) for f, v in values.items() if v != _default(f)}
        return {'class': json_form.name_of(type(value)), **fields}
    if isinstance(value, enum.Enum):
        return [json_form.name_of(type(value)), value.value]
    if isinstance(value, tuple):
        return [_essential(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
