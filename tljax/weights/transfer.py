"""One file over http or https, gone on with after every interruption, and never glued wrongly.

Bytes are appended to a `.part` file. A small JSON file beside it holds the version that they are
of (an ETag, or a date) and the size of the whole; without it a part is not gone on with.
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

ATTEMPTS = 4  # in a row that bring nothing new
BACKOFF_S = 0.5  # doubled with every such attempt
TIMEOUT_S = 30  # without a byte
CHUNK_BYTES = 1 << 20
TRANSIENT = (408, 425, 429)  # HTTP's codes that may pass, beside 500 and above

Progress = Callable[[int, int | None], None]  # bytes there are, and of the whole if it is known


class DownloadError(InputError):
    """A file that could not be had, or is not the one that was meant."""


class BrokenError(Exception):
    """An attempt that failed in a way that may pass."""


class _ChangedError(BrokenError):
    """The server has not what the part is a part of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where a file is.

    Attributes:
        url: without user and password.
        login: `user:password`, or nothing.
        name: the last segment of the path, decoded, of letters, digits and `._+-` only.
    """

    url: str
    login: str
    name: str

    def __str__(self) -> str:
        """Without the query, which may hold a secret."""
        return _shown(self.url)


def parse(url: str) -> Address:
    """Takes an address apart.

    Raises:
        DownloadError: it is none, or neither http nor https.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        if parts.scheme not in ('http', 'https') or not parts.hostname or parts.port == 0:
            raise ValueError('of another kind')
    except ValueError:
        shown = _shown(re.sub('//.*@', '//', url))
        raise DownloadError(f'{shown}: wanted an address, http(s)://host/path') from None
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
    """Brings a part to its whole length, in as many attempts as it takes.

    Args:
        address: of the whole file.
        part: open for appending, with what came earlier.
        version: the JSON file that says what that is a part of.
        progress: is told after every chunk.

    Raises:
        BrokenError: several attempts brought nothing new; what there is can be gone on with if
            the version is there.
        DownloadError: the server refuses.
        OSError: the disk does.
    """
    failures, longest = 0, part.seek(0, os.SEEK_END)
    while True:
        try:
            return _attempt(address, part, version, progress)
        except BrokenError as error:
            if isinstance(error, _ChangedError):
                version.unlink()
            length = part.seek(0, os.SEEK_END)
            failures = 0 if length > longest else failures + 1
            longest = max(longest, length)
            if failures == ATTEMPTS:
                raise
            time.sleep(BACKOFF_S * 2**failures)


def _attempt(address: Address, part: BinaryIO, version: pathlib.Path, progress: Progress) -> None:
    """Asks once for what is missing, or for all where the file has changed in the meantime."""
    known = _known(version)
    have = part.seek(0, os.SEEK_END) if known else 0
    if have and have == known['size']:
        return
    with _ask(address, have, known) as answer:
        if have and answer.status == 206:
            if not _continues(answer, have, known):
                raise _ChangedError('the file has changed meanwhile')
            return _copy(answer, part, have, known['size'], progress)
        version.unlink(missing_ok=True)  # before what it is of, or a kill would leave a false one
        part.truncate(0)
        size = _whole_size(address, answer)
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
    """What `If-Range` can name a version by; a weak ETag is not enough (RFC 9110, 13.1.5)."""
    etag = headers.get('ETag', '')
    return etag if etag.startswith('"') else headers.get('Last-Modified')


def _continues(answer: http.client.HTTPResponse, have: int, known: dict[str, Any]) -> bool:
    """Whether a 206 goes on where the part ends, in the same version.

    It repeats an ETag always, a date not (RFC 9110, 15.3.7).
    """
    found = re.match(r'bytes (\d+)-\d+/(\d+|\*)$', answer.headers.get('Content-Range', ''))
    by_date = not known['validator'].startswith('"')
    return (
        found is not None
        and int(found[1]) == have
        and found[2] in ('*', str(known['size']))
        and _validator(answer.headers) in (known['validator'], None if by_date else '')
    )


def _whole_size(address: Address, answer: http.client.HTTPResponse) -> int | None:
    """The announced bytes; None where only the end of the answer tells."""
    encoding = answer.headers.get('Content-Encoding', 'identity')
    if answer.status != 200 or encoding != 'identity':
        raise DownloadError(
            f'{address}: the server answered {answer.status} in encoding {encoding}, wanted 200 '
            'and the file as it is'
        )
    return answer.length


def _copy(
    answer: http.client.HTTPResponse,
    part: BinaryIO,
    have: int,
    size: int | None,
    progress: Progress,
) -> None:
    """Appends what comes.

    Errors of the network become `BrokenError`, so that an `OSError` is one of the disk.
    """
    progress(have, size)
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
    part.flush()
    if size is not None and have != size:
        raise BrokenError(f'{have} bytes came of {size} announced')


def _ask(address: Address, have: int, known: dict[str, Any]) -> http.client.HTTPResponse:
    request = urllib.request.Request(address.url, headers={'User-Agent': 'tljax'})
    if have:
        request.add_header('Range', f'bytes={have}-')
        request.add_header('If-Range', known['validator'])
    if address.login:  # not for whom a redirect leads to
        token = base64.b64encode(address.login.encode()).decode()
        request.add_unredirected_header('Authorization', f'Basic {token}')
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_S)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if have and error.code == 416:  # the range begins behind the end
                raise _ChangedError('the file has changed meanwhile') from error
        if _may_pass(error):
            raise BrokenError(_reason(error)) from error
        raise DownloadError(f'{address}: {_reason(error)}') from error


def _may_pass(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in TRANSIENT
    certificate = isinstance(getattr(error, 'reason', None), ssl.SSLCertVerificationError)
    return not certificate and not isinstance(error, http.client.InvalidURL | ValueError)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Leads to http and https only, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        kind = urllib.parse.urlsplit(newurl).scheme
        if kind not in ('http', 'https') or (req.type, kind) == ('https', 'http'):
            fp.close()
            raise DownloadError(f'{_shown(req.full_url)}: leads to {kind}, which is not followed')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _reason(error: Exception) -> str:
    """An error of the network in a few words, without an address."""
    if isinstance(error, urllib.error.HTTPError):
        return ' '.join(f'the server answered {error.code} {error.reason}'.split())
    if isinstance(error, http.client.InvalidURL | UnicodeError):
        return 'this is no address, or leads to none'
    if isinstance(error, http.client.IncompleteRead):
        return 'the connection broke off'
    reason = getattr(error, 'reason', error)
    if isinstance(reason, TimeoutError):
        return f'nothing came for {TIMEOUT_S} s'
    return str(reason) or type(reason).__name__


def _shown(url: str) -> str:
    before, *rest = re.split('[?#]', url, maxsplit=1)
    return before + ('?…' if rest else '')
