"""Reads a run that is in a bucket through a local copy."""

import json
import pathlib
from typing import Any

from tljax import environment
from tljax.records import run_download
from tljax.records.run_download import Contents
from tljax.records.runs import CHECKPOINTS, CONFIG_FILE, RESULT_FILE, RunError
from tljax.storage import addresses, copies
from tljax.storage import bucket as buckets
from tljax.storage.bucket import Bucket

ATTEMPTS = 3  # a run that is being trained deletes checkpoints meanwhile


def folder(place: pathlib.Path | str) -> pathlib.Path:
    """The folder of a run: a local path as it is, or the local copy of a run in a bucket.

    The copy has the records and the checkpoint of the result; before the run is finished, all its
    checkpoints. What is written into it stays on this machine.

    Args:
        place: a path, or an address as text.

    Raises:
        AddressError: the address cannot be accessed.
        RunError: there is no run.
        BucketError: the bucket does not answer.
    """
    text = str(place)
    if not addresses.in_bucket(text):
        return addresses.local_path(place)
    if environment.offline():
        return copies.latest(text)
    bucket = Bucket(text)
    for attempt in range(ATTEMPTS):
        with buckets.at_start(bucket):
            listed = run_download.contents(bucket)
        if CONFIG_FILE not in listed.records:
            raise RunError(f'{text} holds no run: there is no {CONFIG_FILE} in it')
        listed = _needed(listed, bucket.read(RESULT_FILE))
        version = json.dumps([_version(listed), sorted(map(str, listed.checkpoints))])
        try:
            return copies.made(
                text,
                version,
                lambda part, listed=listed: run_download.download(bucket, listed, part),
            )
        except FileNotFoundError as error:
            if attempt == ATTEMPTS - 1:
                raise RunError(f'{text}: the run changed while it was read: {error}') from error
    raise AssertionError  # the last attempt has returned or raised


def _needed(listed: Contents, result: bytes | None) -> Contents:
    """The checkpoints of the run itself; of a finished run, the one of the result."""
    try:
        step: Any = json.loads(result or b'')['step']
    except (KeyError, TypeError, ValueError):
        step = None
    own = {place: sums for place, sums in listed.checkpoints.items() if place.folder == CHECKPOINTS}
    best = {place: sums for place, sums in own.items() if place.step == step}
    replacing = {p: names for p, names in listed.replacing.items() if p.folder == CHECKPOINTS}
    listed.checkpoints, listed.replacing = best or own, replacing
    return listed


def _version(listed: Contents) -> list[Any]:
    return sorted([name, entry.size, entry.version] for name, entry in listed.records.items())
