"""Lists of images in buckets, and the local copies that their images are read from."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.storage.fake import FakeFileSystem, registered
from tljax.data import labelled, unlabelled
from tljax.data.folder import Folder
from tljax.data.manifest import Manifest
from tljax.storage.bucket import Bucket, BucketError
from tljax.types import BadFiles, InputError

LIST = 'gs://b/photos/list.csv'


def png(value):
    """An image of one color as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, 'PNG')
    return file.getvalue()


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A bucket with ten images of two classes, and a list of them."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    with registered():
        result = Bucket('gs://b/photos')
        rows = ['path,label']
        for i in range(10):
            result.write(f'img/{i}.png', png(i))
            rows.append(f'img/{i}.png,{"ab"[i % 2]}')
        result.write('list.csv', '\n'.join(rows).encode())
        yield result


def images(split):
    """The first value of each image of a split, by the text of its file."""
    return {str(file): int(split.load(i)[0, 0, 0]) for i, file in enumerate(split.encoded)}


def everything(splits):
    """The same of all splits."""
    return {name: value for split in splits.values() for name, value in images(split).items()}


def test_the_images_of_a_list_are_named_by_their_addresses(bucket):
    splits = Manifest(path=LIST).splits()
    assert everything(splits) == {f'gs://b/photos/img/{i}.png': i for i in range(10)}


def test_images_are_downloaded_once_and_again_when_they_change(bucket):
    Manifest(path=LIST).splits()
    FakeFileSystem.calls.clear()
    fetched = []
    get_file = FakeFileSystem.get_file

    def counted(self, rpath, lpath, **options):
        fetched.append(rpath)
        return get_file(self, rpath, lpath, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeFileSystem, 'get_file', counted)
        Manifest(path=LIST).splits()
        assert fetched == []
        bucket.write('img/3.png', png(33))
        splits = Manifest(path=LIST).splits()
        assert fetched == ['b/photos/img/3.png']
    assert everything(splits)['gs://b/photos/img/3.png'] == 33


def test_a_local_list_may_name_images_in_a_bucket(bucket, tmp_path):
    path = tmp_path / 'list.csv'
    path.write_text('path,label\ngs://b/photos/img/0.png,a\ngs://b/photos/img/1.png,b\n')
    splits = labelled.read(str(path))
    assert set(images(splits.examples)) == {'gs://b/photos/img/0.png', 'gs://b/photos/img/1.png'}
    path.write_bytes(bucket.read('list.csv'))
    splits = Manifest(path=str(path), root='gs://b/photos').splits()
    assert everything(splits) == {f'gs://b/photos/img/{i}.png': i for i in range(10)}


def test_an_image_whose_copy_was_deleted_is_downloaded_again(bucket):
    split = Manifest(path=LIST).splits()['train']
    split.encoded[0].path.unlink()
    assert int(split.load(0)[0, 0, 0]) == images(split)[str(split.encoded[0])]


def test_a_missing_image_is_a_bad_file_with_its_address(bucket):
    bucket.delete('img/4.png')
    with pytest.raises(InputError, match=r'gs://b/photos/img/4\.png: .*[Nn]o such file'):
        Manifest(path=LIST).splits()
    splits = Manifest(path=LIST, bad_files=BadFiles.SKIP).splits()
    assert len(everything(splits)) == 9


def test_images_to_predict_may_be_in_a_bucket(bucket):
    examples = unlabelled.read(['gs://b/photos/img/7.png', LIST])
    assert len(examples) == 10
    assert str(examples.encoded[0]) == 'gs://b/photos/img/7.png'


def test_a_list_that_does_not_exist_and_a_folder_are_refused_in_one_line(bucket):
    for source in (Manifest(path='gs://b/no.csv'), Folder(path='gs://b/photos')):
        with pytest.raises(InputError, match='gs://b/') as error:
            source.splits()
        assert len(str(error.value).splitlines()) == 1


def test_a_bucket_that_fails_is_named(bucket):
    def fault(*_):
        raise OSError('broken')

    FakeFileSystem.fault = fault
    with pytest.raises(BucketError, match='gs://b/photos: cannot read list.csv'):
        Manifest(path=LIST).splits()
