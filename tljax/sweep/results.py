"""The results of a sweep: its cells with their metrics, and the configuration chosen by validation.

A variant is a combination of values of the compared axes. For each variant and seed, the values of
the tuned axes are chosen by the validation split. The test split is read only after the choice.
"""

import dataclasses
import enum
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.metrics import scores
from tljax.sweep.folder import AxisRecord, CellRecord, Failure, SweepFolder, SweepRecord, Value
from tljax.sweep.space import Role

Settings = Mapping[str, str]  # the name of the value on each axis
TEST, VALIDATION = 'test', 'val'


class Status(enum.StrEnum):
    """What has happened to a cell.

    Attributes:
        DONE: it has a result.
        FAILED: an error ended it.
        PRUNED: a search stopped it.
        RUNNING: a process runs it.
        OPEN: it was not run yet, or it was interrupted.
    """

    DONE = 'done'
    FAILED = 'failed'
    PRUNED = 'pruned'
    RUNNING = 'running'
    OPEN = 'open'


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellResult:
    """A cell and what is known about it.

    Attributes:
        record: its name and settings.
        status: what has happened to it.
        result: the content of its result.json; empty unless it is done.
        failure: the error that ended it; None unless it failed.
    """

    record: CellRecord
    status: Status
    result: Mapping[str, Any]
    failure: Failure | None = None

    def metrics(self, split: str) -> Mapping[str, Any]:
        """The metrics of a split; empty without them."""
        metrics = self.result.get(split)
        return metrics if isinstance(metrics, Mapping) else {}

    def score(self, split: str) -> float | None:
        """The score that checkpoints are selected by, such as the accuracy; a larger one is better.

        None without images of the split, or if the score is not finite.
        """
        return _finite(scores.value(self.metrics(split)))

    @property
    def rank(self) -> tuple[float, float] | None:
        """The validation score and minus the validation loss; None without a score."""
        score = self.score(VALIDATION)
        loss = _finite(self.metrics(VALIDATION).get('loss'))
        return None if score is None else (score, -math.inf if loss is None else -loss)

    def number(self, name: str) -> float | None:
        """A number of result.json, such as `wall_seconds`; None if it is not recorded."""
        return _finite(self.result.get(name))

    @property
    def error(self) -> str:
        """`ValueError: …`; empty unless the cell failed."""
        return '' if self.failure is None else f'{self.failure.kind}: {self.failure.message}'


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedResult:
    """The configurations of one variant with one seed.

    Attributes:
        seed: the values of the seed axes.
        cells: one for each configuration of the tuned axes.
        chosen: the cell with the highest validation score, then the lowest validation loss, then
            the earliest in the sweep; None if no cell can be chosen.
    """

    seed: str
    cells: tuple[CellResult, ...]
    chosen: CellResult | None

    @property
    def tried(self) -> tuple[CellResult, ...]:
        """The cells with a result."""
        return tuple(cell for cell in self.cells if cell.status is Status.DONE)


def choose(cells: Sequence[CellResult]) -> CellResult | None:
    """The cell with the best validation result; a single cell needs no validation images."""
    done = [cell for cell in cells if cell.status is Status.DONE]
    if len(cells) == 1:
        return done[0] if done else None
    ranked = [cell for cell in done if cell.rank is not None]
    return max(ranked, key=lambda cell: cell.rank or (), default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A combination of values of the compared axes.

    Attributes:
        settings: the name of its value on each compared axis that it has.
        seeds: the results with each seed, in the order of the sweep.
    """

    settings: Settings
    seeds: tuple[SeedResult, ...]

    def scores(self, split: str) -> dict[str, float]:
        """The score of the chosen cell, for each seed that has one."""
        pairs = {one.seed: one.chosen.score(split) for one in self.seeds if one.chosen}
        return {seed: score for seed, score in pairs.items() if score is not None}

    @property
    def chosen(self) -> tuple[CellResult, ...]:
        """The chosen cell of each seed that has one."""
        return tuple(one.chosen for one in self.seeds if one.chosen is not None)

    def seeds_text(self, split: str) -> str:
        """`5`, or `4 of 5 (1 failed)` with the reason of each hole."""
        known = self.scores(split)
        missing = [_reason(one, split) for one in self.seeds if one.seed not in known]
        if not missing:
            return str(len(self.seeds))
        reasons = ', '.join(f'{count} {reason}' for reason, count in Counter(missing).items())
        return f'{len(known)} of {len(self.seeds)} ({reasons})'

    def budget_text(self) -> str:
        """The number of configurations tried for each seed: `3`, `2 of 3` or `0–2 of 3`."""
        tried = [len(one.tried) for one in self.seeds]
        wanted = max((len(one.cells) for one in self.seeds), default=0)
        low, high = min(tried, default=0), max(tried, default=0)
        if low == high == wanted:
            return str(wanted)
        return f'{low} of {wanted}' if low == high else f'{low}–{high} of {wanted}'

    @property
    def complete(self) -> bool:
        """Whether every cell has a result."""
        return all(len(one.tried) == len(one.cells) for one in self.seeds)


def _reason(one: SeedResult, split: str) -> str:
    """Why a seed has no score."""
    if one.chosen is not None:
        return f'without {"test" if split == TEST else "validation"} score'
    statuses = {cell.status for cell in one.cells}
    for status in (Status.RUNNING, Status.OPEN, Status.FAILED):
        if status in statuses:
            return status.value
    return 'without validation score'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a sweep.

    Attributes:
        record: of the sweep.
        cells: in the order of the sweep.
        variants: in the order of the sweep.
        split: the split of the results: `test` if a cell has a test score, else `val`; None before
            any cell has a score.
    """

    record: SweepRecord
    cells: tuple[CellResult, ...]
    variants: tuple[Variant, ...]
    split: str | None

    def axes(self, role: Role) -> tuple[AxisRecord, ...]:
        """The axes with a role."""
        return tuple(axis for axis in self.record.axes if axis.role is role)

    def count(self, status: Status) -> int:
        """The number of cells with a status."""
        return sum(cell.status is status for cell in self.cells)

    @property
    def seeds(self) -> tuple[str, ...]:
        """All seeds, in the order of the sweep."""
        return tuple(dict.fromkeys(one.seed for row in self.variants for one in row.seeds))

    @property
    def tuned(self) -> bool:
        """Whether a configuration was chosen from several."""
        return any(len(one.cells) > 1 for row in self.variants for one in row.seeds)

    @property
    def measure(self) -> str:
        """The title of the score, such as `accuracy`, or `mAP` if images have several labels."""
        done = {name for cell in self.cells for name in cell.metrics(self.split or '')}
        named = (one.title for one in scores.SCORES if one.name in done)
        return next(named, scores.ACCURACY.title)


def settings_of(cell: CellResult, axes: Sequence[AxisRecord]) -> dict[str, str]:
    """The values of a cell on the axes that it has."""
    settings = cell.record.settings
    return {axis.name: settings[axis.name] for axis in axes if axis.name in settings}


def value_of(axis: AxisRecord, name: str | None) -> Value | None:
    """The value of an axis with a name; None if there is none."""
    return next((value for value in axis.values if value.name == name), None)


def read(folder: SweepFolder, name: str = '') -> Results:
    """Reads the results of a sweep; it may still run.

    Raises:
        SweepError: there is no such sweep, or its record is damaged.
    """
    record = folder.record(name)
    known: dict[str, CellResult] = {}
    for cell in record.cells:
        if cell.name not in known:
            known[cell.name] = _cell(folder, cell)
    cells = tuple(dataclasses.replace(known[one.name], record=one) for one in record.cells)
    splits = [s for s in (TEST, VALIDATION) if any(c.score(s) is not None for c in cells)]
    return Results(
        record=record,
        cells=cells,
        variants=_variants(record, [cell for cell in cells if cell.status is not Status.PRUNED]),
        split=splits[0] if splits else None,
    )


def _cell(folder: SweepFolder, record: CellRecord) -> CellResult:
    result, failure, status = None, None, Status.OPEN
    if folder.is_done(record.name):
        result, status = folder.result(record.name), Status.DONE
        if not isinstance(result, Mapping):
            failure = Failure(kind='RunError', message='result.json is damaged', traceback='')
            result, status = None, Status.FAILED
    elif folder.runner(record.name) is not None:
        status = Status.RUNNING
    elif failure := folder.failure(record.name):
        status = Status.FAILED
    elif folder.pruned(record.name) is not None:
        status = Status.PRUNED
    return CellResult(record=record, status=status, result=result or {}, failure=failure)


def _variants(record: SweepRecord, cells: Sequence[CellResult]) -> tuple[Variant, ...]:
    """Groups cells by the compared axes, and then by the seed axes."""

    def part(cell: CellResult, role: Role) -> Settings:
        return settings_of(cell, [axis for axis in record.axes if axis.role is role])

    groups: dict[tuple, dict[str, dict[str, CellResult]]] = {}
    for cell in cells:
        seeds = groups.setdefault(tuple(part(cell, Role.COMPARED).items()), {})
        seed = ', '.join(part(cell, Role.SEED).values())
        seeds.setdefault(seed, {}).setdefault(cell.record.name, cell)
    return tuple(
        Variant(settings=dict(settings), seeds=tuple(_seed(*pair) for pair in seeds.items()))
        for settings, seeds in groups.items()
    )


def _seed(seed: str, by_name: Mapping[str, CellResult]) -> SeedResult:
    cells = tuple(by_name.values())
    return SeedResult(seed=seed, cells=cells, chosen=choose(cells))
