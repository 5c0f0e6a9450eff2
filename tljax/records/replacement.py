"""A checkpoint takes the place of another one of the same step; a kill leaves one of them whole."""

import json
import pathlib
import shutil
from typing import Any

from tljax.records import checksums

VALIDATION_FILE = 'validation.json'  # {step: [score, -loss]}


class Replacement:
    """The folder that a new checkpoint waits in until it is whole, and how it takes its place.

    A journal is written once the new checkpoint is whole. It holds the checksums and the validation
    results that belong to it. Without a journal the old checkpoint stands; with one, every step
    that is left can be taken again, by this process or by the next.

    Args:
        folder: a run's `checkpoints/`.
    """

    def __init__(self, folder: pathlib.Path):
        self._checkpoints, self.folder = folder, folder / 'replacing'
        self._journal = self.folder / 'journal.json'

    def recover(self) -> None:
        """Ends what a killed process had committed, and removes what it had not."""
        if self._journal.exists():
            self._take_place(**json.loads(self._journal.read_text()))
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self, step: int, validated: dict[int, list[float]]) -> None:
        """Puts the checkpoint that is whole in `folder` in its place.

        Args:
            step: of the checkpoint.
            validated: the validation results of all steps, as they are with it.
        """
        sums = checksums.digests(self.folder / str(step))
        checksums.write_json(self._journal, {'step': step, 'sums': sums, 'validated': validated})
        self.recover()

    def _take_place(self, step: int, sums: dict[str, str], validated: Any) -> None:
        new, place = self.folder / str(step), self._checkpoints / 'steps' / str(step)
        if new.exists():
            if place.exists():
                place.rename(self.folder / f'old-{step}')
            new.rename(place)
        checksums.write_json(checksums.path_of(self._checkpoints, step), sums)
        checksums.write_json(self._checkpoints / VALIDATION_FILE, validated)
        self._journal.unlink()
