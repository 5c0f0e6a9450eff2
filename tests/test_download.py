"""What is downloaded is whole and what was meant, or nothing of it is trusted."""

import hashlib
import http.server
import json
import multiprocessing
import os
import threading

import pytest

from tljax import weights
from tljax.types import InputError
from tljax.weights import download, published

CONTENT = bytes(range(256)) * 400  # 102,400 bytes that hold zeros, as weights do
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves well or badly, by the first word of the name that is asked for."""

    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        """Answers one request and remembers it."""
        asked = self.server.asked
        asked.append((self.path, self.headers.get('Range'), self.headers.get('If-Range')))
        kind = self.path.lstrip('/').partition('-')[0].partition('.')[0].partition('?')[0]
        getattr(self, kind, self.good)(sum(path == self.path for path, _, _ in asked))

    def send(self, body, status=200, announced=None, **headers):
        """One answer; `announced` is a length that may be a lie."""
        self.send_response(status)
        self.send_header('Content-Length', str(len(body) if announced is None else announced))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = announced is not None

    def good(self, _time):
        self.send(CONTENT)

    def gone(self, _time):
        self.send(b'no such file', 404)

    def busy(self, time):
        self.send(CONTENT if time == 3 else b'later', 200 if time == 3 else 503)

    def never(self, _time):
        self.send(b'later', 503)

    def cut(self, _time):
        self.send(CONTENT[:HALF], announced=len(CONTENT))

    def chunked(self, _time):
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        self.wfile.write(b'64\r\ncut short')
        self.close_connection = True

    def endless(self, _time):
        """No length: the end of the connection is the end of the file."""
        self.send_response(200)
        self.send_header('Connection', 'close')
        self.end_headers()
        self.wfile.write(CONTENT)

    def page(self, _time):
        self.send(b'\n <!DOCTYPE html><html>Please sign in</html>')

    def pointer(self, _time):
        self.send(b'version https://git-lfs.github.com/spec/v1\noid sha256:00')

    def message(self, _time):
        self.send(b'{"error": "rate limit"}')

    def broken(self, time):
        """Breaks off half-way the first time, and goes on from where it is asked to."""
        if time == 1:
            self.send(CONTENT[:HALF], announced=len(CONTENT), ETag='"one"')
            return
        start = int(self.headers['Range'].removeprefix('bytes=').rstrip('-'))
        span = f'bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}'
        self.send(CONTENT[start:], 206, ETag='"one"', Content_Range=span)

    def deaf(self, time):
        """Breaks off the first time, and sends all again whatever range is asked for."""
        if time == 1:
            self.send(CONTENT[:HALF], announced=len(CONTENT), ETag='"one"')
        else:
            self.send(CONTENT, ETag='"one"')

    def changed(self, time):
        """Has another file the second time, as If-Range tells it."""
        if time == 1:
            self.send(b'\0' * HALF, announced=len(CONTENT), ETag='"old"')
        else:
            self.send(CONTENT, ETag='"new"')

    def shrunk(self, time):
        """Has less the second time than had come the first."""
        if time == 1:
            self.send(b'\0' * HALF, announced=len(CONTENT), ETag='"old"')
        elif self.headers.get('Range'):
            self.send(b'', 416)
        else:
            self.send(CONTENT, ETag='"new"')

    def weak(self, time):
        """Breaks off the first time, with a tag that promises nothing of the bytes."""
        if time == 1:
            self.send(b'\0' * HALF, announced=len(CONTENT), ETag='W/"one"')
        else:
            self.send(CONTENT)

    def moved(self, _time):
        self.send(b'', 302, Location='/good-there.pth')

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine, and a cache folder of the test's own."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(download, 'BACKOFF_SECONDS', 0.0)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        httpd.asked = []
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        httpd.url = f'http://127.0.0.1:{httpd.server_port}'
        yield httpd
        httpd.shutdown()


def trusted(tmp_path):
    """The files of the cache that a later run would use."""
    found = (tmp_path / 'cache' / 'weights').glob('*')
    return [path for path in found if path.suffix not in ('.part', '.lock', '.validator', '.json')]


def test_a_download_is_kept_and_not_asked_for_again(server, tmp_path):
    for _ in range(2):
        path = download.download(f'{server.url}/good-{DIGEST[:8]}.pth')
        assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert trusted(tmp_path) == [path]


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('gone.pth', '404'),
        ('never.pth', '503'),
        ('cut.pth', f'{HALF} bytes came of {len(CONTENT)} announced'),
        ('chunked.pth', 'could not be downloaded'),
        ('page.pth', 'a web page came instead of the file: <!DOCTYPE html>'),
        ('pointer.pth', 'a pointer of git-lfs came'),
        ('message.pth', 'a message came .*rate limit'),
        ('good-00000000.pth', f'its SHA-256 is {DIGEST}, its name promises 00000000'),
    ],
)
def test_a_bad_download_is_refused_leaves_nothing_and_is_tried_again(
    name, reason, server, tmp_path
):
    for _ in range(2):
        before = len(server.asked)
        with pytest.raises(InputError, match=reason):
            download.download(f'{server.url}/{name}')
        assert trusted(tmp_path) == []
        assert not list((tmp_path / 'cache' / 'weights').glob('*.part'))
        assert len(server.asked) > before


def test_a_file_that_is_not_there_is_asked_for_once(server):
    with pytest.raises(InputError, match='404'):
        download.download(f'{server.url}/gone.pth')
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server):
    assert download.download(f'{server.url}/busy.pth').read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize('name', ['endless.pth', 'moved.pth'])
def test_answers_without_a_length_and_redirections_are_followed(name, server):
    assert download.download(f'{server.url}/{name}').read_bytes() == CONTENT


def test_a_transfer_that_broke_off_goes_on_where_it_stopped(server):
    assert download.download(f'{server.url}/broken.pth').read_bytes() == CONTENT
    assert server.asked[1][1:] == (f'bytes={HALF}-', '"one"')


def test_a_later_call_goes_on_where_an_earlier_one_stopped(server, monkeypatch, tmp_path):
    monkeypatch.setattr(download, 'ATTEMPTS', 1)
    with pytest.raises(InputError, match='announced'):
        download.download(f'{server.url}/broken.pth')
    assert trusted(tmp_path) == []
    assert download.download(f'{server.url}/broken.pth').read_bytes() == CONTENT
    assert server.asked[1][1] == f'bytes={HALF}-'


@pytest.mark.parametrize('name', ['deaf.pth', 'changed.pth', 'shrunk.pth', 'weak.pth'])
def test_parts_of_two_answers_are_never_put_together(name, server):
    assert download.download(f'{server.url}/{name}').read_bytes() == CONTENT


def test_a_part_is_not_trusted_without_what_tells_the_file(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, 'ATTEMPTS', 1)
    with pytest.raises(InputError):
        download.download(f'{server.url}/broken.pth')
    (validator,) = (tmp_path / 'cache' / 'weights').glob('*.validator')
    validator.unlink()
    server.asked.clear()
    with pytest.raises(InputError):
        download.download(f'{server.url}/broken.pth')
    assert server.asked[0][1] is None


def test_a_file_that_was_damaged_in_the_cache_is_downloaded_again(server):
    path = download.download(f'{server.url}/good.pth')
    path.write_bytes(CONTENT[:-1] + b'\0')
    assert download.download(f'{server.url}/good.pth').read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_file_in_the_cache_whose_sum_nobody_recorded_is_downloaded_again(server):
    path = download.download(f'{server.url}/good.pth')
    path.with_name(path.name + '.json').unlink()
    download.download(f'{server.url}/good.pth')
    assert len(server.asked) == 2


def test_a_download_that_is_no_file_of_weights_is_not_kept(server, tmp_path):
    for attempt in (1, 2):
        with pytest.raises(InputError, match='neither a safetensors nor a torch'):
            weights.load(f'{server.url}/good.pth')
        assert trusted(tmp_path) == []
        assert len(server.asked) == attempt


def _download(url, folder):
    os.environ['TLJAX_CACHE'] = folder
    return download.download(url).read_bytes() == CONTENT


def test_of_two_processes_one_downloads_and_both_have_the_file(server, tmp_path):
    context = multiprocessing.get_context('spawn')
    with context.Pool(2) as pool:
        jobs = [(f'{server.url}/good.pth', str(tmp_path / 'cache'))] * 2
        assert pool.starmap(_download, jobs) == [True, True]
    assert len(server.asked) == 1


@pytest.mark.parametrize('variable', ['TLJAX_OFFLINE', 'HF_HUB_OFFLINE'])
def test_offline_uses_what_is_there_and_asks_for_nothing_else(variable, server, monkeypatch):
    there = download.download(f'{server.url}/good.pth')
    monkeypatch.setenv(variable, '1')
    assert download.download(f'{server.url}/good.pth') == there
    with pytest.raises(InputError, match=r'other\.pth: not there as .*other\.pth.*forbids'):
        download.download(f'{server.url}/other.pth')
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(download, 'BACKOFF_SECONDS', 0.0)
    with pytest.raises(InputError, match=r'http://127\.0\.0\.1:9/a\.pth'):
        download.download('http://127.0.0.1:9/a.pth')


def test_a_folder_that_cannot_be_written_is_said_with_what_names_another(tmp_path, monkeypatch):
    (tmp_path / 'cache').write_text('a file')
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    with pytest.raises(InputError, match='could not be kept in .*TLJAX_CACHE'):
        download.download('http://127.0.0.1:9/a.pth')


def test_a_disk_that_fills_up_is_not_taken_for_the_network(server, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(download, '_copy', full)
    with pytest.raises(InputError, match='could not be kept .*No space left'):
        download.download(f'{server.url}/good.pth')
    assert len(server.asked) == 1


@pytest.mark.parametrize('url', ['ftp://127.0.0.1/a.pth', 'file:///etc/passwd', 'a.pth'])
def test_other_addresses_than_of_the_web_are_refused(url):
    with pytest.raises(InputError, match='http'):
        download.download(url)


@pytest.mark.parametrize(
    ('name', 'kept'),
    [
        ('good.pth?download=true&token=secret', 'good.pth'),
        ('good%20one%2Ftwo.pth', 'good_one_two.pth'),
        ('', 'file'),
    ],
)
def test_a_file_in_the_cache_has_a_plain_name(name, kept, server):
    assert download.download(f'{server.url}/{name}').name[9:] == kept


def test_secrets_of_an_address_are_neither_shown_nor_kept(server, tmp_path):
    address = server.url.replace('http://', 'http://user:secret@')
    with pytest.raises(InputError) as caught:
        download.download(f'{address}/page.pth?token=secret')
    assert 'secret' not in str(caught.value)
    download.download(f'{server.url}/good.pth?token=secret')
    for path in (tmp_path / 'cache' / 'weights').iterdir():
        assert 'secret' not in path.name
        assert path.suffix != '.json' or 'secret' not in json.loads(path.read_text())['url']


def test_torchvision_files_are_asked_for_by_their_name(server, monkeypatch):
    monkeypatch.setattr(published, 'URL', server.url + '/models/{name}.pth')
    weights.locate(f'torchvision:net-{DIGEST[:8]}')
    assert server.asked[0][0] == f'/models/net-{DIGEST[:8]}.pth'


def test_a_binary_file_whose_first_byte_is_a_letter_is_no_page(tmp_path):
    path = tmp_path / 'a.safetensors'
    for start in (b'{\1\0\0\0\0\0\0{', b' <\0\0\0\0\0\0{', b'<\0\0\0\0\0\0\0{'):
        path.write_bytes(start)
        download.refuse_pages(path, 'a')
