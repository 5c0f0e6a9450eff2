"""Downloads from a server that misbehaves: what is kept can be trusted, all else is gone."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import io
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile

import pytest

from tljax.types import InputError
from tljax.weights import download as downloads
from tljax.weights import loading, locations, published, transfer
from tljax.weights.download import download

CONTENT = bytes(range(256)) * 4000
OTHER = CONTENT[::-1]
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@dataclasses.dataclass
class Answer:
    """What the server does with one request; None in `cut` for all of the content."""

    content: bytes = CONTENT
    status: int = 200
    cut: int | None = None  # bytes after which the connection ends
    reset: bool = False  # not closed but reset
    announces: bool = True  # a Content-Length
    chunked: bool = False
    etag: str | None = '"one"'
    date: str | None = None
    ranges: bool = True
    honours_if_range: bool = True
    shift: int = 0  # of the range that is sent, from the one that is asked for
    headers: dict = dataclasses.field(default_factory=dict)
    hold: threading.Event | None = None  # awaited after `cut` bytes
    drips: bool = False  # a byte every 20 ms


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the answers that a test has laid out, the last of them for ever."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        start = self.start(answer)
        self.send_response(206 if start else answer.status)
        self.send_headers(answer, start)
        with contextlib.suppress(OSError):  # the other side may have gone
            self.send(answer, answer.content[start:])
        self.close_connection = True

    def start(self, answer):
        asked = self.headers.get('Range')
        if not asked or not answer.ranges or answer.status != 200:
            return 0
        same = self.headers.get('If-Range') in (answer.etag, answer.date)
        if not same and answer.honours_if_range:
            return 0
        return int(asked.removeprefix('bytes=').removesuffix('-')) + answer.shift

    def send_headers(self, answer, start):
        size = len(answer.content)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{size - 1}/{size}')
        if answer.chunked:
            self.send_header('Transfer-Encoding', 'chunked')
        elif answer.announces:
            self.send_header('Content-Length', str(size - start))
        for name, value in {'ETag': answer.etag, 'Last-Modified': answer.date}.items():
            if value:
                self.send_header(name, value)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, answer, content):
        cut = len(content) if answer.cut is None else answer.cut
        if answer.chunked:
            self.wfile.write(b'%x\r\n' % len(content) + content[:cut] + b'\r\n')
            self.wfile.write(b'0\r\n\r\n' if cut == len(content) else b'')
        elif answer.drips:
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.02)
        else:
            self.wfile.write(content[:cut])
        self.wfile.flush()
        if answer.hold:
            answer.hold.wait(10)
            self.wfile.write(content[cut:])
        if answer.reset:
            time.sleep(0.05)  # a reset throws away what the other side has not read yet
            linger = struct.pack('ii', 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def finish(self):
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, online, in no hurry to wait."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('TLJAX_OFFLINE', raising=False)
    monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
    monkeypatch.setattr(transfer, 'BACKOFF_S', 0)
    return tmp_path / 'cache' / 'weights'


@pytest.fixture
def server():
    """A server on this machine."""
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        httpd.asked, httpd.answers = [], [Answer()]
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        httpd.url = f'http://127.0.0.1:{httpd.server_port}'
        yield httpd
        httpd.shutdown()


def files(cache):
    return sorted(path.name[9:] for path in cache.glob('*'))


def asked_for(server):
    return [headers.get('Range') for _, headers in server.asked]


def safetensors(header, values=b''):
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + values


# What goes well.


def test_a_download_is_kept_and_not_asked_for_again(server, cache):
    paths = {download(f'{server.url}/net-{DIGEST[:8]}.pth') for _ in range(2)}
    assert len(server.asked) == 1
    assert [path.read_bytes() for path in paths] == [CONTENT]


def test_a_download_lies_in_the_cache_folder_beside_its_sum_and_nothing_else(server, cache):
    path = download(f'{server.url}/net.pth')
    assert path.parent == cache == downloads.folder()
    assert files(cache) == ['net.pth', 'net.pth.sha256']
    assert downloads._beside(path, '.sha256').read_text() == f'{DIGEST}  {path.name}\n'


def test_the_sum_of_a_file_is_its_sha256(server):
    assert downloads.file_sha256(download(f'{server.url}/net.pth')) == DIGEST


def test_the_same_name_at_another_address_is_another_file(server):
    server.answers = [Answer(), Answer(OTHER)]
    paths = [download(f'{server.url}/{folder}/net.pth') for folder in 'ab']
    assert [path.read_bytes() for path in paths] == [CONTENT, OTHER]


@pytest.mark.parametrize(
    'answer',
    [Answer(announces=False), Answer(chunked=True), Answer(etag=None), Answer(etag='W/"weak"')],
    ids=['no length', 'chunked', 'no etag', 'weak etag'],
)
def test_a_plain_server_will_do(answer, server):
    server.answers = [answer]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT


def test_a_redirect_is_followed(server):
    server.answers = [Answer(b'', 302, headers={'Location': '/elsewhere'}), Answer()]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ['/net.pth', '/elsewhere']


@pytest.mark.parametrize('status', [500, 503, 429])
def test_an_error_of_the_server_that_passes_is_got_over(status, server):
    server.answers = [Answer(b'', status), Answer(b'', status), Answer()]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT


def test_torchvision_files_are_asked_for_by_their_name(server, monkeypatch):
    monkeypatch.setattr(published, 'URL', server.url + '/models/{name}.pth')
    locations.locate(f'torchvision:net-{DIGEST[:8]}')
    assert server.asked[0][0] == f'/models/net-{DIGEST[:8]}.pth'


# What is refused.


def test_a_download_that_cannot_be_read_as_weights_is_not_kept(server, cache):
    for attempt in (1, 2):
        with pytest.raises(InputError, match='neither a safetensors nor a torch'):
            loading.load(f'{server.url}/net.pth')
        assert 'net.pth' not in files(cache)
        assert len(server.asked) == attempt


@pytest.mark.parametrize(
    ('answer', 'reason', 'requests'),
    [
        (Answer(b'', 404), 'answered 404', 1),
        (Answer(b'', 403), 'answered 403', 1),
        (Answer(b'', 500), 'answered 500', transfer.ATTEMPTS),
        (Answer(b'', 204, announces=False), 'answered 204', 1),
        (Answer(headers={'Content-Encoding': 'gzip'}), 'encoding gzip', 1),
        (Answer(cut=HALF, etag=None), f'{HALF} of {len(CONTENT)} bytes', None),
        (Answer(cut=HALF, etag=None, chunked=True), 'broke off', None),
        (Answer(b'<!DOCTYPE html><title>Sign in</title>'), 'a web page or XML', 1),
        (Answer(b'\xef\xbb\xbf \n<?xml version="1.0"?><Error/>'), 'a web page or XML', 1),
        (Answer(b'version https://git-lfs.github.com/spec/v1\noid sha256:0'), 'git-lfs', 1),
        (Answer(b'{"error": "Repository not found"}'), 'JSON.*Repository not found', 1),
        (Answer(b'{"code":{"is": 404}}'), 'JSON', 1),
        (Answer(b''), 'empty', 1),
        (Answer(b'', 302, headers={'Location': 'ftp://127.0.0.1/a'}), 'redirects to ftp', 1),
        (Answer(b'', 302, headers={'Location': '/net.pth'}), 'infinite loop', None),
        (Answer(b'', 302, headers={'Location': 'http://u:word@h:x/'}), 'is invalid', 1),
    ],
)
def test_what_is_not_the_file_is_refused_leaves_nothing_and_is_asked_for_again(
    answer, reason, requests, server, cache
):
    server.answers = [answer]
    for attempt in (1, 2):
        with pytest.raises(InputError, match=reason):
            download(f'{server.url}/net.pth')
        assert files(cache) == []
        assert requests is None or len(server.asked) == attempt * requests


def test_a_wrong_sum_names_both_and_leaves_nothing(server, cache):
    with pytest.raises(InputError, match=f'{DIGEST}, but its name ends in 00000000'):
        download(f'{server.url}/net-00000000.pth')
    assert files(cache) == []


@pytest.mark.parametrize(
    'name', ['{0}.pth', 'net-{1}.pth', 'net-{2}.pth', 'net-{1}.pth.tar', 'deadbeef.pth', 'net-ab.h']
)
def test_a_right_sum_of_any_length_and_a_name_without_one_are_fine(name, server):
    url = f'{server.url}/{name.format("00000000", DIGEST, DIGEST[:12].upper())}'
    assert download(url).read_bytes() == CONTENT


def test_a_page_under_a_name_with_a_sum_is_called_a_page(server):
    server.answers = [Answer(b'<html>')]
    with pytest.raises(InputError, match='a web page'):
        download(f'{server.url}/net-00000000.pth')


def test_a_server_that_is_not_there_is_named(cache):
    with pytest.raises(InputError, match=r'http://127\.0\.0\.1:9/a\.pth.*refused'):
        download('http://127.0.0.1:9/a.pth')
    assert files(cache) == []


def test_a_server_that_falls_silent_is_given_up(server, monkeypatch, cache):
    monkeypatch.setattr(transfer, 'TIMEOUT_S', 0.05)
    monkeypatch.setattr(transfer, 'ATTEMPTS', 1)
    server.answers = [Answer(cut=0, etag=None, hold=threading.Event())]
    with pytest.raises(InputError, match='no byte arrived for'):
        download(f'{server.url}/net.pth')
    server.answers[0].hold.set()
    assert files(cache) == []


def test_a_server_that_drips_is_given_up_at_once(server, monkeypatch):
    monkeypatch.setattr(transfer, 'SLOW_S', 0.1)
    monkeypatch.setattr(transfer, 'LEAST_BYTES', 1000)
    server.answers = [Answer(drips=True)]
    with pytest.raises(InputError, match='it sent .* bytes in 0 s'):
        download(f'{server.url}/net.pth')
    assert len(server.asked) == 1


def test_a_server_that_never_ends_is_given_up_and_leaves_nothing(server, monkeypatch, cache):
    monkeypatch.setattr(transfer, 'MOST_BYTES', 1000)
    server.answers = [Answer(announces=False)]
    with pytest.raises(InputError, match='the server sent more than 1000 bytes'):
        download(f'{server.url}/net.pth')
    assert files(cache) == []


def test_a_delta_cannot_send_its_reader_to_an_address(server, tmp_path):
    base = json.dumps({'source': f'{server.url}/net.pth', 'sha256': DIGEST})
    header = {
        '__metadata__': {'base': base},
        'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]},
    }
    (tmp_path / 'delta.safetensors').write_bytes(safetensors(header, bytes(4)))
    with pytest.raises(InputError, match='not in the cache; load it once by itself'):
        loading.load(str(tmp_path / 'delta.safetensors'))
    assert server.asked == []


@pytest.mark.parametrize(
    'url', ['ftp://host/a', 'file:///etc/hosts', 'a.pth', 'http://', 'http://host:x/a', 'http://[/']
)
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(InputError, match='wanted an address'):
        download(url)


def test_a_redirect_from_https_to_http_is_not_followed():
    request = urllib.request.Request('https://host/net.pth')
    with pytest.raises(InputError, match='redirects to http,'):
        transfer._Redirects().redirect_request(request, io.BytesIO(), 302, '', {}, 'http://host/')


# What breaks off.


def test_a_broken_connection_is_gone_on_with(server):
    server.answers = [Answer(cut=HALF, reset=True), Answer()]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    first, second = asked_for(server)
    assert first is None
    assert 0 < int(second.removeprefix('bytes=').removesuffix('-')) <= HALF
    assert server.asked[1][1]['If-Range'] == '"one"'


def test_many_broken_connections_are_gone_on_with_as_long_as_each_brings_something(server):
    server.answers = [*(Answer(cut=1000) for _ in range(3 * transfer.ATTEMPTS)), Answer()]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert asked_for(server)[-1] == f'bytes={3 * transfer.ATTEMPTS * 1000}-'


def test_a_date_will_do_to_go_on_by(server):
    date = 'Sun, 01 Nov 2026 10:00:00 GMT'
    server.answers = [Answer(cut=HALF, etag=None, date=date), Answer(etag=None, date=date)]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert asked_for(server) == [None, f'bytes={HALF}-']
    assert server.asked[1][1]['If-Range'] == date


@pytest.mark.parametrize('etag', [None, 'W/"weak"'])
def test_without_a_version_to_name_it_starts_over(etag, server):
    server.answers = [Answer(cut=HALF, etag=etag), Answer(etag=etag)]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert asked_for(server) == [None, None]


@pytest.mark.parametrize(
    'second',
    [
        Answer(ranges=False),
        Answer(OTHER, etag='"two"'),
        Answer(OTHER, etag='"two"', honours_if_range=False),
        Answer(OTHER, etag=None, honours_if_range=False),
        Answer(CONTENT[:-5], honours_if_range=False),
        Answer(shift=-10),
        Answer(b'', 416),
    ],
    ids=[
        'no ranges',
        'changed',
        'changed and ignores If-Range',
        'no etag',
        'shorter',
        'shifted',
        'refused',
    ],
)
def test_two_versions_are_never_glued(second, server):
    last = second if second.status == 200 else Answer()
    server.answers = [Answer(cut=HALF), second, last]
    assert download(f'{server.url}/net.pth').read_bytes() == last.content
    assert asked_for(server)[1] == f'bytes={HALF}-'


def test_a_part_of_no_known_version_is_not_taken_for_one_of_the_version_before(server):
    server.answers = [Answer(cut=HALF), Answer(OTHER, etag=None, ranges=False, cut=1000), Answer()]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT


def test_a_part_that_is_whole_is_not_asked_for(server):
    path = download(f'{server.url}/net.pth')
    path.rename(downloads._beside(path, '.part'))
    version = json.dumps({'validator': '"one"', 'size': len(CONTENT)})
    downloads._beside(path, '.part.json').write_text(version)
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_what_came_before_all_attempts_failed_is_gone_on_with_by_the_next_run(server, cache):
    server.answers = [Answer(cut=HALF), Answer(b'', 503)]
    with pytest.raises(InputError, match='answered 503'):
        download(f'{server.url}/net.pth')
    assert files(cache) == ['net.pth.part', 'net.pth.part.json']
    server.answers = [Answer()]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert asked_for(server)[-1] == f'bytes={HALF}-'
    assert files(cache) == ['net.pth', 'net.pth.sha256']


def test_a_part_of_no_known_version_is_thrown_away(server, cache):
    path = download(f'{server.url}/net.pth')
    path.rename(downloads._beside(path, '.part'))
    server.answers = [Answer(OTHER)]
    assert download(f'{server.url}/net.pth').read_bytes() == OTHER


def test_a_damaged_part_fails_by_its_sum_and_is_thrown_away(server, cache):
    url = f'{server.url}/net-{DIGEST[:8]}.pth'
    server.answers = [Answer(cut=HALF), Answer(b'', 503)]
    with pytest.raises(InputError, match='503'):
        download(url)
    (part,) = cache.glob('*.part')
    part.write_bytes(b'x' + part.read_bytes()[1:])
    server.answers = [Answer()]
    with pytest.raises(InputError, match='but its name ends in'):
        download(url)
    assert download(url).read_bytes() == CONTENT


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_a_killed_download_leaves_nothing_but_a_part_to_go_on_with(number, server, cache):
    hold = threading.Event()
    server.answers = [Answer(cut=HALF, hold=hold)]
    with child(f'{server.url}/net.pth') as process:
        wait_for(lambda: any(path.stat().st_size >= HALF for path in cache.glob('*.part')))
        process.send_signal(number)
        assert process.wait(10) != 0
    hold.set()
    assert files(cache) == ['net.pth.part', 'net.pth.part.json']
    server.answers = [Answer()]
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert asked_for(server)[-1] == f'bytes={HALF}-'


# Two at once.


# The rest of the package is left out, for JAX takes seconds to import.
CHILD = """
import signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
for name, folder in (('tljax', {package!r}), ('tljax.weights', {package!r} + '/weights')):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
sys.modules['tljax.types'] = types.ModuleType('tljax.types')
sys.modules['tljax.types'].InputError = ValueError
from tljax.weights.download import download
download({url!r})
"""


@contextlib.contextmanager
def child(url):
    """Another process that downloads."""
    code = CHILD.format(package=str(pathlib.Path(downloads.__file__).parents[1]), url=url)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, '-c', code], stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError('it did not happen')


def test_of_two_processes_one_downloads_and_the_other_finds_the_file(server, cache):
    hold = threading.Event()
    server.answers = [Answer(cut=HALF, hold=hold), Answer(OTHER)]
    with child(f'{server.url}/net.pth') as other:
        wait_for(lambda: server.asked)
        threading.Timer(0.1, hold.set).start()
        path = download(f'{server.url}/net.pth')
        assert other.wait(10) == 0
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert files(cache) == ['net.pth', 'net.pth.sha256']


def test_many_threads_at_once_get_one_whole_file(server, cache):
    paths = []
    url = f'{server.url}/net.pth'
    threads = [threading.Thread(target=lambda: paths.append(download(url))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in paths] == [True] * 8
    assert len(server.asked) == 1
    assert files(cache) == ['net.pth', 'net.pth.sha256']


def test_one_that_waited_for_a_failure_tries_itself(server):
    hold = threading.Event()
    server.answers = [Answer(b'<html></html>', cut=3, hold=hold), Answer()]
    failed = []

    def first():
        with pytest.raises(InputError, match='web page'):
            download(f'{server.url}/net.pth')
        failed.append(True)

    thread = threading.Thread(target=first)
    thread.start()
    wait_for(lambda: server.asked)
    threading.Timer(0.1, hold.set).start()
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    thread.join()
    assert failed


# The cache.


@pytest.mark.parametrize('damage', [lambda c: c[:-1], lambda c: b'x' + c[1:], lambda c: b''])
def test_a_cached_file_that_was_damaged_is_downloaded_again(damage, server, cache):
    path = download(f'{server.url}/net.pth')
    path.write_bytes(damage(CONTENT))
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_damaged_file_is_not_trusted_after_a_vain_attempt_to_replace_it(server, cache):
    path = download(f'{server.url}/net.pth')
    path.write_bytes(OTHER)
    server.answers = [Answer(b'', 404)]
    for _ in range(2):
        with pytest.raises(InputError, match='404'):
            download(f'{server.url}/net.pth')


def test_an_unreadable_sum_is_not_trusted(server):
    path = download(f'{server.url}/net.pth')
    downloads._beside(path, '.sha256').write_bytes(b'\xff')
    download(f'{server.url}/net.pth')
    assert len(server.asked) == 2


def test_a_file_put_in_the_cache_by_hand_is_used_and_its_sum_kept(server, cache, monkeypatch):
    monkeypatch.setenv('TLJAX_OFFLINE', '1')
    with pytest.raises(InputError) as caught:
        download(f'{server.url}/net.pth')
    path = next(word for word in str(caught.value).split() if word.startswith(str(cache)))
    cache.mkdir(parents=True)
    pathlib.Path(path).write_bytes(CONTENT)
    assert download(f'{server.url}/net.pth').read_bytes() == CONTENT
    assert files(cache) == ['net.pth', 'net.pth.sha256']


def test_a_false_file_put_in_the_cache_by_hand_is_replaced(server):
    path = download(f'{server.url}/net-{DIGEST[:8]}.pth')
    downloads._beside(path, '.sha256').unlink()
    path.write_bytes(OTHER)
    assert download(f'{server.url}/net-{DIGEST[:8]}.pth').read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_named_once(server, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'file'))
    with pytest.raises(InputError, match=r'cannot be stored in .*file/weights: .*TLJAX_CACHE'):
        download(f'{server.url}/net.pth')


def test_a_full_disk_is_one_error_leaves_nothing_and_is_not_tried_again(server, cache, monkeypatch):
    class Full(io.BufferedRandom):
        def write(self, _):
            raise OSError(errno.ENOSPC, 'No space left on device')

    real = pathlib.Path.open

    def opened(path, mode='r', *args, **kwargs):
        file = real(path, mode, *args, **kwargs)
        return Full(file.detach()) if mode == 'a+b' else file

    monkeypatch.setattr(pathlib.Path, 'open', opened)
    with pytest.raises(InputError, match='No space left on device'):
        download(f'{server.url}/net.pth')
    assert len(server.asked) == 1
    assert files(cache) == []


# Offline.


@pytest.mark.parametrize('name', ['TLJAX_OFFLINE', 'HF_HUB_OFFLINE'])
@pytest.mark.parametrize('value', ['1', 'true', 'YES', 'on'])
def test_offline_uses_the_cache_and_nothing_else(name, value, server, cache, monkeypatch):
    path = download(f'{server.url}/net.pth')
    monkeypatch.setenv(name, value)
    assert download(f'{server.url}/net.pth') == path
    with pytest.raises(InputError, match=f'/other.pth: {cache}.*does not exist.*OFFLINE'):
        download(f'{server.url}/other.pth')
    assert len(server.asked) == 1


@pytest.mark.parametrize('value', ['', '0', 'false', 'no'])
def test_other_values_are_not_offline(value, monkeypatch):
    monkeypatch.setenv('TLJAX_OFFLINE', value)
    assert not downloads.offline()


def test_a_damaged_file_is_refused_offline(server, monkeypatch):
    path = download(f'{server.url}/net.pth')
    path.write_bytes(OTHER)
    monkeypatch.setenv('TLJAX_OFFLINE', '1')
    with pytest.raises(InputError, match=f'has been damaged.*{DIGEST}'):
        download(f'{server.url}/net.pth')


# Names and secrets.


@pytest.mark.parametrize(
    ('address', 'name'),
    [
        ('a/net.pth?download=true', 'net.pth'),
        ('my%20net%2F..%2Fb.pth', 'my_net_.._b.pth'),
        ('my net.pth', 'my_net.pth'),
        ('n%C3%A9t.pth#part', 'n_t.pth'),
        ('', 'weights'),
        ('a' * 300 + '.pth', 'a' * 116 + '.pth'),
    ],
)
def test_a_file_name_is_the_last_segment_without_oddities(address, name, server):
    assert download(f'{server.url}/{address}').name[9:] == name


def test_a_query_is_sent_and_means_another_file(server):
    paths = {download(f'{server.url}/net.pth?version={number}') for number in (1, 2)}
    assert len(paths) == 2
    assert server.asked[0][0] == '/net.pth?version=1'


def test_a_login_is_sent_to_the_server_but_not_to_where_it_leads(server):
    other = server.url.replace('127.0.0.1', 'localhost')
    server.answers = [Answer(b'', 302, headers={'Location': f'{other}/b'}), Answer()]
    download(f'{server.url.replace("//", "//me:se%3Acret@")}/net.pth')
    first, second = (headers.get('Authorization') for _, headers in server.asked)
    assert first == 'Basic bWU6c2U6Y3JldA=='
    assert second is None


@pytest.mark.parametrize('status', [200, 404, 500])
def test_secrets_are_neither_printed_nor_stored(status, server, cache, capfd):
    server.answers = [Answer(status=status, cut=HALF), Answer(b'', 503)]
    with pytest.raises(InputError) as caught:
        download(f'{server.url.replace("//", "//me:sesame@")}/net.pth?token=hidden')
    told = [str(caught.value), *capfd.readouterr()]
    told += [str(path) for path in cache.glob('*')]
    told += [path.read_text(errors='replace') for path in cache.glob('*.json')]
    assert not [text for text in told if 'sesame' in text or 'hidden' in text]


@pytest.mark.parametrize('url', ['http://me:sec/ret@host/a?t=hidden', 'ftp://me:secret@host/'])
def test_secrets_of_a_false_address_are_not_printed(url):
    with pytest.raises(InputError) as caught:
        download(url)
    assert not [word for word in ('sec', 'ret@', 'hidden') if word in str(caught.value)]


# What a file looks like.


@pytest.mark.parametrize(
    'content',
    [
        safetensors({'a': {'dtype': 'U8', 'shape': [3], 'data_offsets': [0, 3]}}, b'abc'),
        safetensors({'__metadata__': {'a': 'b'}}),
        safetensors(
            {'a': {'data_offsets': [0, 0]}, 'b': 'x' * 27} | {'b': {'data_offsets': [0, 0]}}
        ),
        b'\x80\x02}q\x00.',
        b'{ no json',
        b'[' * 5000,
    ],
)
def test_what_may_be_weights_is_let_through(content, tmp_path):
    (tmp_path / 'file').write_bytes(content)
    assert downloads.refusal(tmp_path / 'file') is None


@pytest.mark.parametrize('first', [0x3C, 0x5B, 0x20, 0x0A, 0x7B])
def test_a_safetensors_file_whose_length_looks_like_text_is_let_through(first, tmp_path):
    header = {'a': {'dtype': 'U8', 'shape': [3], 'data_offsets': [0, 3]}}
    text = json.dumps(header).encode()
    length = next(n for n in range(len(text), len(text) + 257) if n % 256 == first)
    content = struct.pack('<Q', length) + text.ljust(length) + b'abc'
    assert content[0] == first
    (tmp_path / 'file').write_bytes(content)
    assert downloads.refusal(tmp_path / 'file') is None


@pytest.mark.parametrize('change', [-1, 1])
def test_a_safetensors_file_of_another_length_is_refused(change, tmp_path):
    content = safetensors({'a': {'data_offsets': [0, 9]}}, b'x' * (9 + change))
    (tmp_path / 'file').write_bytes(content)
    assert 'its header states' in downloads.refusal(tmp_path / 'file')


def test_a_safetensors_file_without_a_readable_header_is_refused(tmp_path):
    for content in (b'{broken', b'{"a": {}}', b'{"a": 1}', b'{"a":{"data_offsets":[]}}'):
        (tmp_path / 'file').write_bytes(struct.pack('<Q', len(content)) + content)
        assert 'header cannot be read' in downloads.refusal(tmp_path / 'file')


def test_a_zip_archive_that_is_cut_short_is_refused_though_the_server_announces_it_so(server):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('data.pkl', CONTENT)
    server.answers = [Answer(archive.getvalue()[:HALF]), Answer(archive.getvalue())]
    with pytest.raises(InputError, match='zip archive that is cut short'):
        download(f'{server.url}/net.pth')
    assert download(f'{server.url}/net.pth').read_bytes() == archive.getvalue()


# What is told.


def test_small_files_say_nothing(server, capfd):
    download(f'{server.url}/net.pth')
    assert capfd.readouterr() == ('', '')


def test_large_files_say_when_they_begin_and_end(server, capfd, monkeypatch):
    monkeypatch.setattr(downloads, 'LOGGED_BYTES', 1000)
    download(f'{server.url}/net.pth')
    out, err = capfd.readouterr()
    assert out == ''
    assert err.splitlines() == ['downloading net.pth, 1 MB', 'downloaded net.pth in 0 s']


def drain(terminal, into):
    """Reads what a terminal shows until its other end is closed."""
    with contextlib.suppress(OSError):
        while text := os.read(terminal, 1000):
            into.write(text)


def test_a_terminal_shows_a_bar(server, monkeypatch):
    master, slave = os.openpty()
    shown = io.BytesIO()
    reader = threading.Thread(target=drain, args=(master, shown))
    reader.start()
    monkeypatch.setenv('TERM', 'xterm')
    with os.fdopen(slave, 'w') as terminal:
        monkeypatch.setattr(sys, 'stderr', terminal)
        download(f'{server.url}/net.pth')
    reader.join()
    os.close(master)
    assert b'net.pth' in shown.getvalue()
    assert b'1.0/1.0 MB' in shown.getvalue()
