"""Predicts how long the remaining cells of a sweep take."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tljax.config.experiment import Experiment
from tljax.sweep.cells import Cell, name_of
from tljax.sweep.folder import SweepFolder
from tljax.types import InputError

MEASURED_STEPS = 5  # after one that warms up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted time of a cell.

    Attributes:
        steps: of its training; None if unknown.
        seconds: of the cell; None if unknown.
        measured: whether it was predicted from timed steps, which leaves out evaluation, instead of
            from finished cells.
        problem: why the cell cannot run; empty if it can.
    """

    steps: int | None = None
    seconds: float | None = None
    measured: bool = False
    problem: str = ''


def predict(
    folder: SweepFolder,
    cells: Sequence[Cell],
    measure: Callable[[Experiment], tuple[int, float]] | None = None,
) -> dict[str, Prediction]:
    """Predicts the time of the cells that are not done, by their names.

    A finished cell predicts cells that differ from it in their seeds and their optimizer only.
    Without such a cell, a few steps are compiled and timed.

    Args:
        folder: of the sweep.
        cells: of the sweep.
        measure: an experiment to its steps and the seconds of all of them; None for the default,
            which times steps on this machine.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(group(cell.experiment), []).append(cell)
    predictions = {}
    for members in groups.values():
        open_ = [cell for cell in members if not folder.is_done(cell.name)]
        if open_:
            one = _ofgroup(folder, members, measure or measured)
            predictions |= {cell.name: one for cell in open_}
    return predictions


def group(experiment: Experiment) -> str:
    """The same for cells that take equally long."""
    optimizer: Any = type(experiment.optimizer)()
    return name_of(dataclasses.replace(experiment, seed=0, data_seed=None, optimizer=optimizer))


def _ofgroup(
    folder: SweepFolder,
    members: Sequence[Cell],
    measure: Callable[[Experiment], tuple[int, float]],
) -> Prediction:
    results = [result for cell in members if (result := folder.result(cell.name))]
    if results:
        seconds = float(np.mean([result['wall_seconds'] for result in results]))
        return Prediction(steps=max(result['steps'] for result in results), seconds=seconds)
    try:
        steps, seconds = measure(members[0].experiment)
    except InputError as error:
        return Prediction(problem=str(error))
    return Prediction(steps=steps, seconds=seconds, measured=True)


def measured(experiment: Experiment) -> tuple[int, float]:
    """The steps of an experiment, and its seconds, by starting it and timing a few steps.

    Raises:
        InputError: the experiment cannot run.
    """
    from tljax.training import compiled_step, jobs, step_cost

    started = time.perf_counter()
    job = jobs.setup(experiment)
    programs = [
        (
            phase,
            compiled_step.compile_train_step(
                job, phase, with_samples=bool(job.samples and job.samples.steps_in(phase))
            ),
        )
        for phase in job.phases
        if phase.length
    ]
    total = time.perf_counter() - started
    for phase, program in programs:
        seconds = step_cost.step_seconds([(job, phase, program)], MEASURED_STEPS)
        total += phase.length * float(np.median(seconds))
    return job.steps, total
