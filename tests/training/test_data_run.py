"""A run on a folder of images with bad files, and its records of the data."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.small_runs import experiment
from tljax.config.experiment import ConfigError
from tljax.data import pipeline
from tljax.data.folder import Folder
from tljax.data.subsets import Subset
from tljax.training import batches, jobs, run_folder
from tljax.training.run import train
from tljax.types import BadFiles, Balance, InputError

BAD = ('train/cat/bad.jpg', 'test/dog/empty.png')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """16 cats and 6 dogs to train on, and 3 of each to test; both splits have a bad file too."""
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
    """The result of a run, and the JSON files that it wrote, by name."""
    source = Folder(path=str(folder), bad_files=BadFiles.SKIP)
    usual = {'data': source, 'epochs': 1.0, 'validation_fraction': 0.0, 'evaluate': ()}
    workdir = folder.parent / name
    result = train(experiment(**{**usual, **changes}), workdir)
    return result, {path.name: json.loads(path.read_text()) for path in workdir.glob('*.json')}


def test_bad_files_end_a_run_before_it_begins(folder):
    with pytest.raises(InputError) as caught:
        run(folder, data=Folder(path=str(folder)))
    assert all(f'{folder}/{name}: ' in str(caught.value) for name in BAD)


def test_skipped_bad_files_are_listed_in_the_workdir(folder, capsys):
    result, files = run(folder)
    assert (result['train_count'], result['test']['count']) == (22, 6)
    passed_over = files['passed_over.json']
    assert set(passed_over['bad_files']) == {f'{folder}/{name}' for name in BAD}
    assert '1 hidden file(s) and folder(s) skipped' in passed_over['notes'][0]
    assert '2 bad file(s) left out' in capsys.readouterr().out


@pytest.mark.slow
def test_a_file_that_disappears_during_a_run_is_listed_in_the_workdir(folder, monkeypatch):
    removed = folder / 'train/dog/03.png'
    train_batches = pipeline.train_batches

    def batches_after_removal(*args, **kwargs):
        removed.unlink()
        return train_batches(*args, **kwargs)

    monkeypatch.setattr(pipeline, 'train_batches', batches_after_removal)
    _, files = run(folder, epochs=2.0)
    assert str(removed) in files['passed_over.json']['bad_files']


def begun(folder, **changes):
    """The job of a run on the folder, and the splits.json that it writes before training."""
    source = Folder(path=str(folder), bad_files=BadFiles.SKIP)
    job = jobs.setup(experiment(**{'data': source, 'validation_fraction': 0.0, **changes}))
    (folder.parent / 'run').mkdir(exist_ok=True)
    run_folder.begin(job, folder.parent / 'run')
    return job, json.loads((folder.parent / 'run/splits.json').read_text())


def test_the_files_of_each_split_are_saved_with_the_run(folder):
    _, splits = begun(folder, validation_fraction=0.3)
    assert splits['class_names'] == ['cat', 'dog']
    names = [name for split in ('train', 'val', 'test') for name in splits[split]['files']]
    assert sorted(names) == sorted(
        str(path) for path in folder.rglob('[0-9]*.png') if path.is_file()
    )
    assert len(splits['val']['files']) == len(splits['val']['ids']) == 7


def test_a_run_is_not_resumed_on_other_classes(folder):
    begun(folder)
    (folder / 'train/dog').rename(folder / 'train/eel')
    (folder / 'test/dog').rename(folder / 'test/eel')
    with pytest.raises(ConfigError, match='changed: class_names, train, test'):
        begun(folder)


def test_a_run_is_not_resumed_on_other_images_under_the_same_names(folder):
    _, splits = begun(folder)
    begun(folder)
    path = pathlib.Path(splits['test']['files'][0])
    before = path.read_bytes()
    Image.new('RGB', (16, 16), 'red').save(path)
    with pytest.raises(ConfigError, match=r'changed: test\)'):
        begun(folder)
    path.write_bytes(before)
    begun(folder)


def test_a_run_of_a_time_without_fingerprints_is_resumed(folder):
    _, splits = begun(folder)
    for name in ('train', 'test'):
        del splits[name]['sample_sha256']
    (folder.parent / 'run/splits.json').write_text(json.dumps(splits))
    begun(folder)


def test_a_run_trains_on_the_subset_of_its_experiment(folder):
    job, splits = begun(folder, subset=Subset(fraction=0.5, classes=('dog', 'cat')))
    assert splits['class_names'] == ['dog', 'cat']
    assert np.bincount(splits['train']['labels']).tolist() == [3, 8]
    assert splits['train']['labels'] == job.splits['train'].labels.tolist()


def load_all(job):
    """Loads every image of a job."""
    for split in job.splits.values():
        for index in range(len(split)):
            split.load(index)


def test_a_second_run_decodes_nothing(folder, monkeypatch):
    load_all(begun(folder)[0])

    def refuse(*args):
        raise AssertionError('an image is decoded')

    monkeypatch.setattr('tljax.data.decode.decode', refuse)
    monkeypatch.setattr('tljax.data.files.check_files', lambda paths, least_px, deep: {
        f'{folder}/{name}': 'known' for name in BAD
    })  # fmt: skip
    second = jobs.setup(begun(folder)[0].experiment)
    assert len(second.splits['train']) == 22
    load_all(second)


def test_weighing_gives_both_classes_the_same_sum_of_losses(folder):
    job, _ = begun(folder, balance=Balance.WEIGH)
    weights = np.array(jobs.training_loss(job).weights)
    np.testing.assert_allclose(16 * weights[0], 6 * weights[1], rtol=1e-6)


def test_sampling_balances_the_batches(folder):
    job, _ = begun(folder, balance=Balance.SAMPLE, epochs=40.0)
    feed = batches.Feed(job, job.phases[0])
    labels = np.concatenate([feed.take(step)['label'] for step in range(30)])
    assert labels.mean() == pytest.approx(0.5, abs=0.12)  # 6 dogs of 22 images without balance


@pytest.mark.slow
@pytest.mark.parametrize('balance', [Balance.SAMPLE, Balance.WEIGH])
def test_balancing_changes_the_trained_network(balance, folder):
    plain, _ = run(folder, 'plain', epochs=2.0)
    balanced, _ = run(folder, 'balanced', epochs=2.0, balance=balance)
    assert plain['test']['loss'] != balanced['test']['loss']
