"""Replaces a checkpoint by another one of the same step, so that a kill leaves one complete."""

import json
import pathlib
import shutil
from typing import Any

from tljax.records import checksums


class Replacement:
    """A folder for the new checkpoint, and a journal of the replacement.

    The journal is written when the new checkpoint is complete. It has the checksums that belong to
    it. Without a journal the old checkpoint stays. With one, this process or
    a later one completes the replacement; every step of it can be repeated.

    Args:
        folder: a run's `checkpoints/`.
    """

    def __init__(self, folder: pathlib.Path):
        self._checkpoints, self.folder = folder, folder / 'replacing'
        self._journal = self.folder / 'journal.json'

    def recover(self) -> None:
        """Completes a replacement that a killed process had committed; deletes any other."""
        if self._journal.exists():
            self._take_place(**json.loads(self._journal.read_text()))
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self, step: int) -> None:
        """Replaces the old checkpoint by the complete one in `folder`.

        Args:
            step: of both checkpoints.
        """
        sums = checksums.digests(self.folder / str(step))
        checksums.write_json(self._journal, {'step': step, 'sums': sums})
        self.recover()

    def _take_place(self, step: int, sums: dict[str, str], **_: Any) -> None:
        new, place = self.folder / str(step), self._checkpoints / 'steps' / str(step)
        if new.exists():
            if place.exists():
                place.rename(self.folder / f'old-{step}')
            new.rename(place)
        checksums.write_json(checksums.path_of(self._checkpoints, step), sums)
        self._journal.unlink()
