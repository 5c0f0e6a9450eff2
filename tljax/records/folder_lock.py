"""A lock that keeps a second process, on any host, from writing into the folder of a run."""

import contextlib
import pathlib
import re
from collections.abc import Iterator

import jax

from tljax.records import console, lease
from tljax.records.checksums import CheckpointError
from tljax.types import InputError

LOCK_FILE = 'lock.json'
ADDRESS = re.compile(r'[a-z][a-z0-9+.-]+:/')  # `pathlib` reads gs:// as gs:/


class BusyError(CheckpointError):
    """Another process writes into the folder of a run."""


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Locks a folder for this run, because checkpoints of two writers would be mixed up.

    If the run has several processes, the first holds the lock. The lock of a process that has ended
    is taken over, which is printed.

    Raises:
        InputError: the folder is an address, such as gs://bucket/run.
        BusyError: another process holds it; the message names the process.
    """
    if ADDRESS.match(str(workdir)):
        raise InputError(f'{workdir} is an address, wanted a local folder')
    workdir.mkdir(parents=True, exist_ok=True)
    if jax.process_index() > 0:
        yield
        return
    path = workdir / LOCK_FILE
    held = lease.acquire(path)
    if held is None:
        owner = lease.read(path) or 'another process'
        raise BusyError(f'{workdir}: {owner} is writing into this folder')
    if held.previous:
        text = f'{held.previous} ended without releasing {workdir}; this process takes it over.'
        console.console.print(text, markup=False, soft_wrap=True)
    with held:
        yield
