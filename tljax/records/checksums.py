"""The SHA-256 of every file of a checkpoint, written beside it and compared before it is read."""

import hashlib
import json
import os
import pathlib
from typing import Any

from tljax.types import InputError

FOLDER = 'sha256'


class CheckpointError(InputError):
    """Checkpoints that cannot be written, trusted or shared."""


def path_of(folder: pathlib.Path, step: int) -> pathlib.Path:
    """The file that holds the sums of a step, in a run's `checkpoints/`."""
    return folder / FOLDER / f'{step}.json'


def digests(home: pathlib.Path, pattern: str = '**/*') -> dict[str, str]:
    """The SHA-256 of every file of a checkpoint's folder that matches."""
    result = {}
    for path in sorted(p for p in home.glob(pattern) if p.is_file()):
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        result[str(path.relative_to(home))] = digest
    return result


def verify(folder: pathlib.Path, step: int) -> None:
    """Compares a checkpoint's files with what was written.

    Args:
        folder: a run's `checkpoints/`.
        step: of the checkpoint.

    Raises:
        CheckpointError: a file is missing, changed or new, or the sums are missing.
    """
    path = path_of(folder, step)
    if not path.exists():
        raise CheckpointError(
            f'{folder}: the checkpoint of step {step} has no checksums, so it cannot be trusted'
        )
    try:
        sums = json.loads(path.read_text())
        found = digests(folder / 'steps' / str(step))
        # A run that was killed after the commit left no sums of Orbax's own notes, beside the data.
        intact = sums == {name: sum_ for name, sum_ in found.items() if '/' in name or name in sums}
    except (TypeError, ValueError):
        intact = False
    if not intact:
        raise CheckpointError(f'{folder}: the checkpoint of step {step} is damaged')


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    part = path.with_suffix('.part')
    with part.open('w') as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
