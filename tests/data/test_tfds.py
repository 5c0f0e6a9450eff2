"""Prepared sets of TensorFlow Datasets."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests import prepared
from tljax.data import pipeline
from tljax.data.tfds import TFDS, TFDSError
from tljax.types import Preprocessing


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with the set `tiny` in it."""
    path = tmp_path_factory.mktemp('prepared')
    prepared.prepare(path)
    return path


def source(folder, **options):
    return TFDS(**{'name': 'tiny', 'data_dir': str(folder), **options})


def refusal(folder, **options):
    with pytest.raises(TFDSError) as caught:
        source(folder, **options).splits()
    return str(caught.value)


def test_an_image_belongs_to_its_split_and_its_class(folder):
    splits = source(folder).splits()
    assert splits['train'].class_names == prepared.CLASSES
    for name, numbers in (('train', range(10)), ('test', range(100, 106))):
        split = splits[name]
        reds = [int(split.load(i)[0, 0, 0]) for i in range(len(split))]
        assert sorted(reds) == list(numbers)
        assert split.labels.tolist() == [red % 2 for red in reds]


def test_images_are_handed_over_as_they_were_encoded(folder):
    image = source(folder).splits()['train'].encoded[0]
    assert image.read().startswith(b'\x89PNG')


def test_splits_may_be_parts(folder):
    splits = source(folder, train='train[:60%]', val='train[60%:]').splits()
    assert {name: len(split) for name, split in splits.items()} == {'train': 6, 'val': 4, 'test': 6}
    ids = np.concatenate([split.ids for split in splits.values()])
    assert len(set(ids.tolist())) == 16


def test_records_have_stamps_of_their_own(folder):
    splits = source(folder).splits()
    stamps = [image.stamp() for split in splits.values() for image in split.encoded]
    assert len(set(stamps)) == 16


@pytest.mark.parametrize('threads', [0, 4])
def test_threads_may_read_records(folder, threads):
    preprocessing = Preprocessing(size_px=4, resize_px=4)
    batches = pipeline.eval_batches(
        source(folder).splits()['train'], preprocessing, batch_size=4, threads=threads
    )
    reds = np.concatenate([batch['input'][batch['mask']][:, 0, 0, 0] for batch in batches])
    assert sorted(reds.tolist()) == list(range(10))


def test_tensorflow_is_not_imported(folder):
    code = (
        'import sys; from tljax.data.tfds import TFDS; '
        f'split = TFDS(name="tiny", data_dir={str(folder)!r}).splits()["train"]; '
        'print(split.load(9).shape, "tensorflow" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip() == '(10, 20, 3) False', done.stderr


def test_an_unprepared_data_set_is_refused_with_the_command_to_prepare_it(folder):
    error = refusal(folder, name='oxford_iiit_pet')
    assert f'wanted {folder}/oxford_iiit_pet/' in error
    assert "found ['tiny/1.0.0']" in error
    assert f'tfds build oxford_iiit_pet --data_dir={folder} --file_format=array_record' in error


def test_an_unprepared_version_is_refused(folder):
    assert 'tfds build tiny:2.0.0' in refusal(folder, name='tiny:2.0.0')


def test_a_missing_data_folder_is_refused(folder):
    assert 'found no such folder' in refusal(folder / 'elsewhere')


def test_another_format_is_refused_with_the_command_to_convert_it(tmp_path):
    prepared.prepare(tmp_path)
    path = tmp_path / 'tiny/1.0.0/dataset_info.json'
    content = json.loads(path.read_text())
    content['fileFormat'] = 'tfrecord'
    path.write_text(json.dumps(content))
    error = refusal(tmp_path)
    assert f'{tmp_path}/tiny/1.0.0 as tfrecord, wanted array_record' in error
    assert f'tfds convert_format --dataset_version_dir={tmp_path}/tiny/1.0.0' in error


def test_an_unknown_split_is_refused_with_the_existing_ones(folder):
    error = refusal(folder, test='validation')
    assert "no split 'validation', found {'train': 10, 'test': 6}" in error


@pytest.mark.parametrize('key', ['image_key', 'label_key'])
def test_an_unknown_feature_is_refused_with_the_existing_ones(folder, key):
    error = refusal(folder, **{key: 'file'})
    assert "{'file': 'Text', 'image': 'Image', 'label': 'ClassLabel'}" in error
