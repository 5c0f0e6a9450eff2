"""A worker: runs the cells of a sweep, one after the other, until none is left.

Any number of workers on any hosts can run the same sweep. A lease for each cell keeps two of them
from running it at the same time. A cell that was stopped is resumed.
"""

import collections
import contextlib
import errno
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence

from tljax.records import console
from tljax.records.folder_lock import BusyError
from tljax.sweep.cells import Cell
from tljax.sweep.folder import OUTPUT_FILE, SweepFolder
from tljax.training.run import train
from tljax.training.signals import Paused

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # every other cell would fail too


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
        OSError: the disk is full.
    """
    remaining = collections.deque(_in_order(folder, cells))
    while remaining:
        cell = remaining.popleft()
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


def _in_order(folder: SweepFolder, cells: Sequence[Cell]) -> list[Cell]:
    different = {cell.name: cell for cell in cells}.values()
    return sorted(different, key=lambda cell: folder.was_interrupted(cell.name))


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
        OSError: the disk is full.
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
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise
        folder.fail(cell.name, error)
        return
    if delete_checkpoints:
        folder.delete_checkpoints(cell.name)


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
