"""`--profile=FIRST:LAST` captures these steps of a run, and bad ranges are answered in a line."""

import gzip
import json

import jax
import pytest

from tests.small_runs import short
from tljax.commands import train as command
from tljax.config.experiment import ConfigError
from tljax.records import console
from tljax.training.profiling import Profile
from tljax.training.run import train


@pytest.fixture
def said(monkeypatch):
    """The lines that are printed."""
    lines = []
    monkeypatch.setattr(console.console, 'print', lambda text, **_: lines.append(str(text)))
    return lines


def test_a_capture_has_the_steps_that_were_asked_for_and_says_how_to_open_it(tmp_path, said):
    train(short(), tmp_path, profile=(2, 3))
    (trace,) = tmp_path.glob('profile/plugins/profile/*/*.trace.json.gz')
    assert list(tmp_path.glob('profile/plugins/profile/*/*.xplane.pb'))
    events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
    steps = {e['args'].get('step_num') for e in events if e.get('name') == 'train' and 'args' in e}
    assert {str(step) for step in steps} == {'2', '3'}
    text = '\n'.join(said)
    assert f'Profile of steps 2 to 3: {tmp_path / "profile"}' in text
    assert f'xprof --logdir={tmp_path / "profile"}' in text
    assert f'open {trace} at https://ui.perfetto.dev' in text
    with pytest.raises(RuntimeError):
        jax.profiler.stop_trace()  # no capture is left open


@pytest.mark.parametrize('text', ['10', '20:10', '0:5', 'a:b', '1:', '-1:3', '1.5:2'])
def test_a_range_that_cannot_be_is_answered_in_a_line(text, capsys):
    assert command.main(['--config=quickstart', f'--profile={text}']) == 2
    errors = capsys.readouterr().err
    assert '1 <= FIRST <= LAST' in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ('done', 'message'),
    [
        (0, '--profile=10:20: the run has 15 steps; the capture ends with the last one.'),
        (12, '--profile=10:20: the run resumes after step 12; the capture begins there.'),
        (20, '--profile=10:20: the run resumes after step 20, so nothing is captured.'),
    ],
)
def test_steps_that_the_run_does_not_train_are_said(done, message, said, tmp_path):
    Profile((10, 20), tmp_path).check(done, max(15, done))
    assert message in said


def test_a_run_that_ends_before_the_range_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='--profile=10:20: the run has 4 steps'):
        train(short(), tmp_path, profile=(10, 20))
    assert not (tmp_path / 'result.json').exists()


def test_a_run_without_a_profile_says_nothing(said, tmp_path):
    profile = Profile(None, tmp_path)
    profile.check(3, 10)
    with profile.step(4, None):
        pass
    profile.end(4, None)
    profile.close(4)
    assert said == []


def test_a_profiler_that_fails_does_not_stop_the_run(said, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError('Profile has already been started.')

    monkeypatch.setattr(jax.profiler, 'start_trace', fail)
    profile = Profile((1, 2), tmp_path)
    with profile.step(1, None):
        pass
    profile.end(2, None)
    assert said == ['Warning: the profiler could not be started: Profile has already been started.']
