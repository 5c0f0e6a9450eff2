"""Requests to a bucket: retries, time limits, what is not repeated; and addresses."""

import pathlib
import time

import pytest

from tests.storage.fake import FakeFileSystem, registered
from tljax.storage import addresses, bucket, copies, data_copies
from tljax.storage.addresses import AddressError
from tljax.storage.bucket import Bucket, BucketError, DeniedError


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path):
    """An empty bucket in memory, and an empty cache folder."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    with registered() as system:
        yield system


def fails(times, error):
    """A fault: the first requests fail."""
    left = iter(range(times))

    def fault(*_):
        if next(left, None) is not None:
            raise error

    return fault


@pytest.mark.parametrize('error', [OSError('503'), TimeoutError(), RuntimeError('reset')])
def test_a_request_that_fails_is_repeated(error, fake):
    fake.fault = fails(3, error)
    Bucket('gs://b/run').write('a', b'1')
    assert Bucket('gs://b/run').read('a') == b'1'


def test_a_request_that_keeps_failing_is_given_up_after_the_stated_time(fake):
    fake.fault = fails(10**6, OSError('503'))
    started = time.monotonic()
    with pytest.raises(BucketError, match=r'^gs://b/run: cannot write a: OSError: 503 \(tried for'):
        Bucket('gs://b/run', retry_seconds=0.2).write('a', b'1')
    assert 0.1 < time.monotonic() - started < 2


@pytest.mark.parametrize(
    'error', [PermissionError('no'), OSError('Forbidden: b/run'), ValueError('bad name')]
)
def test_a_denied_request_is_not_repeated(error, fake):
    fake.fault = fails(1, error)
    with pytest.raises(DeniedError, match='cannot write a'):
        Bucket('gs://b/run').write('a', b'1')
    assert len(fake.calls) == 1


def test_a_request_without_an_answer_is_repeated_and_a_late_answer_is_noted(fake):
    waits = iter([0.5])
    fake.fault = lambda *_: time.sleep(next(waits, 0))
    one = Bucket('gs://b/run', retry_seconds=2, stall_seconds=0.1)
    started = time.monotonic()
    one.write('a', b'1')
    assert time.monotonic() - started < 0.5
    assert one.late == set()
    time.sleep(0.5)
    assert one.late == {'a'}


def test_a_larger_transfer_has_more_time(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket, 'SLOWEST_BYTES', 100)
    (tmp_path / 'file').write_bytes(bytes(100))
    fake.fault = lambda *_: time.sleep(0.3)
    Bucket('gs://b/run', retry_seconds=0, stall_seconds=0.1).upload(tmp_path / 'file', 'a')
    with pytest.raises(BucketError, match='no answer within'):
        Bucket('gs://b/run', retry_seconds=0, stall_seconds=0.1).write('b', b'')


def test_an_object_is_created_once():
    one, other = Bucket('gs://b/run'), Bucket('gs://b/run')
    assert one.create('lock', b'one')
    assert not other.create('lock', b'other')
    assert other.read('lock') == b'one'


def test_the_first_error_of_parallel_calls_is_raised():
    done = []

    def call(item):
        if item == 5:
            raise OSError('five')
        done.append(item)

    with pytest.raises(OSError, match='five'):
        bucket.in_parallel(call, range(1000))
    assert len(done) < 1000


@pytest.mark.parametrize(
    ('address', 'words'),
    [
        ('az://b/run', 'az:// is not supported here, wanted a local path, file://, gs:// or s3://'),
        ('memory://b/run', 'memory:// is not supported here'),
        ('https://host/run', 'https:// is not supported here'),
        ('gs://', 'wanted gs://BUCKET/PATH'),
        ('gs://b/../run', 'wanted gs://BUCKET/PATH'),
        ('file://host/run', 'host is read as a host'),
        ('a\0b', 'NUL'),
    ],
)
def test_an_unsupported_address_is_refused_in_one_line(address, words):
    with pytest.raises(AddressError) as error:
        addresses.path_or_address(address)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_package_is_said_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(addresses.BACKENDS, 'gs', 'no_such_package')
    with pytest.raises(AddressError, match=r"python3 -m pip install 'tljax\[bucket\]'"):
        Bucket('gs://b/run')


def test_a_file_address_is_a_path():
    assert addresses.path_or_address('file:///a/b') == pathlib.Path('/a/b')
    assert addresses.path_or_address('file://localhost/a/b') == pathlib.Path('/a/b')


def test_a_copy_is_downloaded_once_for_each_version(fake, tmp_path):
    one = Bucket('gs://b')
    one.write('x.bin', b'1')
    first = copies.file('gs://b/x.bin')
    assert first is not None
    assert first.name == 'x.bin'
    downloads = [call for call in fake.calls if call == ('read', 'b/x.bin')]
    assert copies.file('gs://b/x.bin') == first
    assert [c for c in fake.calls if c == ('read', 'b/x.bin')] == [*downloads, downloads[0]]  # info
    time.sleep(0.01)
    one.write('x.bin', b'2')
    second = copies.file('gs://b/x.bin')
    assert second not in (None, first)
    assert (first.read_bytes(), second.read_bytes()) == (b'1', b'2')
    assert copies.file('gs://b/y.bin') is None


def test_offline_the_latest_copy_is_used(fake, monkeypatch):
    Bucket('gs://b').write('x.bin', b'1')
    path = copies.file('gs://b/x.bin')
    monkeypatch.setenv('TLJAX_OFFLINE', '1')
    fake.calls.clear()
    assert copies.file('gs://b/x.bin') == path
    assert data_copies.local('gs://b/x.bin').name == 'x.bin'
    with pytest.raises(AddressError, match='TLJAX_OFFLINE'):
        copies.file('gs://b/other.bin')
    assert not fake.calls
    assert FakeFileSystem.fault is None
