"""A worker: runs the cells of a sweep until none is left, together where they can share a program.

Any number of workers on any hosts can run the same sweep. A lease for each cell keeps two of them
from running it at the same time. A cell that was stopped is resumed.
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence

from tljax.models import shared_programs
from tljax.records import console, disk_space
from tljax.records.folder_lock import BusyError
from tljax.sweep import shared_heads
from tljax.sweep.cells import Cell
from tljax.sweep.folder import OUTPUT_FILE, SweepFolder
from tljax.training.run import train
from tljax.training.signals import Paused


def work(
    folder: SweepFolder,
    cells: Sequence[Cell],
    *,
    delete_checkpoints: bool = False,
    announce: Callable[[Cell], None] = lambda _: None,
) -> None:
    """Runs the cells that are neither done nor failed, nor run by another process.

    Args:
        folder: of the sweep.
        cells: of the sweep, in the order in which they are run. Cells whose process died come last,
            because they might end this process too.
        delete_checkpoints: whether the checkpoints of a cell are deleted when it is done.
        announce: called after each cell.

    Raises:
        Interrupted: a signal stopped this process; the state of its cell is saved.
        DiskError, OSError: the disk is full.
    """
    with shared_programs.sharing():
        for group in _in_order(folder, cells):
            if len(group) > 1:
                _work_together(folder, group, delete_checkpoints, announce)
            _work_alone(folder, group, delete_checkpoints, announce)


def _in_order(folder: SweepFolder, cells: Sequence[Cell]) -> list[list[Cell]]:
    """The groups of cells that are trained together, then the other cells, one in each group."""
    groups = shared_heads.groups(cells)
    together = {cell.name for group in groups for cell in group}
    different = {cell.name: cell for cell in cells}
    alone = [[cell] for name, cell in different.items() if name not in together]

    def interrupted(group: Sequence[Cell]) -> bool:
        return any(folder.was_interrupted(cell.name) for cell in group)

    return sorted([*groups, *alone], key=interrupted)


def _work_together(
    folder: SweepFolder,
    group: Sequence[Cell],
    delete_checkpoints: bool,
    announce: Callable[[Cell], None],
) -> None:
    """Trains cells together; leaves them to be run alone if that fails."""
    try:
        shared_heads.train(
            folder,
            group,
            output_to=_output_to,
            checkpoint=not delete_checkpoints,
            announce=announce,
        )
    except Exception as error:
        _raise_if_full(error)
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        console.console.print(
            f'{len(group)} cells are trained one by one, because they cannot be trained together: '
            f'{reason:.300}',
            markup=False,
            soft_wrap=True,
        )


def _work_alone(
    folder: SweepFolder,
    cells: Sequence[Cell],
    delete_checkpoints: bool,
    announce: Callable[[Cell], None],
) -> None:
    for cell in cells:
        if folder.is_settled(cell.name):
            continue
        lease = folder.acquire(cell.name)
        if lease is None:
            continue
        with lease:
            if folder.is_settled(cell.name):  # another worker has just ended it
                continue
            if lease.previous:
                print_ = console.console.print
                print_(f'{lease.previous} ended while it ran {cell.title}; resumed.', markup=False)
            try:
                run(folder, cell, delete_checkpoints=delete_checkpoints)
            except BusyError:  # somebody trains in the folder of the cell, without this sweep
                continue
        announce(cell)


def run(
    folder: SweepFolder,
    cell: Cell,
    *,
    delete_checkpoints: bool = False,
    until_step: float = math.inf,
) -> None:
    """Runs a cell, or resumes it, and records the error if it fails.

    Args:
        folder: of the sweep.
        cell: the cell.
        delete_checkpoints: whether its checkpoints are deleted when it is done.
        until_step: the run pauses at its first evaluation at this step or later.

    Raises:
        Interrupted: a signal stopped this process.
        DiskError, OSError: the disk is full.
    """
    workdir = folder.workdir(cell.name)
    try:
        with _output_to(workdir / OUTPUT_FILE):
            train(cell.experiment, workdir, until_step=until_step)
    except Paused:
        return
    except BusyError:
        raise
    except Exception as error:
        _raise_if_full(error)
        folder.fail(cell.name, error)
        return
    if delete_checkpoints:
        folder.delete_checkpoints(cell.name)


def _raise_if_full(error: Exception) -> None:
    """Raises an error that would end every other cell, too."""
    if disk_space.reason(error):
        raise error


@contextlib.contextmanager
def _output_to(path: pathlib.Path) -> Iterator[None]:
    """Appends what a run prints to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a', encoding='utf-8') as file:
        console.console.file, before = file, console.console.file
        try:
            yield
        finally:
            console.console.file = before
