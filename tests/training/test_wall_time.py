"""Every second of a run belongs to a stage, also over restarts of killed processes."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.small_runs import before_step, crash, experiment
from tljax.records import writers
from tljax.training import wall_time
from tljax.training.run import train
from tljax.training.wall_time import SHORTEST_INTERVAL, STAGES, WallTime
from tljax.types import InputError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)` lets time pass."""
    now = [100.0]
    monkeypatch.setattr(wall_time.time, 'perf_counter', lambda: now[0])
    monkeypatch.setattr(wall_time.time, 'time', lambda: 1e9 + now[0])
    monkeypatch.setattr(wall_time, 'SHORTEST_INTERVAL', 3600)

    def passes(seconds):
        now[0] += seconds

    return passes


def test_a_stage_has_the_time_that_stages_inside_it_do_not_have(clock):
    times = WallTime(started=97.0)
    clock(2)
    with times.stage('step'):
        clock(1)
        with times.stage('data'):
            clock(4)
        clock(8)
    clock(16)
    assert times.split() == {'start': 3 + 2 + 16, 'data': 4, 'step': 9}


def test_a_compilation_is_taken_out_of_its_stage(clock, tmp_path):
    times = WallTime()
    with times.recorded(tmp_path), times.stage('evaluation'):
        clock(5)
        wall_time.jax.monitoring.record_event_duration_secs(wall_time.COMPILED, 3.0)
    assert times.split() == {'compile': 3, 'evaluation': 2}


def test_work_after_the_checkpoint_and_the_start_of_a_restarted_process_are_lost(clock, tmp_path):
    first = WallTime()
    with first.recorded(tmp_path), first.stage('step'):
        clock(10)
        saved = first.split()
        clock(4)
    clock(50)  # no process runs
    second = WallTime()
    with second.recorded(tmp_path):
        clock(3)
        second.resume(saved)
        with second.stage('compile'):
            clock(2)
        second.begin_work()
        with second.stage('step'):
            clock(7)
        record = second.record()
    assert record['seconds'] == {'step': 17, 'lost': 4 + 3 + 2}
    assert (record['restarts'], record['stopped_seconds']) == (1, pytest.approx(50))


def test_a_run_of_an_earlier_version_has_time_that_is_not_recorded(clock, tmp_path):
    times = WallTime()
    with times.recorded(tmp_path):
        clock(2)
        times.resume({'unrecorded': 60.0})
        assert times.split() == {'lost': 2, 'unrecorded': 60}


def test_an_experiment_that_is_refused_leaves_no_record(tmp_path):
    with contextlib.suppress(InputError), WallTime().recorded(tmp_path):
        raise InputError('no such data')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('content', ['', '{}', '[1]', '[{"started": "x"}]', 'null'])
def test_a_damaged_record_is_none(content, tmp_path):
    (tmp_path / 'file').write_text(content)
    assert wall_time.read_processes(tmp_path / 'file') == []


def test_a_process_knows_when_it_started():
    code = (
        'import time; begun = time.time(); from tljax.training import wall_time; '
        'print(begun - time.time() + time.perf_counter() - wall_time.process_start())'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, cwd=ROOT, check=True)
    assert 0 <= float(done.stdout) < 5  # the start of the interpreter


def assert_complete(workdir, wall, restarts):
    """The result accounts for at least 98 % of the seconds in which a process ran.

    What a killed process did after its last write is not known.
    """
    result = json.loads((workdir / 'result.json').read_text())
    record = result['wall_time']
    total = sum(record['seconds'].values())
    assert 0.98 * wall - restarts * SHORTEST_INTERVAL <= total <= 1.02 * wall
    assert result['wall_seconds'] == pytest.approx(total)
    assert record['restarts'] == restarts
    assert list(record['seconds']) == [name for name in STAGES if name in record['seconds']]
    assert min(record['seconds'].values()) >= 0
    assert {'compile', 'step', 'data', 'evaluation', 'save', 'lost'} <= record['seconds'].keys()
    last = writers.read_metrics(workdir / 'metrics.jsonl')[-2]
    assert last['split'] == 'train'
    assert 0.5 * total < sum(last['wall_time'].values()) <= total


@pytest.mark.usefixtures('shared_programs')
def test_the_stages_of_a_run_with_three_restarts_add_up(tmp_path, monkeypatch):
    """A crash here ends a process like a kill: it records no end, and the lock is dead."""
    wall = 0.0
    # A killed process writes nothing at its end.
    end = WallTime._end
    monkeypatch.setattr(WallTime, '_end', lambda self, path, ended, *_, **__: ended.set())
    for number in (1, 5, 8):
        begun = time.perf_counter()
        with before_step(number, crash), contextlib.suppress(Exception):
            train(experiment(), tmp_path)
        wall += time.perf_counter() - begun
        assert not (tmp_path / 'result.json').exists()
    monkeypatch.setattr(WallTime, '_end', end)
    begun = time.perf_counter()
    train(experiment(), tmp_path)
    assert_complete(tmp_path, wall + time.perf_counter() - begun, restarts=3)


@pytest.mark.slow  # two processes that import JAX
def test_the_stages_of_a_run_whose_process_is_killed_add_up(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text('from tests.small_runs import experiment as get_config\n')
    workdir = tmp_path / 'run'
    command = [sys.executable, '-m', 'tljax', 'train', f'--config={config}', f'--workdir={workdir}']
    folders = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(folders), 'BLOBS_SECONDS': '0.2'}
    wall = 0.0
    for kill_at in (4, None):
        begun = time.time()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and not _has_saved(workdir, kill_at):
            time.sleep(0.01)
        if kill_at is not None:
            time.sleep(1.0)  # work that is lost
            process.send_signal(signal.SIGKILL)
            wall += time.time() - begun
        process.wait(timeout=120)
        time.sleep(0.5)  # no process runs
    assert process.returncode == 0
    wall += (workdir / 'result.json').stat().st_mtime - begun
    assert_complete(workdir, wall, restarts=1)
    record = json.loads((workdir / 'result.json').read_text())['wall_time']
    assert record['stopped_seconds'] > 0.5 - 0.1


def _has_saved(workdir, step):
    """Whether a checkpoint of this step or a later one is committed."""
    names = [path.name for path in (workdir / 'checkpoints/steps').glob('*')]
    return step is not None and any(int(name) >= step for name in names if name.isdecimal())
