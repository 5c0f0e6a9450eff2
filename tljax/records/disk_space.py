"""Free space of the disk that a run writes to."""

import errno
import os
import pathlib
import shutil

from tljax.records.checksums import CheckpointError
from tljax.records.console import bytes_text

COPIES = 3  # of a checkpoint: the latest, the best, and the one that is being written
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
TEXTS = {os.strerror(number): os.strerror(number) for number in FULL_DISK}
TEXTS['RESOURCE_EXHAUSTED'] = os.strerror(errno.ENOSPC)  # of TensorStore, which Orbax writes with


class DiskError(CheckpointError):
    """The disk is full or cannot be written to; nothing can be saved there."""


def check(folder: pathlib.Path, checkpoint_bytes: int) -> None:
    """Checks that a disk has space for the checkpoints of a run.

    Args:
        folder: of the checkpoints.
        checkpoint_bytes: the size of the arrays of one checkpoint.

    Raises:
        DiskError: the message has the needed and the free space.
    """
    present = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    needed = COPIES * checkpoint_bytes - present
    if free(folder) < needed:
        raise DiskError(
            f'{folder}: the checkpoints of this run need {bytes_text(needed)} of disk space, and '
            f'{bytes_text(free(folder))} are free'
        )


def reason(error: BaseException) -> str | None:
    """What an error says about a full or read-only disk; None if it is another error."""
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return os.strerror(error.errno)
    return next((text for part, text in TEXTS.items() if part in str(error)), None)


def free(folder: pathlib.Path) -> int:
    """The free bytes of the disk of a folder that exists or will be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def free_text(folder: pathlib.Path) -> str:
    """The free space as text, for messages."""
    return f'{bytes_text(free(folder))} are free'
