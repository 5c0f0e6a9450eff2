"""SHA-256 of every file of a checkpoint. They are written with it and compared before reading."""

import hashlib
import json
import os
import pathlib
from typing import Any

from tljax.types import InputError

FOLDER = 'sha256'


class CheckpointError(InputError):
    """Checkpoints cannot be written or read, or another run uses their folder."""


def path_of(folder: pathlib.Path, step: int) -> pathlib.Path:
    """The file with the checksums of a step, in a run's `checkpoints/`."""
    return folder / FOLDER / f'{step}.json'


def digests(folder: pathlib.Path, pattern: str = '**/*') -> dict[str, str]:
    """The SHA-256 of every file of a folder that matches a pattern, by relative path."""
    result = {}
    for path in sorted(p for p in folder.glob(pattern) if p.is_file()):
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        result[str(path.relative_to(folder))] = digest
    return result


def verify(folder: pathlib.Path, step: int) -> dict[str, str]:
    """Compares the files of a checkpoint with their checksums.

    Args:
        folder: a run's `checkpoints/`.
        step: of the checkpoint.

    Returns:
        The SHA-256 of all files, also of those without checksums.

    Raises:
        CheckpointError: a file is missing, changed or new, or the checksums are missing.
    """
    path = path_of(folder, step)
    if not path.exists():
        raise CheckpointError(
            f'{folder}: the checkpoint of step {step} has no checksums, so it cannot be trusted'
        )
    try:
        sums = json.loads(path.read_text())
        present = digests(folder / 'steps' / str(step))
        # A run that was killed right after the commit has no checksums of Orbax's own files, which
        # are the ones outside of the folders.
        intact = sums == {name: s for name, s in present.items() if '/' in name or name in sums}
    except (TypeError, ValueError):
        intact, present = False, {}
    if not intact:
        raise CheckpointError(f'{folder}: the checkpoint of step {step} is damaged')
    return present


def parse(content: bytes) -> dict[str, str]:
    """The checksums in a file's content.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        sums = json.loads(content)
    except ValueError as error:
        raise CheckpointError(f'checksums are damaged: {error}') from error
    if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
        raise CheckpointError('checksums are damaged')
    return sums


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file completely or not at all."""
    part = path.with_suffix('.part')
    with part.open('w') as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
