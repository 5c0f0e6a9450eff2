"""Training: its records, its ends, and resumption with the results of an uninterrupted run."""

import contextlib
import errno
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.small_runs import (
    Blobs,
    Crash,
    HeadThenAll,
    Tiny,
    assert_identical,
    assert_same_run,
    before_step,
    crash,
    crash_after,
    experiment,
    last_checkpoint,
    records,
    short,
)
from tljax import main
from tljax.config import config_json
from tljax.config.experiment import ConfigError
from tljax.records import checkpoint, writers
from tljax.strategies.optimizers import AdamW
from tljax.training import run
from tljax.training.run import train
from tljax.training.signals import Interrupted, Paused
from tljax.types import InputError

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures('shared_programs')


@pytest.mark.parametrize(
    'crashes', [(3, 8), pytest.param((1, 3, 4, 5, 8), marks=pytest.mark.slow)], ids=len
)
def test_a_run_with_crashes_ends_as_one_without(crashes, reference, tmp_path):
    for number in crashes:
        crash_after(number, experiment(), tmp_path)
    train(experiment(), tmp_path)
    assert_same_run(experiment(), tmp_path, reference)


def test_a_run_that_pauses_at_evaluations_ends_as_one_without(reference, tmp_path):
    for until, step in ((3, 4), (4, 4), (5, 7)):  # it is evaluated at 4, 7 and 11
        with pytest.raises(Paused) as paused:
            train(experiment(), tmp_path, until_step=until)
        assert paused.value.step == step
        assert not (tmp_path / 'result.json').exists()
    train(experiment(), tmp_path, until_step=11)
    assert_same_run(experiment(), tmp_path, reference)


def test_records_after_the_last_checkpoint_are_not_written_twice(reference, tmp_path):
    save = checkpoint.Checkpoints.save

    def save_or_crash(self, step, *rest):
        if step == 7:
            raise Crash  # the records of step 7 are written already
        save(self, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, 'save', save_or_crash)
        with pytest.raises(Crash):
            train(experiment(), tmp_path)
    assert records(tmp_path)[-1]['step'] == 7
    train(experiment(), tmp_path)
    assert records(tmp_path) == records(reference[0])


@pytest.fixture
def words(tmp_path):
    """The arguments of a command that trains `experiment()` in the folder `run`."""
    path = tmp_path / 'config.py'
    path.write_text('from tests.small_runs import experiment as get_config\n')
    return [f'--config={path}', f'--workdir={tmp_path / "run"}']


def exit_code_after_signal(words, number, ready):
    """The exit code and the error output of a process that gets a signal when `ready()`."""
    folders = [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
    process = subprocess.Popen(
        [sys.executable, '-m', 'tljax.main', *words],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(folders), 'BLOBS_SECONDS': '0.05'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.slow
def test_a_killed_process_resumes_with_the_result_of_an_uninterrupted_run(
    words, reference, tmp_path
):
    workdir = tmp_path / 'run'
    steps = workdir / 'checkpoints' / 'steps'
    code, _ = exit_code_after_signal(
        words, signal.SIGKILL, lambda: any(path.name.isdecimal() for path in steps.glob('*'))
    )
    assert code == -signal.SIGKILL
    assert not (workdir / 'result.json').exists()
    train(experiment(), workdir)
    assert_same_run(experiment(), workdir, reference)


def terminated_process(words):
    """The exit code and errors of a process that gets SIGTERM after its first record."""
    path = pathlib.Path(words[1].partition('=')[2]) / 'metrics.jsonl'
    return exit_code_after_signal(words, signal.SIGTERM, lambda: path.exists() and path.read_text())


def terminated_here(words):
    """The same of this process, which gets SIGTERM after step 4."""
    with (
        before_step(4, lambda: signal.raise_signal(signal.SIGTERM)),
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        return main.main(['main', *words]), errors.getvalue()


@pytest.mark.parametrize(
    'terminated', [terminated_here, pytest.param(terminated_process, marks=pytest.mark.slow)]
)
def test_a_terminated_command_saves_its_step_and_resumes_there(
    terminated, words, reference, tmp_path, capsys
):
    workdir = tmp_path / 'run'
    code, errors = terminated(words)
    assert code == 75
    stopped = re.search(r'stopped at step (\d+) by SIGTERM; the same command resumes', errors)
    assert stopped, errors
    assert last_checkpoint(experiment(), workdir)[1] == int(stopped[1]) < 11
    train(experiment(), workdir)
    assert f'Resuming at step {stopped[1]} of 11' in capsys.readouterr().out
    assert_same_run(experiment(), workdir, reference)


def test_the_first_ctrl_c_saves_the_step_and_stops(tmp_path):
    interrupt = before_step(4, lambda: signal.raise_signal(signal.SIGINT))
    with interrupt, pytest.raises(Interrupted) as caught:
        train(experiment(), tmp_path)
    assert caught.value.step == last_checkpoint(experiment(), tmp_path)[1] == 5


def test_a_run_with_a_damaged_checkpoint_resumes_at_the_one_before(reference, tmp_path):
    crash_after(8, experiment(), tmp_path)
    folders = sorted((tmp_path / 'checkpoints' / 'steps').iterdir(), key=lambda p: int(p.name))
    assert len(folders) == 2
    file = max((p for p in folders[-1].rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    train(experiment(), tmp_path)
    assert_same_run(experiment(), tmp_path, reference)


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing(reference, tmp_path):
    without_threads = experiment(data_threads=0, checkpoint_every_steps=None)
    train(without_threads, tmp_path)
    assert_same_run(without_threads, tmp_path, reference)


def test_a_finished_run_says_so_exits_0_and_changes_nothing(reference, words, tmp_path, capsys):
    workdir = tmp_path / 'run'
    shutil.copytree(reference[0], workdir)
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}
    assert main.main(['main', *words]) == 0
    assert 'this run is finished' in capsys.readouterr().out
    after = {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}
    assert after == before


@pytest.mark.parametrize(
    ('changed', 'field'),
    [
        (experiment(epochs=4.0), 'config.epochs: 4.0 was 3.0'),
        (experiment(optimizer=AdamW(learning_rate=0.02)), 'config.optimizer.learning_rate'),
        (experiment(strategy=HeadThenAll()), 'config.strategy'),
    ],
)
def test_the_folder_of_another_experiment_is_refused_naming_the_field(changed, field, reference):
    with pytest.raises(ConfigError, match=re.escape(field)):
        train(changed, reference[0])


def test_an_allowed_change_trains_a_finished_run_longer(reference, tmp_path, capsys):
    workdir = tmp_path / 'run'
    shutil.copytree(reference[0], workdir)
    longer = experiment(epochs=4.0)
    result = train(longer, workdir, allow_change=['epochs'])
    assert 'Resuming at step 11 of 14' in capsys.readouterr().out
    assert result['steps'] == 14
    (line,) = (workdir / 'changes.jsonl').read_text().splitlines()
    assert json.loads(line)['changes'] == ['config.epochs: 4.0 was 3.0']
    assert json.loads((workdir / 'former_result.json').read_text()) == reference[1]
    assert train(longer, workdir) == result  # it is now a run of the changed experiment


def test_only_the_named_fields_may_change(reference):
    changed = experiment(epochs=4.0, optimizer=AdamW(learning_rate=0.02))
    with pytest.raises(ConfigError, match='config.epochs') as error:
        train(changed, reference[0], allow_change=['optimizer'])
    assert 'learning_rate' not in str(error.value)
    with pytest.raises(ConfigError, match='did you mean epochs'):
        train(changed, reference[0], allow_change=['epoch'])


def test_a_config_json_cut_short_by_a_kill_does_not_break_the_next_run(tmp_path):
    (tmp_path / 'config.json').write_text(config_json.to_json(experiment())[:100])
    with contextlib.suppress(InputError):
        train(experiment(epochs=0.1), tmp_path)


@pytest.fixture(scope='module')
def corrected(shared_programs, tmp_path_factory):
    """The result of a short run in a folder in which an experiment without weights failed."""
    folder = tmp_path_factory.mktemp('corrected')
    with pytest.raises(InputError, match='nowhere'):
        train(experiment(backbone=Tiny(weights='nowhere.pth')), folder)
    return train(short(), folder)


def test_an_experiment_that_fails_at_setup_does_not_claim_the_folder(corrected):
    assert corrected['step']


def test_without_a_validation_split_the_last_step_is_the_result(corrected):
    assert corrected['val'] is None
    assert corrected['step'] == corrected['steps'] == 4
    assert corrected['test']['count'] == 21


def disk_full(*_, **__):
    """Raises the error of a full disk."""
    raise OSError(errno.ENOSPC, 'No space left on device')


def close_badly(self, close=writers.Records.close):
    """Closes the records, then fails."""
    close(self)
    disk_full()


@pytest.mark.parametrize(
    ('owner', 'name', 'broken'),
    [
        pytest.param(writers.Records, 'write', disk_full, marks=pytest.mark.slow, id='records'),
        pytest.param(writers.Records, 'close', close_badly, id='end of records'),
        pytest.param(writers, 'write_json', disk_full, marks=pytest.mark.slow, id='result'),
    ],
)
def test_a_full_disk_gives_an_error_of_one_line(owner, name, broken, tmp_path, monkeypatch, capsys):
    path = tmp_path / 'config.py'
    path.write_text('from tests.small_runs import short as get_config\n')
    monkeypatch.setattr(owner, name, broken)
    assert main.main(['main', f'--config={path}', f'--workdir={tmp_path / "run"}']) == 1
    assert re.search(r'^error: .*No space left on device', capsys.readouterr().err, re.MULTILINE)


def test_a_later_error_does_not_hide_the_error_that_ended_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(writers.Records, 'close', close_badly)
    with before_step(2, crash), pytest.raises(Crash):
        train(short(), tmp_path)


def test_the_result_is_that_of_the_best_validated_step(reference):
    workdir, result = reference
    validated = [record for record in records(workdir) if record['split'] == 'val']
    best = max(validated, key=lambda r: (r['accuracy'], -r['loss'], r['step']))
    assert best['step'] < result['steps']  # or the test would show nothing
    assert result['step'] == best['step']
    assert result['val']['accuracy'] == best['accuracy']
    assert result['val']['loss'] == pytest.approx(best['loss'], rel=1e-6)


def test_the_test_split_does_not_influence_the_selected_checkpoint(reference, tmp_path):
    other_test = experiment(data=Blobs(test_labels_shift=1), evaluate=('val', 'test'))
    result = train(other_test, tmp_path)
    assert (result['step'], result['val']) == (reference[1]['step'], reference[1]['val'])
    ends = [last_checkpoint(other_test, folder)[0] for folder in (tmp_path, reference[0])]
    assert_identical(*ends)


def test_config_json_reads_back_as_the_experiment(reference):
    assert config_json.from_json((reference[0] / 'config.json').read_text()) == experiment()


def test_result_json_has_the_metrics_and_versions_that_a_comparison_needs(reference):
    result = json.loads((reference[0] / 'result.json').read_text())
    for split, count in (('val', 9), ('test', 21)):
        metrics = result[split]
        assert metrics['count'] == count
        low, high = metrics['accuracy_interval']
        assert 0 <= low <= metrics['accuracy'] <= high <= 1
        assert metrics['accuracy'] <= metrics['top5_accuracy'] == 1
        assert metrics['loss'] > 0
    assert {'jax', 'flax', 'optax', 'numpy', 'tljax'} <= result['versions'].keys()
    assert {'seed', 'device', 'device_count', 'git_revision'} <= result.keys()
    assert result['wall_seconds'] > 0


def test_every_record_has_step_epoch_phase_and_split(reference):
    lines = records(reference[0])
    assert {(r['step'], r['split']) for r in lines} == {
        *((step, 'train') for step in (4, 5, 7, 10, 11)),
        *((step, 'val') for step in (4, 7, 11)),
    }
    for record in lines:
        assert record['phase'] == 0
        assert record['epoch'] == pytest.approx(record['step'] * 8 / 27)
        assert {'loss', 'accuracy', 'top5_accuracy', 'count'} <= record.keys()


def test_training_records_count_every_image_since_the_record_before(reference):
    counts = [r['count'] for r in records(reference[0]) if r['split'] == 'train']
    assert counts == [32, 8, 16, 24, 8]


def test_a_stop_whose_last_checkpoint_is_lost_does_not_promise_to_resume_there():
    class Lost:
        def close(self):
            raise checkpoint.CheckpointError('the last checkpoint was not written: disk full')

    with pytest.raises(checkpoint.CheckpointError, match='step 7 by SIGTERM.*disk full'):
        run._close_after(Interrupted(signal.SIGTERM, 7), Lost())  # type: ignore[arg-type]
