"""A lock that keeps a second process from writing into the folder of a run."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

import jax

from tljax.records.checksums import CheckpointError


class BusyError(CheckpointError):
    """Another process writes into the folder of a run."""


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Locks a folder for this run, because checkpoints of two writers would be mixed up.

    If the run has several processes, the first holds the lock.

    Raises:
        BusyError: another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if jax.process_index() > 0:
        yield
        return
    with (workdir / '.lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(f'{workdir}: another run is writing into this folder') from None
        yield
