"""Addresses of files and folders in buckets: `gs://bucket/run`, `s3://bucket/run`.

A path of this machine may be written as `file:///folder/run`.
"""

import importlib.util
import logging
import os
import pathlib
import re
from typing import Any

from tljax.types import InputError

SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')
BACKENDS = {'gs': 'gcsfs', 's3': 's3fs'}  # the packages of fsspec, which the extra `bucket` has
WANTED = 'wanted a local path, file://, gs:// or s3://'


class AddressError(InputError):
    """An address that is not supported, does not exist or cannot be accessed."""


def scheme_of(text: str) -> str | None:
    """The scheme of an address in lower case, `gs` of `gs://b/x`; None for a path."""
    match = SCHEME.match(text)
    return match[1].lower() if match else None


def in_bucket(text: str | os.PathLike[str]) -> bool:
    """Whether a text is an address of a bucket; False for a path and for `file://`.

    Raises:
        AddressError: the scheme is not supported, or the address names no bucket.
    """
    spec = os.fspath(text)
    scheme = scheme_of(spec)
    if scheme is None or scheme == 'file':
        return False
    if scheme not in BACKENDS:
        raise AddressError(f'{spec}: {scheme}:// is not supported here, {WANTED}')
    bucket, _, key = spec.partition('://')[2].partition('/')
    if not bucket or any(part in ('', '.', '..') for part in key.rstrip('/').split('/') if key):
        raise AddressError(f'{spec}: wanted {scheme}://BUCKET/PATH, without empty parts, . and ..')
    return True


def local_path(text: str | os.PathLike[str]) -> pathlib.Path:
    """A path of this machine, also of a `file://` address; `~` is the home folder.

    Raises:
        AddressError: it has another scheme, a host, or a NUL character.
    """
    spec = os.fspath(text)
    scheme = scheme_of(spec)
    if scheme not in (None, 'file'):
        raise AddressError(f'{spec}: {scheme}:// is not supported here, wanted a local path')
    if scheme == 'file':
        host, _, path = spec.partition('://')[2].partition('/')
        if host not in ('', 'localhost', '.', '..', '~'):
            raise AddressError(f'{spec}: {host} is read as a host, wanted file:///FOLDER')
        spec = f'{"" if host == "localhost" else host}/{path}'
    if '\0' in spec:
        raise AddressError(f'{spec!r}: a path has no NUL character')
    try:
        return pathlib.Path(spec).expanduser()
    except RuntimeError as error:
        raise AddressError(f'{spec}: {error}') from error


def path_or_address(text: str | os.PathLike[str]) -> pathlib.Path | str:
    """A path of this machine, or the address of a bucket as text.

    Raises:
        AddressError: it is neither.
    """
    return os.fspath(text).rstrip('/') if in_bucket(text) else local_path(text)


def joined(folder: str, name: str) -> str:
    """The address of a file in a folder; an address as `name` stays as it is."""
    return name if scheme_of(name) else f'{folder.rstrip("/")}/{name}'


def file_system(address: str) -> tuple[Any, str]:
    """The file system of fsspec for an address, and the path in it.

    Credentials and endpoints are those of the provider's own tools, or of fsspec's environment
    variables.

    Raises:
        AddressError: the address is not supported, or a package is missing.
    """
    if not in_bucket(address):
        raise AddressError(f'{address}: wanted gs:// or s3://')
    scheme = scheme_of(address) or ''
    package = BACKENDS[scheme]
    if any(importlib.util.find_spec(name) is None for name in ('fsspec', package)):
        raise AddressError(
            f"{address}: {scheme}:// needs {package}: python3 -m pip install 'tljax[bucket]'"
        )
    import fsspec

    logging.getLogger(package).setLevel(logging.CRITICAL)  # errors are raised, and reported once
    # Listings are not cached, because another process may write into the folder.
    options = {'use_listings_cache': False, 'skip_instance_cache': True}
    try:
        system = fsspec.filesystem(scheme, **options)
    except Exception as error:  # each provider has its own kinds
        raise AddressError(f'{address}: cannot be accessed: {error!r:.300}') from error
    return system, address.partition('://')[2].rstrip('/')
