"""A run in an S3 bucket, of an emulator on this machine, through s3fs; also killed processes."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.small_runs import assert_same_run, experiment
from tests.training.test_distributed import assert_same, cached_then_all, run_in_two_processes
from tljax.records import run_download, workdirs
from tljax.storage.bucket import Bucket
from tljax.training import signals
from tljax.training.baselines import train_all
from tljax.training.run import train

pytest.importorskip('s3fs')
moto = pytest.importorskip('moto.server')

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 2
pytestmark = pytest.mark.usefixtures('shared_programs')


@pytest.fixture
def address(monkeypatch, tmp_path):
    """A folder in an empty bucket of an emulator, which `s3://` leads to."""
    server = moto.ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv('AWS_ENDPOINT_URL', f'http://{host}:{port}')
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', 'test')
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', 'test')
    monkeypatch.setenv('AWS_DEFAULT_REGION', 'us-east-1')
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    with contextlib.suppress(FileExistsError):  # the emulator's content is that of this process
        Bucket('s3://runs')._system.mkdir('runs')
    yield f's3://runs/{tmp_path.name}'
    server.stop()


def downloaded(address, folder):
    """The run in the bucket, as a folder."""
    run_download.download(Bucket(address), run_download.contents(Bucket(address)), folder)
    return folder


@pytest.mark.slow
def test_a_run_in_an_s3_bucket_is_the_run_in_a_folder(address, reference, tmp_path, monkeypatch):
    monkeypatch.setattr(workdirs, 'POLL_SECONDS', 0.05)
    first, second = Bucket(address), Bucket(address)
    assert first.create('lock.json', b'{}')
    assert not second.create('lock.json', b'{"other": 1}')
    first.delete('lock.json')
    train_all(experiment(), address)
    assert_same_run(experiment(), downloaded(address, tmp_path / 'run'), reference)
    assert first.read('lock.json') is None


def newest(address):
    """The step of the newest complete checkpoint in the bucket; -1 without one."""
    places = run_download.contents(Bucket(address)).checkpoints
    return max((place.step for place in places), default=-1)


def killed(command, environment, address, seconds):
    """Whether a process was killed so many seconds after its first upload of a checkpoint.

    Otherwise it had ended. Also returns its output.
    """
    before = newest(address)
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    until = time.monotonic() + 600
    while process.poll() is None and newest(address) == before and time.monotonic() < until:
        time.sleep(0.05)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    process.kill()
    output = process.communicate()[0].decode()
    assert process.returncode in (0, -9), output
    return process.returncode != 0, output


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_bit_identical(address, reference, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text('from tests.small_runs import experiment as get_config\n')
    command = [sys.executable, '-m', 'tljax.main', f'--config={config}', f'--workdir={address}']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'BLOBS_SECONDS': '0.1'}
    seconds, resumed = random.Random(0), 0
    for _ in range(KILLS):
        was_killed, output = killed(command, environment, address, seconds.uniform(0, 1))
        resumed += 'Resuming at step' in output
        if not was_killed:
            break
    _, output = killed(command, environment, address, 600)
    assert f'Records are in {address}.' in output
    assert resumed or 'Resuming at step' in output
    assert_same_run(experiment(), downloaded(address, tmp_path / 'run'), reference)


@pytest.mark.slow  # starts two processes twice
def test_two_processes_that_are_stopped_resume_from_the_bucket(address, tmp_path):
    reference = train(cached_then_all(), tmp_path / 'reference')
    again = (signals.RUN_AGAIN, signals.RUN_AGAIN)
    fault = {'FAULT': '1@5', 'FAULT_SIGNAL': str(int(signal.SIGTERM))}
    names = ('cached_then_all',)
    run_in_two_processes(names, tmp_path, 1, again, address, **fault)
    place = f'{address}/{names[0]}'
    stopped = newest(place)
    assert 5 <= stopped < 11
    first, second = run_in_two_processes(names, tmp_path, 1, workdirs=address)
    assert f'Resuming at step {stopped}' in first[0]
    assert 'Resuming' not in second[0]
    assert_same(downloaded(place, tmp_path / 'run'), tmp_path / 'reference', reference)
