"""What a run makes of its data, from a folder with bad files in it to its records."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from tests.training.test_train import experiment
from tljax.config.experiment import ConfigError
from tljax.data import pipeline
from tljax.data.folder import Folder
from tljax.data.subsets import Subset
from tljax.training.run import train
from tljax.types import BadFiles, Balance, InputError

BAD = ('train/cat/bad.jpg', 'test/dog/empty.png')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Cats and dogs, 16 and 6 to train on, of which one file is bad; and in `test` another."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    rng = np.random.default_rng(0)
    for split, label, count in (
        ('train', 'cat', 16),
        ('train', 'dog', 6),
        ('test', 'cat', 3),
        ('test', 'dog', 3),
    ):
        (tmp_path / 'data' / split / label).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (9, 12, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / 'data' / split / label / f'{i:02d}.png')
    (tmp_path / 'data/train/cat/.hidden.png').write_bytes(b'')
    (tmp_path / BAD[0].replace('train', 'data/train')).write_bytes(b'<html>')
    (tmp_path / BAD[1].replace('test', 'data/test')).write_bytes(b'')
    return tmp_path / 'data'


def run(folder, name='run', **changes):
    source = Folder(path=str(folder), bad_files=BadFiles.SKIP)
    usual = {'data': source, 'epochs': 1.0, 'validation_fraction': 0.0, 'evaluate': ()}
    workdir = folder.parent / name
    result = train(experiment(**{**usual, **changes}), workdir)
    return result, {path.name: json.loads(path.read_text()) for path in workdir.glob('*.json')}


def test_bad_files_end_a_run_before_it_begins(folder):
    with pytest.raises(InputError) as caught:
        run(folder, data=Folder(path=str(folder)))
    assert all(f'{folder}/{name}: ' in str(caught.value) for name in BAD)


def test_bad_files_that_are_left_out_are_listed_in_the_workdir(folder, capsys):
    result, written = run(folder)
    assert (result['train_count'], result['test']['count']) == (22, 6)
    passed_over = written['passed_over.json']
    assert set(passed_over['bad_files']) == {f'{folder}/{name}' for name in BAD}
    assert '1 hidden file(s) and folder(s) skipped' in passed_over['notes'][0]
    assert '2 bad file(s) left out' in capsys.readouterr().out


def test_a_file_that_vanishes_during_a_run_is_listed_in_the_workdir(folder, monkeypatch):
    gone = folder / 'train/dog/03.png'
    batches = pipeline.train_batches

    def late(*args, **kwargs):
        gone.unlink()
        return batches(*args, **kwargs)

    monkeypatch.setattr(pipeline, 'train_batches', late)
    _, written = run(folder, epochs=2.0)
    assert str(gone) in written['passed_over.json']['bad_files']


def test_the_files_of_each_split_are_saved_with_the_run(folder):
    _, written = run(folder, validation_fraction=0.3)
    splits = written['splits.json']
    assert splits['class_names'] == ['cat', 'dog']
    names = [name for split in ('train', 'val', 'test') for name in splits[split]['files']]
    assert sorted(names) == sorted(
        str(path) for path in folder.rglob('[0-9]*.png') if path.is_file()
    )
    assert len(splits['val']['files']) == len(splits['val']['ids']) == 7


def test_a_run_is_not_resumed_on_other_classes(folder):
    run(folder)
    (folder.parent / 'run/result.json').unlink()
    (folder / 'train/dog').rename(folder / 'train/eel')
    (folder / 'test/dog').rename(folder / 'test/eel')
    with pytest.raises(ConfigError, match='changed: class_names, train, test'):
        run(folder)


def test_a_subset_is_what_the_run_is_trained_on(folder):
    _, written = run(folder, subset=Subset(fraction=0.5, classes=('dog', 'cat')))
    splits = written['splits.json']
    assert splits['class_names'] == ['dog', 'cat']
    assert np.bincount(splits['train']['labels']).tolist() == [3, 8]


def test_a_second_run_decodes_nothing(folder, monkeypatch):
    run(folder)

    def refuse(*args):
        raise AssertionError('an image is decoded')

    monkeypatch.setattr('tljax.data.decode.decode', refuse)
    changed = dataclasses.replace(Folder(path=str(folder)), bad_files=BadFiles.SKIP)
    other = experiment(data=changed, epochs=1.0, validation_fraction=0.0, evaluate=(), seed=1)
    monkeypatch.setattr('tljax.data.files.check_files', lambda paths, least_px, deep: {
        f'{folder}/{name}': 'known' for name in BAD
    })  # fmt: skip
    assert train(other, folder.parent / 'second')['train_count'] == 22


@pytest.mark.parametrize('balance', [Balance.SAMPLE, Balance.WEIGH])
def test_balancing_changes_what_is_learned(balance, folder):
    plain, _ = run(folder, 'plain', epochs=2.0)
    balanced, _ = run(folder, 'balanced', epochs=2.0, balance=balance)
    assert plain['test']['loss'] != balanced['test']['loss']
