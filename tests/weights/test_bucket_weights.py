"""Weights in a bucket: `backbone.weights='gs://…'`."""

import numpy as np
import pytest

from tests.storage.fake import registered
from tljax.storage.addresses import AddressError
from tljax.storage.bucket import Bucket
from tljax.types import InputError
from tljax.weights import download, loading
from tljax.weights.locations import EMBEDDED

FILE = min(EMBEDDED.glob('*.safetensors'), key=lambda path: path.stat().st_size)


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A bucket in memory, and an empty cache folder."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    with registered():
        yield Bucket('gs://b/weights')


def test_weights_in_a_bucket_are_those_of_the_file(bucket):
    bucket.upload(FILE, 'x.safetensors')
    opened = loading.open_('gs://b/weights/x.safetensors')
    expected = loading.open_(str(FILE))
    assert opened.origin.source == 'gs://b/weights/x.safetensors'
    assert opened.entries.keys() == expected.entries.keys()
    assert all(np.array_equal(opened.entries[k], expected.entries[k]) for k in expected.entries)


def test_a_name_that_ends_in_digits_of_another_sum_is_refused(bucket):
    digits = download.file_sha256(FILE)[:8]
    bucket.upload(FILE, f'x-{digits}.safetensors')
    loading.open_(f'gs://b/weights/x-{digits}.safetensors')
    bucket.upload(FILE, 'x-01234567.safetensors')
    with pytest.raises(InputError, match='but its name ends in 01234567'):
        loading.open_('gs://b/weights/x-01234567.safetensors')


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        ('gs://b/weights/no.safetensors', 'holds no run'),
        ('az://b/x.safetensors', 'az:// is not supported here'),
    ],
)
def test_weights_that_are_not_there_are_refused_in_one_line(spec, words, bucket):
    with pytest.raises(InputError, match=words) as error:
        loading.open_(spec)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_address_is_a_local_file(bucket):
    assert loading.open_(f'file://{FILE}').entries.keys() == loading.open_(str(FILE)).entries.keys()


def test_denied_weights_are_an_error_of_the_input(bucket):
    from tests.storage.fake import FakeFileSystem

    def fault(*_):
        raise PermissionError('Forbidden')

    FakeFileSystem.fault = fault
    with pytest.raises(AddressError, match='gs://b/weights/x.safetensors: cannot read.*Forbidden'):
        loading.open_('gs://b/weights/x.safetensors')
