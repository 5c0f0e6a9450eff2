"""Cells that train only a linear head on the same frozen network are trained in one program."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from tljax.data.subsets import Subset
from tljax.metrics.tasks.classes import Classes
from tljax.models.stages import HEAD
from tljax.records import console
from tljax.records.folder_lock import BusyError
from tljax.records.runs import CHECKPOINTS
from tljax.strategies.schedules import Constant
from tljax.sweep.cells import Cell, name_of
from tljax.sweep.folder import OUTPUT_FILE, SweepFolder
from tljax.training import final_evaluation, signals
from tljax.training.head_grid import conditions, outputs, run
from tljax.training.head_grid.run import TrainedHead
from tljax.training.signals import Interrupted
from tljax.types import Task


def groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The groups of two or more cells that can be trained together, the largest first.

    They agree in everything but the learning rate, the weight decay, the schedule, the epochs, the
    seeds, and the selection of labelled images. Groups do not depend on what is done, so that the
    cells of a group have the same results after any number of interruptions.
    """
    by_key: dict[str, list[Cell]] = {}
    for cell in {cell.name: cell for cell in cells}.values():
        by_key.setdefault(_key(cell), []).append(cell)
    candidates = [group for group in by_key.values() if len(group) > 1]
    shared = [one for one in candidates if conditions.obstacle(one[0].experiment) is None]
    return sorted(shared, key=len, reverse=True)


def _key(cell: Cell) -> str:
    """The same for cells that may be trained together."""
    experiment = cell.experiment
    changes: dict[str, Any] = {
        'per_class': None,
        'subset': Subset(classes=experiment.subset.classes),
        'schedule': Constant(),
        'epochs': 1.0,
        'data_seed': None,
    }
    if experiment.backbone.weights and experiment.strategy.pretrained:
        changes['seed'] = 0  # without weights each seed has its own frozen network
    try:
        changes['optimizer'] = dataclasses.replace(
            experiment.optimizer,  # type: ignore[type-var]
            **dict.fromkeys(conditions.TRACED, 1.0),
        )
    except TypeError:  # an optimizer of the user's own without these fields
        return cell.name
    return name_of(dataclasses.replace(experiment, **changes))


def train(
    folder: SweepFolder,
    group: Sequence[Cell],
    *,
    output_to: Callable[..., contextlib.AbstractContextManager[None]],
    checkpoint: bool = True,
    announce: Callable[[Cell], None] = lambda _: None,
) -> None:
    """Trains the cells of a group together, and writes those that nobody else runs or has run.

    A cell that was started alone is left out and resumes alone. So is a cell that cannot run or
    whose loss is not finite, which then fails alone with its own error.

    Args:
        folder: of the sweep.
        group: one of `groups`; all of its cells are trained, so that their results do not depend on
            which of them are written.
        output_to: sends what is printed to a file; see `worker`.
        checkpoint: whether cells get a checkpoint.
        announce: called after each cell.

    Raises:
        Interrupted: a signal stopped this process.
    """
    with contextlib.ExitStack() as leases:
        taken = {cell.name for cell in group if _is_taken(folder, cell, leases)}
        if not taken:
            return
        started = time.perf_counter()
        heads = run.train([cell.experiment for cell in group])
        _announce([head for head in heads if head])
        seconds = (time.perf_counter() - started) / len(group)
        shared = {'cells': [cell.name for cell in group]}
        metrics_of = final_evaluation.make_metrics(group[0].experiment.loss, _task(heads))
        options = {'metrics_of': metrics_of, 'seconds': seconds, 'checkpoint': checkpoint}
        with signals.heard(), signals.deferred():  # a cell is written completely or not at all
            for head, cell in zip(heads, group, strict=True):
                if cell.name not in taken or head is None or head.failed:
                    continue
                workdir = folder.workdir(cell.name)
                with contextlib.suppress(BusyError), output_to(workdir / OUTPUT_FILE):
                    outputs.write(head, workdir, shared, **options)
                announce(cell)
                if number := signals.received():
                    raise Interrupted(number, head.job.steps)


def _task(heads: Sequence[TrainedHead | None]) -> Task:
    """The task of the heads; that of classes if none could be trained."""
    return next((head.job.model.task for head in heads if head), Classes())


def _is_taken(folder: SweepFolder, cell: Cell, leases: contextlib.ExitStack) -> bool:
    """Whether this process has got the lease of a cell that is still to be run from its start."""
    if folder.is_settled(cell.name) or any(folder.workdir(cell.name).glob(f'{CHECKPOINTS}/*')):
        return False
    lease = folder.acquire(cell.name)
    if lease is None:
        return False
    leases.enter_context(lease)
    return not folder.is_settled(cell.name)


def _announce(heads: Sequence[TrainedHead]) -> None:
    if len(heads) < 2:
        return
    job = heads[0].job
    last = job.model.names[job.model.names.index(HEAD) - 1]
    splits = [split for head in heads for split in head.job.splits.values()]
    images = len(set().union(*(split.ids.tolist() for split in splits)))
    console.console.print(
        f'{len(heads)} cells were trained together: they share the features of '
        f'{type(job.experiment.backbone).__name__} up to {last} ({images:,} images) and one program'
        '.',
        soft_wrap=True,
    )
