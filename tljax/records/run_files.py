"""The files of a run's folder that are kept in a bucket: records, and complete checkpoints."""

import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping

from tljax.records import checksums
from tljax.records.checksums import CheckpointError

CHECKPOINT_FILE = re.compile(r'((?:.+/)?checkpoints)/(steps|sha256|replacing)/(.+)')
# Files of this machine or of an unfinished write.
OWN = re.compile(r'(.+/)?(lock\.json.*|\.clock-.*|.*\.part)')
EVENTS = 'events.out.tfevents.'  # of TensorBoard: written, never read
JOURNAL = 'journal.json'

Sums = Mapping[str, str]  # {file of a checkpoint: its SHA-256}
Signature = tuple[int, int, int]  # of a file: size, time of change, inode


@dataclasses.dataclass(frozen=True, order=True)
class Checkpoint:
    """The place of a checkpoint.

    Attributes:
        folder: `checkpoints` of the run, or of one of its baselines.
        step: of the checkpoint.
    """

    folder: str
    step: int

    @property
    def data(self) -> str:
        """The folder of its files."""
        return f'{self.folder}/steps/{self.step}'

    @property
    def sums(self) -> str:
        """The file of its checksums, which is written last and deleted first."""
        return f'{self.folder}/{checksums.FOLDER}/{self.step}.json'

    @property
    def replacing(self) -> str:
        """The folder of its new content while it is replaced."""
        return f'{self.folder}/replacing'


def is_record(name: str) -> bool:
    """Whether a file of a run's folder is a record, which is kept as it is."""
    return not CHECKPOINT_FILE.fullmatch(name) and not OWN.fullmatch(name)


def records(root: pathlib.Path) -> dict[str, Signature]:
    """The records in a run's folder, by relative name."""
    result = {}
    for name in _names(root):
        if is_record(name) and (signature := signature_of(root / name)):
            result[name] = signature
    return result


def _names(root: pathlib.Path) -> Iterator[str]:
    """The files below a folder, except those of checkpoints; folders may vanish meanwhile."""
    for folder, folders, files in os.walk(root):
        parent = pathlib.Path(folder)
        if parent.name == 'checkpoints':
            folders[:] = [name for name in folders if name not in ('steps', 'replacing')]
        for name in files:
            yield (parent / name).relative_to(root).as_posix()


def signature_of(path: pathlib.Path) -> Signature | None:
    """Tells versions of a file apart; None if it is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ino) if path.is_file() else None


def committed(root: pathlib.Path) -> list[Checkpoint]:
    """The committed checkpoints in a run's folder and its baselines."""
    matches = filter(None, map(CHECKPOINT_FILE.fullmatch, _names(root)))
    steps = [(match[1], match[3].removesuffix('.json')) for match in matches]
    places = [Checkpoint(folder, int(step)) for folder, step in steps if step.isdecimal()]
    return sorted(place for place in places if (root / place.data).is_dir())


def linked(root: pathlib.Path, checkpoint: Checkpoint, scratch: pathlib.Path) -> Sums:
    """Links the files of a checkpoint into another folder, where nothing changes them.

    Args:
        root: the run's folder.
        checkpoint: one of its checkpoints.
        scratch: a folder on the same disk.

    Returns:
        The SHA-256 of all its files, verified.

    Raises:
        OSError: the checkpoint was deleted meanwhile.
        CheckpointError: it was deleted or replaced meanwhile, or is damaged.
    """
    for path in [root / checkpoint.sums, *(root / checkpoint.data).rglob('*')]:
        if path.is_file():
            target = scratch / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    return checksums.verify(scratch / checkpoint.folder, checkpoint.step)


def copied(root: pathlib.Path, names: list[str], scratch: pathlib.Path) -> list[str]:
    """Copies records into another folder; returns the names of those that still exist."""
    present = []
    for name in names:
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(root / name, scratch / name)
        except FileNotFoundError:
            continue
        present.append(name)
    return present


def is_unchanged(checkpoint: Checkpoint, root: pathlib.Path, known: Sums) -> bool:
    """Whether the checksums in a run's folder agree with those of an uploaded checkpoint."""
    sums = read_sums(root / checkpoint.sums)
    return bool(sums) and all(known.get(name) == value for name, value in sums.items())


def read_sums(path: pathlib.Path) -> Sums:
    """The content of a file of checksums; {} for a missing or damaged one."""
    try:
        return checksums.parse(path.read_bytes())
    except (OSError, CheckpointError):
        return {}
