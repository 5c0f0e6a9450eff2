"""Files that cannot be used: each is made here, found before a run, and left out if so wished."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from tljax.data import decode, files
from tljax.data.files import FolderError
from tljax.data.folder import Folder
from tljax.types import BadFiles


def encoded(kind='jpeg', size=(40, 30)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


CONTENT = {
    'zero bytes': (b'', 'it is empty, 0 bytes'),
    'HTML': (b'<!DOCTYPE html><html>404</html>', 'it is HTML or XML'),
    'text': (b'version https://git-lfs.github.com', 'unknown format'),
    '1 x 1': (encoded('png', (1, 1)), '1 x 1 px, wanted sides of at least 2 px'),
    '1 x 5000': (encoded('png', (1, 5000)), '1 x 5000 px, wanted sides of at least 2 px'),
    **{
        f'truncated {kind}': (encoded(kind)[: len(encoded(kind)) // 2], '')
        for kind in ('jpeg', 'png', 'gif', 'webp', 'bmp', 'tiff')
    },
    **{
        f'{kind} without its last bytes': (encoded(kind)[:-100], '')
        for kind in ('jpeg', 'png', 'gif', 'webp', 'bmp', 'tiff')
    },
}


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
    """Two classes, of three good images in `train` and in `test`."""
    for split in ('train', 'test'):
        for name in ('cat', 'dog'):
            (tmp_path / 'data' / split / name).mkdir(parents=True)
            for index in range(3):
                (tmp_path / 'data' / split / name / f'{index}.jpg').write_bytes(encoded())
    return tmp_path / 'data'


def refusal(root):
    with pytest.raises(FolderError) as caught:
        Folder(path=str(root)).splits()
    return str(caught.value)


def skipping(root):
    splits = Folder(path=str(root), bad_files=BadFiles.SKIP).splits()
    return splits, splits['train'].findings.bad


@pytest.mark.parametrize('name', CONTENT)
def test_a_bad_file_is_reported_before_training_with_its_path_and_reason(name, root):
    content, reason = CONTENT[name]
    (root / 'train/cat/bad.jpg').write_bytes(content)
    assert f'{root}/train/cat/bad.jpg: {reason}' in refusal(root)


@pytest.mark.parametrize('name', CONTENT)
def test_a_bad_file_is_skipped_if_configured(name, root):
    (root / 'train/cat/bad.jpg').write_bytes(CONTENT[name][0])
    splits, bad = skipping(root)
    assert {split: len(splits[split]) for split in splits} == {'train': 6, 'test': 6}
    assert list(bad) == [f'{root}/train/cat/bad.jpg']
    assert all(splits['train'].load(i).shape == (30, 40, 3) for i in range(6))


@pytest.mark.parametrize('kind', ['jpeg', 'png', 'gif', 'webp', 'bmp', 'tiff'])
def test_nothing_is_wrong_with_a_good_file(kind, root):
    path = root / 'train/cat/good.jpg'  # whatever it is called
    path.write_bytes(encoded(kind))
    assert files.check_file(path) is None


def test_a_good_file_with_bytes_after_its_end_is_good(root):
    path = root / 'train/cat/0.jpg'
    path.write_bytes(encoded() + b'trailer of a telephone' * 10)
    assert files.check_file(path) is None


def test_a_decompression_bomb_is_detected(root, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 40 * 30)
    (root / 'test/dog/bomb.png').write_bytes(encoded('png', (50, 40)))
    assert 'test/dog/bomb.png: ' in refusal(root)


def test_a_file_without_permission_is_detected(root, monkeypatch):
    """Simulated, as these tests may run as root, who may read everything."""
    locked, opened = root / 'train/cat/0.jpg', pathlib.Path.open

    def guarded(self, *args, **kwargs):
        if self == locked:
            raise PermissionError(13, 'Permission denied', str(self))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, 'open', guarded)
    assert f'{locked}: [Errno 13] Permission denied\n' in refusal(root) + '\n'


def test_a_broken_link_is_detected(root):
    (root / 'train/cat/gone.jpg').symlink_to('nowhere.jpg')
    assert 'train/cat/gone.jpg: a link to nowhere.jpg, which does not exist' in refusal(root)


def test_a_name_that_is_not_utf8_is_detected(root):
    (root / 'train/cat/b\udcffd.jpg').write_bytes(encoded())
    message = refusal(root)
    assert 'b\\udcffd.jpg: its name is not UTF-8' in message
    message.encode()  # it can be printed


def test_a_file_that_vanishes_after_the_look_is_named_when_it_is_read(root):
    split = Folder(path=str(root)).splits()['train']
    (root / 'train/cat/0.jpg').unlink()
    with pytest.raises(decode.ImageError, match=r'train/cat/0\.jpg: .*No such file'):
        split.load(0)


def test_all_bad_files_are_in_one_message(root):
    bad = ['train/cat/0.jpg', 'train/dog/1.jpg', 'test/dog/2.jpg']
    for name in bad:
        (root / name).write_bytes(b'')
    message = refusal(root)
    assert message.startswith('3 file(s) cannot be used')
    assert all(f'{root}/{name}' in message for name in bad)


def test_of_very_many_bad_files_the_rest_is_counted(root):
    for index in range(files.SHOWN + 7):
        (root / f'train/cat/bad{index}.jpg').write_bytes(b'')
    assert 'and 7 more' in refusal(root)


def test_ids_do_not_change_when_a_bad_file_is_skipped(root):
    before = Folder(path=str(root)).splits()
    (root / 'train/cat/1.jpg').write_bytes(b'')
    after, _ = skipping(root)
    assert after['train'].ids.tolist() == [i for i in before['train'].ids if i != 1]
    assert after['test'].ids.tolist() == before['test'].ids.tolist()


def test_a_class_without_a_good_image_is_named(root):
    for index in range(3):
        (root / f'train/cat/{index}.jpg').write_bytes(b'')
    with pytest.raises(FolderError, match=r"train has no good image of the classes \['cat'"):
        skipping(root)


def test_the_message_has_the_smallest_permitted_size(root):
    (root / 'train/cat/0.jpg').write_bytes(encoded('png', (9, 200)))
    found = files.check_file(root / 'train/cat/0.jpg', least_px=10)
    assert found == (
        f'9 x 200 px, wanted sides of at least 10 px and at most {Image.MAX_IMAGE_PIXELS} pixels'
    )
