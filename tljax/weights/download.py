"""Downloads that a later run can trust: whole, of the right sum, and never under a false name."""

import hashlib
import http.client
import os
import pathlib
import re
import tempfile
import urllib.request
from typing import Any

from tljax import runtime
from tljax.types import InputError


class DownloadError(InputError):
    """A file that could not be had, or is not the one that was meant."""


def file_sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def download(url: str) -> pathlib.Path:
    """The file at `url`, from the cache folder or the network.

    It arrives under a temporary name and takes its own only when whole: its length is what the
    server announced and, where its name ends in `-` and 8 hexadecimal digits, as torchvision's
    do, its SHA-256 begins with them.

    Raises:
        DownloadError: no answer, or not the file that was meant. Nothing of it is left.
    """
    home = folder()
    name = url.rpartition('/')[2]
    path = home / f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    if path.exists():
        return path
    home.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=home, suffix='.part')
    try:
        with os.fdopen(handle, 'wb') as file:
            _fetch(url, file)
        digest = file_sha256(pathlib.Path(part))
        stated = re.search(r'-([0-9a-f]{8,64})\.\w+$', name)
        if stated and not digest.startswith(stated[1]):
            raise DownloadError(f'{url}: its SHA-256 is {digest}, its name promises {stated[1]}')
        pathlib.Path(part).replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(
            f'{url}: could not be downloaded ({error}); a file can be named by its path instead'
        ) from error
    finally:
        pathlib.Path(part).unlink(missing_ok=True)
    return path


def folder() -> pathlib.Path:
    """Where downloaded files are kept."""
    return runtime.cache_dir() / 'weights'


def _fetch(url: str, file: Any) -> None:
    with urllib.request.urlopen(url, timeout=60) as answer:
        announced = answer.headers.get('Content-Length')
        received = 0
        while chunk := answer.read(1 << 20):
            file.write(chunk)
            received += len(chunk)
    if announced is not None and received != int(announced):
        raise DownloadError(f'{url}: {received} bytes came of {announced} announced')
