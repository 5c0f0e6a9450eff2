"""Downloads one file over http or https, and resumes after interruptions.

Bytes are appended to a `.part` file. A small JSON file next to it has the version of the file (an
ETag or a date) and its complete size; without it, a download starts from the beginning.
"""

import base64
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from typing import Any, BinaryIO

from tljax.types import InputError

ATTEMPTS = 4  # in a row without new bytes
BACKOFF_S = 0.5  # doubled after every such attempt
TIMEOUT_S = 30  # without a byte
CHUNK_BYTES = 1 << 20
LEAST_BYTES = 60_000  # in each period of SLOW_S; a slower server is given up
SLOW_S = 60.0
MOST_BYTES = 64 << 30  # of a file; a server that announces no length could send bytes forever
TRANSIENT = (408, 425, 429)  # HTTP codes after which another attempt can succeed; also >= 500

Progress = Callable[[int, int | None], None]  # the number of bytes, and the complete size if known


class DownloadError(InputError):
    """A file that could not be downloaded, or is not the expected one."""


class BrokenError(Exception):
    """An attempt failed, and another one can succeed."""


class _SlowError(BrokenError):
    """The server sends too few bytes; another attempt would not be faster."""


class _ChangedError(BrokenError):
    """The server has another version of the file than the part."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """The address of a file.

    Attributes:
        url: without user and password.
        login: `user:password`, or empty.
        name: the last segment of the path, decoded, with letters, digits and `._+-` only.
    """

    url: str
    login: str
    name: str

    def __str__(self) -> str:
        """The URL without the query, which can contain a secret."""
        return _without_query(self.url)


def parse(url: str) -> Address:
    """Parses an address.

    Raises:
        DownloadError: the text is no address, or its scheme is neither http nor https.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        if parts.scheme not in ('http', 'https') or not parts.hostname or parts.port == 0:
            raise ValueError('no http address')
    except ValueError:
        public = _without_query(re.sub('//.*@', '//', url))
        raise DownloadError(f'{public}: wanted an address, http(s)://host/path') from None
    login, _, host = parts.netloc.rpartition('@')
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    name = urllib.parse.unquote(parts.path.rpartition('/')[2])
    return Address(
        url=urllib.parse.urlunsplit((parts.scheme, host, path, query, '')),
        login=urllib.parse.unquote(login),
        name=re.sub(r'[^A-Za-z0-9._+-]+', '_', name)[-120:] or 'weights',
    )


def complete(address: Address, part: BinaryIO, version: pathlib.Path, progress: Progress) -> None:
    """Downloads the rest of a file, in several attempts if necessary.

    Args:
        address: of the file.
        part: open for appending, with the bytes of earlier downloads.
        version: the JSON file with the version of the part.
        progress: called after every chunk.

    Raises:
        BrokenError: `ATTEMPTS` attempts in a row brought no new bytes; a later call can resume if
            `version` exists.
        DownloadError: the server refuses the request.
        OSError: the disk fails.
    """
    failures, longest = 0, part.seek(0, os.SEEK_END)
    while True:
        try:
            return _attempt(address, part, version, progress)
        except BrokenError as error:
            if isinstance(error, _SlowError):
                raise
            if isinstance(error, _ChangedError):
                version.unlink()
            length = part.seek(0, os.SEEK_END)
            failures = 0 if length > longest else failures + 1
            longest = max(longest, length)
            if failures == ATTEMPTS:
                raise
            time.sleep(BACKOFF_S * 2**failures)


def _attempt(address: Address, part: BinaryIO, version: pathlib.Path, progress: Progress) -> None:
    """Requests the missing bytes once, or the complete file if it has changed."""
    known = _known(version)
    have = part.seek(0, os.SEEK_END) if known else 0
    if have and have == known['size']:
        return
    with _ask(address, have, known) as answer:
        if have and answer.status == 206:
            if not _continues(answer, have, known):
                raise _ChangedError('the file on the server has changed')
            return _copy(answer, part, have, known['size'], progress)
        version.unlink(missing_ok=True)  # first, because a kill must not leave a wrong version
        part.truncate(0)
        size = _complete_size(address, answer)
        if validator := _validator(answer.headers):
            version.write_text(json.dumps({'validator': validator, 'size': size}))
        _copy(answer, part, 0, size, progress)


def _known(version: pathlib.Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(version.read_text())
        if isinstance(known, dict) and known.keys() == {'validator', 'size'}:
            return known
    return {}


def _validator(headers: Message) -> str | None:
    """The version for `If-Range`, which accepts no weak ETag (RFC 9110, 13.1.5)."""
    etag = headers.get('ETag', '')
    return etag if etag.startswith('"') else headers.get('Last-Modified')


def _continues(answer: http.client.HTTPResponse, have: int, known: dict[str, Any]) -> bool:
    """Whether a 206 continues at the end of the part, in the same version.

    A 206 always repeats an ETag, but not always a date (RFC 9110, 15.3.7).
    """
    content_range = re.match(r'bytes (\d+)-\d+/(\d+|\*)$', answer.headers.get('Content-Range', ''))
    by_date = not known['validator'].startswith('"')
    return (
        content_range is not None
        and int(content_range[1]) == have
        and content_range[2] in ('*', str(known['size']))
        and _validator(answer.headers) in (known['validator'], None if by_date else '')
    )


def _complete_size(address: Address, answer: http.client.HTTPResponse) -> int | None:
    """The announced number of bytes; None if it is not announced."""
    encoding = answer.headers.get('Content-Encoding', 'identity')
    if answer.status != 200 or encoding != 'identity':
        raise DownloadError(
            f'{address}: the server answered {answer.status} in encoding {encoding}, wanted 200 '
            'and no encoding'
        )
    return answer.length


def _copy(
    answer: http.client.HTTPResponse,
    part: BinaryIO,
    have: int,
    size: int | None,
    progress: Progress,
) -> None:
    """Appends the bytes of an answer.

    Errors of the network become `BrokenError`, so an `OSError` is always one of the disk.
    """
    progress(have, size)
    since, before = time.monotonic(), have
    while size is None or have < size:
        try:
            chunk = answer.read1(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenError(f'{_reason(error)} after {have} bytes') from error
        if not chunk:
            break
        part.write(chunk)
        have += len(chunk)
        progress(have, size)
        if have > MOST_BYTES:
            raise DownloadError(f'the server sent more than {MOST_BYTES} bytes')
        if time.monotonic() - since > SLOW_S:
            if have - before < LEAST_BYTES:
                raise _SlowError(f'it sent {have - before} bytes in {SLOW_S:.0f} s')
            since, before = time.monotonic(), have
    part.flush()
    if size is not None and have != size:
        raise BrokenError(f'received {have} of {size} bytes')


def _ask(address: Address, have: int, known: dict[str, Any]) -> http.client.HTTPResponse:
    request = urllib.request.Request(address.url, headers={'User-Agent': 'tljax'})
    if have:
        request.add_header('Range', f'bytes={have}-')
        request.add_header('If-Range', known['validator'])
    if address.login:  # a redirect must not send it to another server
        token = base64.b64encode(address.login.encode()).decode()
        request.add_unredirected_header('Authorization', f'Basic {token}')
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_S)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if have and error.code == 416:  # the range begins after the end
                raise _ChangedError('the file on the server has changed') from error
        if _is_transient(error):
            raise BrokenError(_reason(error)) from error
        raise DownloadError(f'{address}: {_reason(error)}') from error


def _is_transient(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in TRANSIENT
    certificate = isinstance(getattr(error, 'reason', None), ssl.SSLCertVerificationError)
    return not certificate and not isinstance(error, http.client.InvalidURL | ValueError)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        kind = urllib.parse.urlsplit(newurl).scheme
        if kind not in ('http', 'https') or (req.type, kind) == ('https', 'http'):
            fp.close()
            public = _without_query(req.full_url)
            raise DownloadError(f'{public}: it redirects to {kind}, which is refused')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _reason(error: Exception) -> str:
    """A short text for an error of the network, without an address."""
    if isinstance(error, urllib.error.HTTPError):
        return ' '.join(f'the server answered {error.code} {error.reason}'.split())
    if isinstance(error, http.client.InvalidURL | UnicodeError):
        return 'the address, or the target of a redirect, is invalid'
    if isinstance(error, http.client.IncompleteRead):
        return 'the connection broke off'
    reason = getattr(error, 'reason', error)
    if isinstance(reason, TimeoutError):
        return f'no byte arrived for {TIMEOUT_S} s'
    return str(reason) or type(reason).__name__


def _without_query(url: str) -> str:
    before, *rest = re.split('[?#]', url, maxsplit=1)
    return before + ('?…' if rest else '')
