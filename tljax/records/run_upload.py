"""Uploads the files of a run to a bucket, in an order in which a kill at any moment does no harm.

A kill leaves in the bucket what a kill of a local run could leave in its folder:

    1. a result that is void, because the experiment was changed, is set aside;
    2. the records: those of steps after the last checkpoint are dropped when the run resumes;
    3. the files of a new checkpoint, then its checksums, which make it complete;
    4. checkpoints that the run no longer keeps are deleted, their checksums first;
    5. result.json, which makes the run finished.

A checkpoint that is replaced is first uploaded beside the old one, with a journal that makes the
new content valid (see `checkpoint_replacement`), so one of both is always complete.
"""

import contextlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from tljax.records import run_files
from tljax.records.checksums import CheckpointError
from tljax.records.run_download import Contents
from tljax.records.run_files import JOURNAL, Checkpoint, Signature, Sums
from tljax.records.runs import RESULT_FILE
from tljax.storage import bucket as buckets
from tljax.storage.bucket import Bucket

SET_ASIDE = f'former_{RESULT_FILE}'


class Uploads:
    """What a bucket has of a run's folder, and the uploads that bring it up to date.

    Args:
        bucket: the run's folder in the bucket.
        root: the run's folder on this machine.
        listed: the contents of the bucket, as they were downloaded to `root`.
    """

    def __init__(self, bucket: Bucket, root: pathlib.Path, listed: Contents):
        self._bucket, self._root = bucket, root
        present = run_files.records(root)
        self._records = {name: present[name] for name in listed.records if name in present}
        self._checkpoints: dict[Checkpoint, Sums] = dict(listed.checkpoints)
        self._leftovers = listed.leftovers
        self._replacing = listed.replacing
        for place in listed.replacing:  # whatever is in its place, it has to be replaced
            start = len(place.data) + 1
            names = bucket.entries(place.data)
            self._checkpoints[place] = {name[start:]: '' for name in names}

    def has_new_checkpoints(self) -> bool:
        """Whether the run has committed or deleted checkpoints since the last update."""
        places = run_files.committed(self._root)
        return set(places) != set(self._checkpoints) or not all(
            run_files.is_unchanged(place, self._root, self._checkpoints[place]) for place in places
        )

    def update(self, *, final: bool = False) -> None:
        """Uploads what has changed, and deletes what the run has deleted.

        Args:
            final: whether nobody writes into the run's folder meanwhile; a checkpoint that does
                not agree with its checksums is then damaged.

        Raises:
            BucketError: an object could not be written.
            CheckpointError: a checkpoint is damaged.
        """
        with _scratch(self._root) as scratch:
            # In the opposite order of the uploads: a result has its checkpoint, and a checkpoint
            # the records of its steps.
            finished = {n: s for n, s in self._changed_records().items() if _is_result(n)}
            results = run_files.copied(self._root, list(finished), scratch)
            places = run_files.committed(self._root)
            checkpoints = self._link(places, scratch, final=final)
            changed = self._changed_records()
            others = [name for name in changed if not _is_result(name)]
            others = run_files.copied(self._root, others, scratch)
            aside = [name for name in others if name.endswith(SET_ASIDE)]
            self._upload(aside, changed, scratch)
            self._delete_records()
            self._upload([name for name in others if name not in aside], changed, scratch)
            for place, sums in checkpoints.items():
                self._upload_checkpoint(place, sums, scratch / place.data)
            for place in set(self._checkpoints) - set(places):
                self._delete_checkpoint(place)
            self._finish_earlier()
            self._upload(results, finished, scratch)

    def delete_leftovers(self) -> list[int]:
        """Deletes what killed uploads have left; returns the steps of their checkpoints."""
        for place, names in self._leftovers.items():
            self._delete([place.sums, *names])
        steps = sorted({place.step for place in self._leftovers if place.step >= 0})
        self._leftovers = {}
        return steps

    def _changed_records(self) -> dict[str, Signature]:
        late, self._bucket.late = self._bucket.late, set()
        for name in late:  # an old content may have replaced a newer one
            self._records.pop(name, None)
        present = run_files.records(self._root)
        return {name: now for name, now in present.items() if self._records.get(name) != now}

    def _link(
        self, places: list[Checkpoint], scratch: pathlib.Path, *, final: bool
    ) -> dict[Checkpoint, Sums]:
        """Links new checkpoints; those that change meanwhile are left to the next update."""
        result = {}
        for place in places:
            known = self._checkpoints.get(place)
            if known is not None and run_files.is_unchanged(place, self._root, known):
                continue
            try:
                result[place] = run_files.linked(self._root, place, scratch)
            except (OSError, CheckpointError):
                if final and (self._root / place.data).exists():
                    raise
        return result

    def _upload(
        self, names: list[str], signatures: dict[str, Signature], scratch: pathlib.Path
    ) -> None:
        def upload(name: str) -> None:
            self._bucket.upload(scratch / name, name)
            self._records[name] = signatures[name]

        buckets.in_parallel(upload, [name for name in names if name in signatures])

    def _delete_records(self) -> None:
        gone = set(self._records) - set(run_files.records(self._root))
        self._delete(sorted(gone, key=lambda name: not _is_result(name)))
        for name in gone:
            del self._records[name]

    def _upload_checkpoint(self, place: Checkpoint, sums: Sums, files: pathlib.Path) -> None:
        old = self._checkpoints.get(place)
        if old is not None:
            self._upload_files(sums, files, f'{place.replacing}/{place.step}')
            journal = json.dumps({'step': place.step, 'sums': dict(sums)})
            self._bucket.write(f'{place.replacing}/{JOURNAL}', journal.encode())
            self._replacing[place] = [f'{place.replacing}/{place.step}/{name}' for name in sums]
            self._delete([f'{place.data}/{name}' for name in old if name not in sums])
        self._upload_files(sums, files, place.data)
        self._bucket.write(place.sums, json.dumps(dict(sums)).encode())
        self._checkpoints[place] = sums
        self._finish(place)

    def _upload_files(self, sums: Sums, files: pathlib.Path, folder: str) -> None:
        buckets.in_parallel(
            lambda name: self._bucket.upload(files / name, f'{folder}/{name}'), sums
        )

    def _delete_checkpoint(self, place: Checkpoint) -> None:
        self._delete([place.sums])
        self._delete([f'{place.data}/{name}' for name in self._checkpoints[place]])
        del self._checkpoints[place]

    def _finish_earlier(self) -> None:
        for place in list(self._replacing):
            self._finish(place)

    def _finish(self, place: Checkpoint) -> None:
        """Deletes the second copy of a complete checkpoint: its journal first."""
        names = self._replacing.pop(place, [])
        if names:
            self._delete([f'{place.replacing}/{JOURNAL}'])
            self._delete(names)

    def _delete(self, names: list[str]) -> None:
        """Deletes objects: the first one before all others, which may be invalid without it."""
        if names:
            self._bucket.delete(names[0])
            buckets.in_parallel(self._bucket.delete, names[1:])


def _is_result(name: str) -> bool:
    return pathlib.PurePosixPath(name).name == RESULT_FILE


@contextlib.contextmanager
def _scratch(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder beside a folder, on the same disk."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f'{root.name}.', dir=root.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
