"""A run whose folder is in a bucket: kills, locks, and buckets that fail, stall or deny."""

import json
import os
import pathlib
import signal
import time

import pytest

from tests.small_runs import (
    assert_same_run,
    before_step,
    experiment,
)
from tests.storage.fake import FakeFileSystem, objects, registered
from tljax import main
from tljax.commands import names
from tljax.records import lease, run_download, workdirs
from tljax.records.folder_lock import BusyError
from tljax.storage import bucket as buckets
from tljax.storage.addresses import AddressError
from tljax.storage.bucket import Bucket, BucketError
from tljax.training import jobs
from tljax.training.baselines import train_all
from tljax.training.signals import Interrupted
from tljax.training.trained_run import TrainedRun

ADDRESS = 'gs://b/run'
pytestmark = pytest.mark.usefixtures('shared_programs')


@pytest.fixture(autouse=True)
def bucket(monkeypatch, tmp_path):
    """An empty bucket in memory, and short waits."""
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(workdirs, 'POLL_SECONDS', 0.01)
    monkeypatch.setattr(workdirs, 'LOCK_SECONDS', 0.3)
    with registered() as system:
        yield system


@pytest.fixture(scope='module')
def contents(shared_programs, tmp_path_factory):
    """The contents of the bucket before each change that a run makes to it."""
    with registered() as system, pytest.MonkeyPatch.context() as patch:
        patch.setenv('TLJAX_CACHE', str(tmp_path_factory.mktemp('cache')))
        patch.setattr(workdirs, 'POLL_SECONDS', 0.01)
        result = []

        def note(operation, _):
            if operation in ('write', 'delete'):
                result.append(dict(system.store))

        system.fault = note
        train_all(experiment(), ADDRESS)
        return [*result, dict(system.store)]


def downloaded(folder):
    """The run in the bucket, as a folder."""
    run_download.download(Bucket(ADDRESS), run_download.contents(Bucket(ADDRESS)), folder)
    return folder


def steps():
    """The steps of the complete checkpoints in the bucket."""
    return sorted(place.step for place in run_download.contents(Bucket(ADDRESS)).checkpoints)


def owned(**changes):
    """Changes the owner in the bucket's lock; without changes, to a process that has ended."""
    fields = json.loads(Bucket(ADDRESS).read('lock.json') or '{}')
    fields |= changes or {'pid': 2**30}
    Bucket(ADDRESS).write('lock.json', json.dumps(fields).encode())


def owned_elsewhere():
    """Writes the lock of a process of another host."""
    owned(host='elsewhere', namespace='', pid=7, started=5, token='theirs', since=0)


def failing(after, error, operations=('write',)):
    """A fault: such requests fail after the first `after` ones."""
    seen = []

    def fault(operation, path):
        if operation in operations and 'lock.json' not in path and '.clock' not in path:
            seen.append(path)
            if len(seen) > after:
                raise error

    return fault


def test_a_run_in_a_bucket_is_the_run_in_a_folder(contents, reference, tmp_path, capsys):
    FakeFileSystem.store.update(contents[-1])
    assert 'lock.json' not in objects()
    assert_same_run(experiment(), downloaded(tmp_path / 'run'), reference)
    train_all(experiment(), ADDRESS)
    output = capsys.readouterr().out
    assert f'{ADDRESS}: this run is finished' in output
    assert f'Records are in {ADDRESS}.' in output
    assert not list((tmp_path / 'cache' / 'runs').iterdir())
    with pytest.raises(ValueError, match=f'^{ADDRESS} holds a run of another experiment'):
        train_all(experiment(seed=5), ADDRESS)


@pytest.mark.parametrize(
    'part',
    [
        0.5,
        *(pytest.param(x, marks=pytest.mark.slow) for x in (0.1, 0.3, 0.4, 0.6, 0.8, 0.9, 0.97)),
    ],
)
def test_a_killed_run_resumes_from_what_it_has_uploaded(
    part, contents, reference, tmp_path, capsys
):
    FakeFileSystem.store.update(contents[int(part * len(contents))])
    owned()
    before = max(steps(), default=0)
    train_all(experiment(), ADDRESS)
    output = capsys.readouterr().out
    assert f'ended without releasing {ADDRESS}; this process takes it over' in output
    assert not before or f'Resuming at step {before} of 11' in output
    assert_same_run(experiment(), downloaded(tmp_path / 'run'), reference)


def test_a_bucket_that_fails_for_good_ends_the_run_with_its_last_checkpoint(
    reference, tmp_path, bucket, capsys
):
    gone = failing(0, OSError('the service is gone'))

    def after_a_checkpoint(operation, path):
        if operation == 'write' and steps():
            gone(operation, path)

    bucket.fault = after_a_checkpoint
    with pytest.raises(BucketError, match=f'{ADDRESS}: cannot write .*the service is gone'):
        train_all(experiment(), ADDRESS)
    bucket.fault = None
    train_all(experiment(), ADDRESS)
    assert 'Resuming at step ' in capsys.readouterr().out
    assert_same_run(experiment(), downloaded(tmp_path / 'run'), reference)


def test_a_bucket_that_stalls_ends_the_run_after_a_time_limit(bucket, monkeypatch):
    monkeypatch.setattr(buckets, 'STALL_SECONDS', 0.1)
    bucket.fault = lambda operation, path: (
        time.sleep(30) if operation == 'write' and '/steps/' in path else None
    )
    started = time.monotonic()
    with pytest.raises(BucketError, match='no answer within 0 s'):
        train_all(experiment(), ADDRESS)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ('operation', 'words'),
    [('write', 'cannot write'), ('delete', 'cannot delete'), ('list', 'cannot list')],
)
def test_a_denied_access_is_said_before_training(operation, words, bucket, monkeypatch):
    monkeypatch.setattr(jobs, 'setup', lambda _: pytest.fail('the run has begun'))

    def fault(one, _):
        if one == operation:
            raise PermissionError('Forbidden')

    bucket.fault = fault
    with pytest.raises(AddressError, match=f'{ADDRESS}: {words}.*Forbidden'):
        train_all(experiment(), ADDRESS)


def test_the_exit_code_is_1_for_a_failing_bucket_and_2_for_a_denied_one(bucket, tmp_path, capsys):
    path = tmp_path / 'config.py'
    path.write_text('from tests.small_runs import experiment as get_config\n')
    words = ['main', f'--config={path}', f'--workdir={ADDRESS}']
    for code, error in ((1, OSError('broken')), (2, PermissionError('Forbidden'))):
        bucket.fault = lambda *_, error=error: (_ for _ in ()).throw(error)
        assert main.main(words) == code
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith(f'error: {ADDRESS}: cannot write')


def test_a_second_run_is_refused_and_names_the_first():
    owned_elsewhere()
    with pytest.raises(BusyError, match=f'{ADDRESS}: process 7 on elsewhere is writing'):
        train_all(experiment(), ADDRESS)
    assert objects() == {'lock.json'}


def test_the_lock_of_a_silent_process_of_another_host_is_taken_over(monkeypatch, capsys):
    owned_elsewhere()
    monkeypatch.setattr(lease, 'STALE_SECONDS', -1.0)
    with workdirs.opened(ADDRESS):
        assert json.loads(Bucket(ADDRESS).read('lock.json') or '')['pid'] == os.getpid()
    assert 'process 7 on elsewhere ended without releasing' in capsys.readouterr().out


def test_a_run_that_has_lost_its_lock_uploads_nothing_more(bucket):
    with (
        before_step(6, lambda: owned(token='theirs')),
        pytest.raises(BucketError, match='another process has taken over the lock'),
    ):
        train_all(experiment(), ADDRESS)
    assert max(steps(), default=0) < 8
    assert 'result.json' not in objects()


def test_a_signal_stops_a_run_after_its_last_checkpoint_is_uploaded():
    with (
        before_step(6, lambda: signal.raise_signal(signal.SIGTERM)),
        pytest.raises(Interrupted) as stopped,
    ):
        train_all(experiment(), ADDRESS)
    assert max(steps()) == stopped.value.step == 7
    assert 'lock.json' not in objects()


@pytest.mark.slow
def test_a_damaged_checkpoint_in_a_bucket_is_named_and_the_one_before_is_used(
    contents, reference, tmp_path, capsys
):
    FakeFileSystem.store.update(contents[-1])
    bucket = Bucket(ADDRESS)
    bucket.delete('result.json')
    folder = f'checkpoints/steps/{max(steps())}/arrays/d/'
    name = next(name for name in objects() if name.startswith(folder))
    bucket.write(name, bucket.read(name)[:-1] + b'?')
    train_all(experiment(), ADDRESS)
    assert 'Warning: the checkpoint of step 11 is damaged' in capsys.readouterr().out
    assert_same_run(experiment(), downloaded(tmp_path / 'run'), reference)


def test_a_run_in_a_bucket_can_be_read(contents, tmp_path, capsys):
    FakeFileSystem.store.update(contents[-1])
    run = TrainedRun(ADDRESS)
    assert run.result['steps'] == 11
    assert run.network.class_names == ('a', 'b', 'c')
    assert len(run.metrics) > 3
    capsys.readouterr()
    assert names.module('export').main([ADDRESS, f'--out={tmp_path / "x.safetensors"}']) == 0
    assert f'Wrote {tmp_path / "x.safetensors"}' in capsys.readouterr().out
    assert FakeFileSystem.store.keys() == contents[-1].keys()


@pytest.mark.slow
def test_the_page_of_a_run_in_a_bucket_is_written_into_a_copy(contents, tmp_path, capsys):
    FakeFileSystem.store.update(contents[-1])
    assert names.module('report').main([ADDRESS]) == 0
    page = pathlib.Path(capsys.readouterr().out.splitlines()[-1])
    assert page.is_relative_to(tmp_path / 'cache' / 'copies')
    assert page.parts[-2:] == ('run', 'report.html')
    assert page.is_file()
