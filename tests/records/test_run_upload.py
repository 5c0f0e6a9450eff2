"""The uploads of a run: what a kill before any request leaves in the bucket is a run to resume."""

import contextlib
import json
import os

import numpy as np
import pytest

from tests.storage.fake import FakeFileSystem, objects, registered
from tljax.records import checksums, ranking, run_download, run_files, run_upload
from tljax.records.checkpoint import Checkpoints
from tljax.records.run_files import Checkpoint
from tljax.storage.bucket import Bucket

ADDRESS = 'gs://b/run'
CHANGES = ('write', 'delete')


@pytest.fixture(scope='module', autouse=True)
def fake_bucket():
    """A bucket in memory."""
    with registered() as system:
        yield system


class LocalRun:
    """Writes the files of a run as training does, and uploads them when asked to."""

    def __init__(self, root):
        self.root = root
        root.mkdir(exist_ok=True)
        bucket = Bucket(ADDRESS)
        listed = run_download.contents(bucket)
        run_download.download(bucket, listed, root)
        self.uploads = run_upload.Uploads(bucket, root, listed)
        self.leftovers = self.uploads.delete_leftovers()
        self.checkpoints = Checkpoints(root / 'checkpoints')

    def write(self, name, content):
        """Writes a record completely or not at all."""
        part = self.root / f'{name}.part'
        part.write_text(content)
        part.replace(self.root / name)

    def save(self, step, value, score, *, replace=False):
        """Writes the metrics of a step, then its checkpoint."""
        with (self.root / 'metrics.jsonl').open('a') as file:
            file.write(json.dumps({'step': step, 'split': 'val', 'score': score}) + '\n')
        save = self.checkpoints.replace if replace else self.checkpoints.save
        save(step, {'x': np.full(3, value)}, {'value': value}, {'score': score, 'loss': 1.0})
        self.checkpoints.record(step)  # waits until it is committed

    def train(self):
        """A run with every kind of change; yields after each."""
        self.write('config.json', 'first')
        yield
        for step, value, score in ((1, 1.0, 0.9), (2, 2.0, 0.1), (3, 3.0, 0.1)):
            self.save(step, value, score)
            yield  # at 3, step 2 is no longer kept
        self.save(3, 3.5, 0.2, replace=True)
        yield
        self.save(4, 4.0, 0.95)  # now step 1 is not kept
        self.checkpoints.close()
        self.write('result.json', json.dumps({'step': 4, 'of': 'first'}))
        self.write('predictions.npz', 'of step 4')
        yield
        (self.root / 'result.json').replace(self.root / 'former_result.json')
        self.write('config.json', 'second')
        yield


@contextlib.contextmanager
def states():
    """The contents of the bucket before each request that changes it, and the last one."""
    result = []

    def note(operation, _):
        if operation in CHANGES:
            result.append(dict(FakeFileSystem.store))

    FakeFileSystem.fault = note
    yield result
    FakeFileSystem.fault = None
    result.append(dict(FakeFileSystem.store))


def downloaded(state, folder):
    """Puts a content into the bucket and downloads it, as a run that resumes does."""
    FakeFileSystem.store.clear()
    FakeFileSystem.store.update(state)
    listed = run_download.contents(Bucket(ADDRESS))
    run_download.download(Bucket(ADDRESS), listed, folder)
    return folder


def value_of(folder, step):
    """The value in the verified checkpoint of a step, by its record."""
    checksums.verify(folder / 'checkpoints', step)
    record = folder / 'checkpoints' / 'steps' / str(step) / 'record' / 'metadata'
    return json.loads(record.read_text())['value']


@pytest.fixture(scope='module')
def contents(tmp_path_factory):
    """The contents of a bucket during a run, before each request that changes them."""
    run = LocalRun(tmp_path_factory.mktemp('local') / 'run')
    with states() as result:
        for _ in run.train():
            run.uploads.update(final=True)
    return result


@pytest.fixture(scope='module')
def every_state(contents, tmp_path_factory):
    """These contents, each downloaded into a folder of its own."""
    folders = tmp_path_factory.mktemp('states')
    return [downloaded(state, folders / str(i)) for i, state in enumerate(contents)]


def test_every_state_has_the_newest_checkpoint_that_was_complete_before(every_state):
    newest = 0
    for folder in every_state:
        steps = ranking.steps(folder / 'checkpoints')
        values = {step: value_of(folder, step) for step in steps}
        assert max(steps, default=0) >= newest
        newest = max(steps, default=0)
        assert set(values.values()) <= {1.0, 2.0, 3.0, 3.5, 4.0}
        assert newest in (0, 4) or 1 in steps  # the best one, too
    assert newest == 4


def test_a_replaced_checkpoint_is_the_old_or_the_new_one_in_every_state(every_state):
    values = [value_of(f, 3) for f in every_state if 3 in ranking.steps(f / 'checkpoints')]
    assert sorted(values) == values
    assert set(values) == {3.0, 3.5}


def test_every_state_has_the_records_of_the_steps_of_its_checkpoints(every_state):
    for folder in every_state:
        steps = ranking.steps(folder / 'checkpoints')
        path = folder / 'metrics.jsonl'
        lines = path.read_text().splitlines() if path.exists() else []
        assert {json.loads(line)['step'] for line in lines} >= set(
            range(1, max(steps, default=0) + 1)
        )


def test_a_result_is_never_without_its_checkpoint_nor_with_another_config(every_state):
    results = [folder for folder in every_state if (folder / 'result.json').exists()]
    assert results
    for folder in results:
        assert value_of(folder, json.loads((folder / 'result.json').read_text())['step']) == 4.0
        assert (folder / 'config.json').read_text() == 'first'
    assert (every_state[-1] / 'former_result.json').exists()
    assert (every_state[-1] / 'config.json').read_text() == 'second'


def test_a_run_that_resumes_from_any_state_leaves_no_rest(contents, tmp_path):
    for index, state in enumerate(contents[:: len(contents) // 20]):
        FakeFileSystem.store.clear()
        FakeFileSystem.store.update(state)
        resumed = LocalRun(tmp_path / str(index))
        resumed.uploads.update(final=True)
        local = {checkpoint.data for checkpoint in run_files.committed(resumed.root)}
        remote = {name.rpartition('/steps/')[2] for name in objects() if '/steps/' in name}
        assert {f'checkpoints/steps/{name.partition("/")[0]}' for name in remote} == local
        assert not [name for name in objects() if '/replacing/' in name]


def test_the_upload_of_a_damaged_checkpoint_is_refused(tmp_path):
    FakeFileSystem.store.clear()
    run = LocalRun(tmp_path / 'run')
    run.save(1, 1.0, 0.5)
    path = run.root / Checkpoint('checkpoints', 1).data / 'record' / 'metadata'
    path.write_text(path.read_text().replace('1.0', '2.0'))
    with pytest.raises(checksums.CheckpointError, match='step 1 is damaged'):
        run.uploads.update(final=True)
    assert not [name for name in objects() if name.startswith('checkpoints')]


def test_names_that_leave_the_folder_are_not_downloaded(tmp_path):
    FakeFileSystem.store.clear()
    bucket = Bucket(ADDRESS)
    bucket.write('config.json', b'x')
    for name in ('../outside.json', 'a/../../outside.json'):
        FakeFileSystem.store[f'/b/run/{name}'] = FakeFileSystem.store['/b/run/config.json']
    assert set(run_download.contents(bucket).records) == {'config.json'}


def test_an_old_content_that_arrives_after_its_time_limit_is_written_again(tmp_path):
    FakeFileSystem.store.clear()
    run = LocalRun(tmp_path / 'run')
    run.write('config.json', 'new')
    run.uploads.update()
    bucket = run.uploads._bucket
    bucket.write('config.json', b'old')
    bucket.late.add('config.json')
    run.uploads.update()
    assert bucket.read('config.json') == b'new'
    assert os.listdir(run.root.parent) == ['run']  # noqa: PTH208  nothing temporary is left
