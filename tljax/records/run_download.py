"""Downloads the folder of a run from a bucket: its records and its complete checkpoints."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping

from tljax.records import checksums, run_files
from tljax.records.checkpoint_replacement import Replacement
from tljax.records.checksums import CheckpointError
from tljax.records.run_files import JOURNAL, Checkpoint, Sums
from tljax.storage import bucket as buckets
from tljax.storage.bucket import Bucket, Entry


@dataclasses.dataclass(kw_only=True)
class Contents:
    """The objects of a run's folder in a bucket.

    Attributes:
        records: the records, by name.
        checkpoints: the complete checkpoints, whose checksums exist with all files that they name.
        replacing: the checkpoints whose new content is complete, but not yet in its place.
        leftovers: objects of uploads and deletions that were cut off.
    """

    records: dict[str, Entry]
    checkpoints: dict[Checkpoint, Sums]
    replacing: dict[Checkpoint, list[str]]
    leftovers: dict[Checkpoint, list[str]]


def contents(bucket: Bucket) -> Contents:
    """Lists a run's folder in a bucket.

    Raises:
        BucketError: the bucket does not answer.
    """
    entries = {name: entry for name, entry in bucket.entries().items() if _is_safe(name)}
    files: dict[Checkpoint, list[str]] = collections.defaultdict(list)
    new: dict[str, list[str]] = collections.defaultdict(list)
    for name in entries:
        match = run_files.CHECKPOINT_FILE.fullmatch(name)
        if match and match[2] == 'replacing':
            new[match[1]].append(name)
        elif match and (step := match[3].partition('/')[0].removesuffix('.json')).isdecimal():
            files[Checkpoint(match[1], int(step))].append(name)
    result = Contents(
        records={name: entries[name] for name in entries if run_files.is_record(name)},
        checkpoints={},
        replacing={},
        leftovers={},
    )
    for folder, names in new.items():
        step = _committed_step(bucket.read(f'{folder}/replacing/{JOURNAL}'))
        place = Checkpoint(folder, -1 if step is None else step)
        (result.leftovers if step is None else result.replacing)[place] = names
    for place, names in files.items():
        if place not in result.replacing:
            sums = _complete_sums(bucket, place, names)
            if sums is None:
                result.leftovers[place] = names
            else:
                result.checkpoints[place] = sums
    return result


def _is_safe(name: str) -> bool:
    """Whether a name stays in the folder that it is downloaded to."""
    parts = pathlib.PurePosixPath(name).parts
    return not name.endswith('/') and '..' not in parts and not name.startswith('/')


def _committed_step(journal: bytes | None) -> int | None:
    """The step that a journal of a replacement names; None without a complete journal."""
    try:
        return int(json.loads(journal or b'')['step'])
    except (KeyError, TypeError, ValueError):
        return None


def _complete_sums(bucket: Bucket, place: Checkpoint, names: Iterable[str]) -> Sums | None:
    """The checksums of a checkpoint; None if they or some of its files are missing."""
    content = bucket.read(place.sums)
    if content is None:
        return None
    try:
        sums = checksums.parse(content)
    except CheckpointError:
        return {}  # damaged, not cut off: it is downloaded, and set aside by name
    return sums if {f'{place.data}/{name}' for name in sums} <= set(names) else None


def download(
    bucket: Bucket,
    listed: Contents,
    folder: pathlib.Path,
    wanted: Callable[[str], bool] = lambda _: True,
) -> None:
    """Downloads records, complete checkpoints and complete replacements of a run.

    Args:
        bucket: the run's folder.
        listed: its contents.
        folder: the folder to write to.
        wanted: whether a record, by its name, is downloaded. Events of TensorBoard never are.

    Raises:
        BucketError: an object could not be downloaded.
        FileNotFoundError: an object was deleted meanwhile.
    """
    names = [name for name in listed.records if wanted(name) and run_files.EVENTS not in name]
    sizes: Mapping[str, int] = {name: listed.records[name].size for name in names}
    folders = [place.data for place in listed.checkpoints]
    folders += [place.replacing for place in listed.replacing]
    for one in folders:
        sizes = {**sizes, **{name: entry.size for name, entry in bucket.entries(one).items()}}
    sizes = {**sizes, **dict.fromkeys((place.sums for place in listed.checkpoints), 0)}
    safe = [name for name in sizes if _is_safe(name)]
    buckets.in_parallel(
        lambda name: bucket.download(name, folder / name, sizes[name]),
        safe,
    )
    for place in listed.replacing:
        Replacement(folder / place.folder).recover()
