"""The cache of decoded images."""

import io
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tljax.data import array_store, decode, decoded_images, pipeline
from tljax.data.decoded_images import Store
from tljax.data.files import ImageFile
from tljax.data.folder import Folder
from tljax.types import Interpolation, Preprocessing

PREPROCESSING = Preprocessing(size_px=16, resize_px=16)
PLENTY = 10**9
SLOT_BYTES = 16 * 16 * 3


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'png')
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path):
    """Six files."""
    paths = [tmp_path / f'{i}.png' for i in range(6)]
    for i, path in enumerate(paths):
        path.write_bytes(picture(i))
    return [ImageFile(path) for path in paths]


@pytest.fixture
def open_store(tmp_path):
    """Opens the same store again and again, as runs one after the other do."""

    def open_one(preprocessing=PREPROCESSING, limit_bytes=PLENTY):
        return Store(preprocessing, limit_bytes, tmp_path / 'cache')

    return open_one


def assert_right(store, images, preprocessing=PREPROCESSING):
    for image in images:
        wanted = decode.load_resized(image, preprocessing)
        np.testing.assert_array_equal(store.load(image), wanted)


def pixel_files(store):
    return sorted(store.root.glob('*/*.values'))


def disk_bytes(store):
    return sum(path.stat().st_blocks * 512 for path in pixel_files(store))


def test_a_cached_image_equals_the_decoded_image(images, open_store):
    for store in (open_store(), open_store()):
        assert_right(store, images)
        assert_right(store, images)


def test_an_image_is_decoded_once_by_all_runs(images, open_store):
    first, second = open_store(), open_store()
    assert_right(first, images * 3)
    assert_right(second, images)
    assert (first.decoded, second.decoded) == (6, 0)


def test_a_file_that_has_changed_is_decoded_again(images, open_store):
    assert_right(open_store(), images)
    images[2].path.write_bytes(picture(100))
    store = open_store()
    assert_right(store, images)
    assert store.decoded == 1


def test_a_file_that_changes_during_a_run_is_decoded_again(images, open_store):
    store = open_store()
    assert_right(store, images)
    before = images[2].path.stat()  # size and date will be the same
    other = bytearray(images[2].path.read_bytes())
    other[-1] ^= 1  # after the pixels: the image is still one
    images[2].path.write_bytes(other)
    os.utime(images[2].path, ns=(before.st_atime_ns, before.st_mtime_ns))
    store.load(images[2])
    assert store.decoded == 7


def test_the_same_bytes_in_another_place_are_not_decoded_again(images, open_store, tmp_path):
    assert_right(open_store(), images)
    (tmp_path / 'copies').mkdir()
    copies = [ImageFile(tmp_path / 'copies' / image.path.name) for image in images]
    for image, copy in zip(images, copies, strict=True):
        copy.path.write_bytes(image.path.read_bytes())
    store = open_store()
    assert_right(store, copies)
    assert store.decoded == 0


@pytest.mark.parametrize(
    'other',
    [
        Preprocessing(size_px=16, resize_px=18),
        Preprocessing(size_px=16, resize_px=16, interpolation=Interpolation.BICUBIC),
        Preprocessing(size_px=16, resize_px=16, scaled_decoding=True),
    ],
)
def test_images_of_other_settings_are_cached_separately(other, images, open_store):
    assert_right(open_store(), images)
    store = open_store(other)
    assert_right(store, images, other)
    assert store.decoded == 6


def test_cached_images_of_another_decoder_version_are_not_used(images, open_store, monkeypatch):
    assert_right(open_store(), images)
    monkeypatch.setattr(decode, 'VERSION', decode.VERSION + 1)
    store = open_store()
    assert_right(store, images)
    assert store.decoded == 6


def test_cached_images_do_not_depend_on_normalisation(images, open_store):
    assert_right(open_store(), images)
    store = open_store(Preprocessing(size_px=8, resize_px=16, mean=(0.5,) * 3))
    assert_right(store, images)
    assert store.decoded == 0


def test_a_vanished_file_is_named(images, open_store):
    store = open_store()
    assert_right(store, images)
    images[0].path.unlink()
    with pytest.raises(decode.ImageError, match=r'0\.png.*No such file'):
        store.load(images[0])


def damage_pixels(path):
    with path.open('r+b') as file:
        file.seek(2 * SLOT_BYTES + 100)
        byte = file.read(1)
        file.seek(2 * SLOT_BYTES + 100)
        file.write(bytes([byte[0] ^ 1]))


def damage_records(path):
    records = path.with_suffix('.records')
    content = bytearray(records.read_bytes())
    content[10::7] = bytes(len(content[10::7]))
    records.write_bytes(content)


DAMAGE = {
    'a bit of a pixel': damage_pixels,
    'records': damage_records,
    'pixels cut off': lambda path: os.truncate(path, 2 * SLOT_BYTES + 5),
    'no pixels': lambda path: os.truncate(path, 0),
    'records cut off': lambda path: os.truncate(path.with_suffix('.records'), 50),
    'no records': lambda path: path.with_suffix('.records').unlink(),
    'records of other bytes': lambda path: path.with_suffix('.records').write_bytes(b'x' * 1000),
}


@pytest.mark.parametrize('name', DAMAGE)
def test_damaged_cached_images_are_decoded_again(name, images, open_store):
    store = open_store()
    assert_right(store, images)
    DAMAGE[name](pixel_files(store)[0])
    second, third = open_store(), open_store()
    assert_right(second, images)
    assert 0 < second.decoded <= 6
    assert_right(third, images)
    assert third.decoded == 0


def test_the_store_stays_within_its_bound(tmp_path, open_store):
    limit = 32 * SLOT_BYTES
    many = [ImageFile(tmp_path / f'many{i}.png') for i in range(60)]
    for i, image in enumerate(many):
        image.path.write_bytes(picture(i))
    for half in (many[:30], many[30:]):
        store = open_store(limit_bytes=limit)
        assert_right(store, half * 2)
        assert 0 < disk_bytes(store) <= limit + 8 * 4096  # a file takes whole blocks of the disk


def test_the_least_recently_used_files_are_deleted_first(images, open_store):
    limit = 16 * SLOT_BYTES  # four files of four images, if blocks were not 4 kB
    first = open_store(limit_bytes=limit)
    assert_right(first, images[:1])
    old = pixel_files(first)[0]
    os.utime(old, (1, 1))
    second = open_store(limit_bytes=limit)
    second.load(images[1])
    for path in pixel_files(second):
        assert path == old or path.stat().st_mtime > 1
    third = open_store(limit_bytes=1)
    third.load(images[2])
    assert not old.exists()


def test_a_run_that_needs_more_than_the_bound_goes_on_decoding(tmp_path, open_store):
    store = open_store(limit_bytes=1)
    images = [ImageFile(tmp_path / f'more{i}.png') for i in range(3)]
    for i, image in enumerate(images):
        image.path.write_bytes(picture(i))
    assert_right(store, images * 2)
    assert pixel_files(store) == []


def test_a_folder_that_cannot_be_written_is_reported_once(images, tmp_path):
    (tmp_path / 'file').write_text('in the way')
    store = Store(PREPROCESSING, PLENTY, tmp_path / 'file')
    with pytest.warns(UserWarning, match='images are decoded anew') as caught:
        assert_right(store, images)
    assert len(caught) == 1


def test_a_full_disk_is_reported_once(images, open_store, monkeypatch):
    def full(path, place, data):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(array_store, '_write', full)
    store = open_store()
    with pytest.warns(UserWarning, match='No space left on device') as caught:
        assert_right(store, images)
    assert len(caught) == 1


WRITER = """
import pathlib, sys, time
import numpy as np
from tljax.data import decode
from tljax.data.decoded_images import Store
from tljax.data.files import ImageFile
from tljax.types import Preprocessing

root, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])
preprocessing = Preprocessing(size_px=16, resize_px=16)
images = [ImageFile(path) for path in sorted(root.glob('*.png'))]
(root / f'ready{number}').touch()
while not (root / f'ready{1 - number}').exists():
    time.sleep(0.01)
store = Store(preprocessing, 10**9, root / 'cache')
for _ in range(3):
    for image in images[::1 if number else -1]:
        np.testing.assert_array_equal(store.load(image), decode.load_resized(image, preprocessing))
"""


@pytest.mark.slow
def test_two_processes_may_write_at_once(images, open_store, tmp_path):
    command = [sys.executable, '-c', WRITER, str(tmp_path)]
    both = [subprocess.Popen([*command, str(number)]) for number in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    store = open_store()
    assert_right(store, images)
    assert store.decoded == 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of 12 pictures in two classes, and a cache of its own."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    for split in ('train', 'test'):
        for label in ('cat', 'dog'):
            (tmp_path / 'data' / split / label).mkdir(parents=True)
            for i in range(3):
                path = tmp_path / 'data' / split / label / f'{i}.png'
                path.write_bytes(picture(len(split) * 100 + len(label) + 10 * i))
    return tmp_path / 'data'


def stream(folder, gigabytes, threads=0, process=(0, 1)):
    """Two epochs of training and the test split."""
    splits = decoded_images.wrap(Folder(path=str(folder)).splits(), PREPROCESSING, gigabytes)
    options = {'batch_size': 4, 'threads': threads, 'process': process}
    train = pipeline.train_batches(splits['train'], PREPROCESSING, steps=3, seed=1, **options)
    return [*train, *pipeline.eval_batches(splits['test'], PREPROCESSING, **options)]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for name in other:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize('threads', [0, 1, 4])
@pytest.mark.parametrize('gigabytes', [0, 1])
def test_the_stream_is_the_same_with_and_without_the_cache(threads, gigabytes, folder):
    wanted = stream(folder, 0)
    for _ in range(2):  # empty, then filled
        assert_equal(stream(folder, gigabytes, threads), wanted)


PART = """
import pathlib, sys
import numpy as np
sys.path.insert(0, sys.argv[3])
from tests.data.test_decoded_images import stream

batches = stream(pathlib.Path(sys.argv[1]), 1, threads=2, process=(int(sys.argv[2]), 2))
names = ('input', 'label', 'id', 'mask')
np.savez(sys.argv[4], **{name: np.stack([b[name] for b in batches]) for name in names})
"""


@pytest.mark.slow
def test_two_processes_read_the_halves_of_the_batches_of_one(folder, tmp_path):
    here = str(pathlib.Path(__file__).parents[2])
    outputs = [tmp_path / f'{number}.npz' for number in range(2)]
    both = [
        subprocess.Popen([sys.executable, '-c', PART, str(folder), str(number), here, str(output)])
        for number, output in enumerate(outputs)
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    parts = [dict(np.load(output)) for output in outputs]
    for step, batch in enumerate(stream(folder, 0)):
        for name, wanted in batch.items():
            joined = np.concatenate([part[name][step] for part in parts])
            np.testing.assert_array_equal(joined, wanted)
