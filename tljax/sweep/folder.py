"""The folder of sweeps: their records, and the folders of their cells.

    DIR/sweep.json, DIR/NAME/sweep.json   the record of the unnamed sweep and of a named one
    DIR/cells/CELL/                       the run of a cell, as `tljax train` writes it
    DIR/cells/CELL/failure.json           the error that ended it
    DIR/cells/CELL/pruned.json            where a search stopped it, and its validation curve
    DIR/cells/CELL/output.txt             what it printed
    DIR/configs/CELL.json                 its experiment
    DIR/leases/CELL.json                  the process that runs it
    DIR/search.journal, DIR/NAME/…        the trials of its searches
    DIR/slurm/                            the jobs of SLURM and their output

Sweeps of one folder share the cells that they have in common.
"""

import dataclasses
import json
import pathlib
import shutil
import traceback
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.config import config_json, json_form
from tljax.records import lease, predictions, writers
from tljax.records.lease import Lease, Owner
from tljax.records.predictions import PREDICTIONS_FILE, Predictions
from tljax.records.runs import CHECKPOINTS, RESULT_FILE
from tljax.sweep.cells import Cell
from tljax.sweep.space import Role, SweepError

RECORD = 'sweep.json'
FAILURE_FILE = 'failure.json'
EARLIER_FAILURE_FILE = 'earlier_failure.json'
PRUNED_FILE = 'pruned.json'
OUTPUT_FILE = 'output.txt'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """A value of an axis; `number` is None unless it is a number."""

    name: str
    number: float | None
    baseline: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class AxisRecord:
    """An axis of a sweep with its values, in order."""

    name: str
    role: Role
    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellRecord:
    """A cell of a sweep: its name, and the name of its value on each axis that it has."""

    name: str
    settings: dict[str, str]

    @property
    def title(self) -> str:
        """`strategy=LinearProbe, seed=0`."""
        return ', '.join(f'{axis}={value}' for axis, value in self.settings.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """The record of a sweep.

    Attributes:
        name: of the sweep; empty for the only one of its config.
        command: that runs it.
        config: the JSON form of the experiment that the cells change.
        axes: in the order in which the sweep names them.
        cells: in the order in which they are run.
    """

    name: str
    command: str
    config: dict[str, Any]
    axes: tuple[AxisRecord, ...]
    cells: tuple[CellRecord, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """The error that ended a cell.

    Attributes:
        kind: the class of the error.
        message: of the error.
        traceback: its lines.
        attempts: how often the cell has failed.
    """

    kind: str
    message: str
    traceback: str
    attempts: int = 1


@dataclasses.dataclass(frozen=True)
class SweepFolder:
    """A folder of sweeps."""

    path: pathlib.Path

    def record(self, name: str = '') -> SweepRecord:
        """Reads the record of a sweep.

        Raises:
            SweepError: there is none, or it is damaged.
        """
        path = self.path / name / RECORD
        try:
            fields = json.loads(path.read_text())
            axes = [
                AxisRecord(
                    name=axis['name'],
                    role=Role(axis['role']),
                    values=tuple(Value(**value) for value in axis['values']),
                )
                for axis in fields['axes']
            ]
            cells = tuple(CellRecord(**cell) for cell in fields['cells'])
            texts = {name: fields[name] for name in ('name', 'command', 'config')}
        except FileNotFoundError:
            known = ', '.join(repr(one) for one in self.names()) or 'none'
            raise SweepError(f'{path}: there is no such sweep; the folder has {known}') from None
        except (ValueError, KeyError, TypeError) as error:
            raise SweepError(f'{path} is damaged: {error!r}') from error
        return SweepRecord(**texts, axes=tuple(axes), cells=cells)

    def names(self) -> list[str]:
        """The names of the recorded sweeps; '' is the unnamed one."""
        records = [*self.path.glob(RECORD), *self.path.glob(f'*/{RECORD}')]
        return sorted(str(path.parent.relative_to(self.path)).removeprefix('.') for path in records)

    def write(self, record: SweepRecord, cells: Sequence[Cell]) -> None:
        """Writes the record of a sweep and the configs of its cells."""
        (self.path / record.name).mkdir(parents=True, exist_ok=True)
        (self.path / 'configs').mkdir(exist_ok=True)
        for cell in cells:
            path = self.config(cell.name)
            if not path.exists():
                _write(path, json.loads(config_json.to_json(cell.experiment)))
        _write(self.path / record.name / RECORD, dataclasses.asdict(record))

    def config(self, cell: str) -> pathlib.Path:
        """The file with the experiment of a cell."""
        return self.path / 'configs' / f'{cell}.json'

    def workdir(self, cell: str) -> pathlib.Path:
        """The folder of the run of a cell."""
        return self.path / 'cells' / cell

    def command(self, cell: Cell, config_file: pathlib.Path | None) -> list[str]:
        """The command that runs a cell without its sweep, or resumes it.

        Args:
            cell: the cell.
            config_file: of the sweep; it may define classes of the experiment.
        """
        argv = ['python', '-m', 'tljax.main', f'--config={self.config(cell.name).absolute()}']
        if config_file and json_form.foreign_modules(json_form.encode(cell.experiment)):
            argv.append(f'--classes={config_file.absolute()}')
        return [*argv, f'--workdir={self.workdir(cell.name).absolute()}']

    def acquire(self, cell: str) -> Lease | None:
        """The lease of a cell; None if another process runs it."""
        return lease.acquire(self._lease(cell))

    def runner(self, cell: str) -> Owner | None:
        """The process that runs a cell; None without one."""
        return lease.holder(self._lease(cell))

    def was_interrupted(self, cell: str) -> bool:
        """Whether a process ended while it ran a cell."""
        return lease.read(self._lease(cell)) is not None and self.runner(cell) is None

    def _lease(self, cell: str) -> pathlib.Path:
        return self.path / 'leases' / f'{cell}.json'

    def is_done(self, cell: str) -> bool:
        """Whether a cell has a result."""
        return (self.workdir(cell) / RESULT_FILE).exists()

    def is_settled(self, cell: str) -> bool:
        """Whether a cell is done or has failed."""
        return self.is_done(cell) or self.failure(cell) is not None

    def result(self, cell: str) -> dict[str, Any] | None:
        """The content of a cell's result.json; None if it has none, or a damaged one."""
        try:
            return json.loads((self.workdir(cell) / RESULT_FILE).read_text())
        except (OSError, ValueError):
            return None

    def predictions(self, cell: str) -> Predictions | None:
        """The predictions of a cell; None if it has none."""
        path = self.workdir(cell) / PREDICTIONS_FILE
        return predictions.read(path) if path.exists() else None

    def failure(self, cell: str) -> Failure | None:
        """The error that ended a cell; None without one, and if the cell is done."""
        return None if self.is_done(cell) else self._failure(cell, FAILURE_FILE)

    def _failure(self, cell: str, file: str) -> Failure | None:
        try:
            return Failure(**json.loads((self.workdir(cell) / file).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def fail(self, cell: str, error: Exception) -> None:
        """Records the error that ended a cell."""
        lines = ''.join(traceback.format_exception(error))
        self.record_failure(cell, type(error).__name__, str(error), lines)

    def record_failure(self, cell: str, kind: str, message: str, traceback: str) -> None:
        """Records an error by the fields of a `Failure`, and counts it."""
        self.workdir(cell).mkdir(parents=True, exist_ok=True)
        earlier = self._failure(cell, EARLIER_FAILURE_FILE)
        failure = Failure(
            kind=kind,
            message=message,
            traceback=traceback,
            attempts=earlier.attempts + 1 if earlier else 1,
        )
        writers.write_json(self.workdir(cell) / FAILURE_FILE, dataclasses.asdict(failure))

    def retry(self, cell: str) -> None:
        """Lets a failed cell run again; the earlier error is kept until it is done."""
        path = self.workdir(cell) / FAILURE_FILE
        if path.exists():
            path.replace(self.workdir(cell) / EARLIER_FAILURE_FILE)

    def prune(self, cell: str, curve: Mapping[int, float]) -> None:
        """Records that a search stopped a cell, with its validation value after some steps."""
        content = {'step': max(curve), 'curve': dict(curve)}
        writers.write_json(self.workdir(cell) / PRUNED_FILE, content)

    def pruned(self, cell: str) -> dict[int, float] | None:
        """The validation curve of a cell that a search stopped, by step; None of another cell."""
        try:
            content = json.loads((self.workdir(cell) / PRUNED_FILE).read_text())
        except (OSError, ValueError):
            return None
        if self.is_done(cell):  # another sweep has trained it to its end
            return None
        return {int(step): value for step, value in content['curve'].items()}

    def delete_checkpoints(self, cell: str) -> None:
        """Deletes the checkpoints of a cell; its result and its predictions stay."""
        shutil.rmtree(self.workdir(cell) / CHECKPOINTS, ignore_errors=True)


def _write(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file completely or not at all; several processes may write the same file."""
    part = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
    part.write_text(json.dumps(content, indent=2) + '\n')
    part.replace(path)


def record_of(
    cells: Sequence[Cell], *, name: str, command: str, config: dict[str, Any]
) -> SweepRecord:
    """Makes the record of a sweep from its cells.

    Args:
        cells: of the sweep.
        name: of the sweep; empty for the only one of its config.
        command: that runs it.
        config: the JSON form of the experiment that the cells change.
    """
    values: dict[tuple[str, Role], dict[str, Value]] = {}
    for cell in cells:
        for one in cell.settings:
            value = Value(name=one.name, number=one.number, baseline=one.baseline)
            values.setdefault((one.axis, one.role), {}).setdefault(one.name, value)
    return SweepRecord(
        name=name,
        command=command,
        config=config,
        axes=tuple(
            AxisRecord(name=axis, role=role, values=tuple(by_name.values()))
            for (axis, role), by_name in values.items()
        ),
        cells=tuple(
            CellRecord(name=cell.name, settings={one.axis: one.name for one in cell.settings})
            for cell in cells
        ),
    )
