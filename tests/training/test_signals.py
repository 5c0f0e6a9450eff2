"""Signals stop a run wherever it is; the same call ends like an undisturbed run."""

import contextlib
import ctypes
import signal
import threading

import pytest
from jax.experimental import multihost_utils

from tests import small_runs
from tests.small_runs import assert_same_run, before_step, experiment, last_checkpoint
from tljax.training import run, signals
from tljax.training.run import train
from tljax.training.signals import Interrupted


def at_call(number, function):
    """The function, which receives SIGTERM at its call with a number, from 0."""
    calls = iter(range(100))

    def called(*args, **kwargs):
        if next(calls) == number:
            signal.raise_signal(signal.SIGTERM)
        return function(*args, **kwargs)

    return called


@pytest.mark.slow
@pytest.mark.parametrize(('evaluation', 'step'), [(0, 4), (1, 7), (2, 11)])
def test_a_signal_in_an_evaluation_saves_the_step_which_is_evaluated_when_resumed(
    evaluation, step, reference, tmp_path, monkeypatch
):
    make_evaluate = run.make_evaluate
    monkeypatch.setattr(run, 'make_evaluate', lambda job: at_call(evaluation, make_evaluate(job)))
    with pytest.raises(Interrupted) as stopped:
        train(experiment(), tmp_path)
    assert stopped.value.step == last_checkpoint(experiment(), tmp_path)[1] == step
    monkeypatch.undo()
    train(experiment(), tmp_path)
    assert_same_run(experiment(), tmp_path, reference)
    assert small_runs.records(tmp_path) == small_runs.records(reference[0])


@pytest.mark.parametrize(
    'place',
    [
        pytest.param((run.jobs, 'setup'), marks=pytest.mark.slow),
        (run.final_evaluation, 'evaluate'),
        pytest.param((run.predictions, 'write'), marks=pytest.mark.slow),
    ],
)
def test_a_signal_outside_of_training_stops_that_stage_which_is_repeated(
    place, reference, tmp_path, monkeypatch
):
    monkeypatch.setattr(*place, at_call(0, getattr(*place)))
    with pytest.raises(Interrupted) as stopped:
        train(experiment(), tmp_path)
    assert stopped.value.step is None
    monkeypatch.undo()
    train(experiment(), tmp_path)
    assert_same_run(experiment(), tmp_path, reference)


@pytest.mark.parametrize(
    'number',  # SIGTERM and SIGINT are those of `test_train`
    [n if n == signal.SIGUSR1 else pytest.param(n, marks=pytest.mark.slow) for n in signals.HEARD],
)
def test_every_signal_that_is_heard_saves_the_present_step(number, shared_programs, tmp_path):
    with before_step(4, lambda: signal.raise_signal(number)), pytest.raises(Interrupted) as stopped:
        train(experiment(), tmp_path)
    assert stopped.value.signal_number == number
    assert stopped.value.step == last_checkpoint(experiment(), tmp_path)[1] == 5


@signals.heard()
def receive(*numbers, deferred=False):
    """Receives signals, in code that handles all errors."""
    with signals.deferred() if deferred else contextlib.nullcontext():
        try:
            for number in numbers:
                signal.raise_signal(number)
        except Exception:
            pytest.fail('it was taken for an error')


def test_handlers_of_errors_do_not_swallow_a_signal():
    with pytest.raises(Interrupted, match='stopped by SIGTERM'):
        receive(signal.SIGTERM)


@signals.heard()
def test_a_signal_is_only_noted_where_it_is_deferred():
    with signals.deferred():
        signal.raise_signal(signal.SIGUSR1)
        assert signals.received() == signal.SIGUSR1
        with pytest.raises(Interrupted, match='stopped by SIGUSR1'), signals.interruptible():
            pytest.fail('the noted signal was forgotten')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_the_process_at_once(number, monkeypatch, capfd):
    codes = []
    monkeypatch.setattr(signals.os, '_exit', codes.append)
    receive(signal.SIGUSR1, number, deferred=True)
    assert codes == [75]
    assert capfd.readouterr().err == f'ended at once by a second signal, {number.name}\n'


def test_a_second_ctrl_c_is_a_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt):
        receive(signal.SIGINT, signal.SIGINT, deferred=True)


@pytest.mark.parametrize('number', signals.HEARD)
def test_one_of_several_processes_passes_a_signal_on_to_jax_and_a_second_one_ends_it(
    number, monkeypatch
):
    told, codes = [], []
    of_jax = ctypes.CFUNCTYPE(None, ctypes.c_int)(told.append)
    address = ctypes.cast(of_jax, ctypes.c_void_p).value
    former = signals.set_c_handler(signal.SIGTERM, address)
    monkeypatch.setattr(signals, '_several_processes', lambda: True)
    monkeypatch.setattr(signals.os, '_exit', codes.append)
    with signals.heard():
        signal.raise_signal(number)
        with signals.deferred(), signals.interruptible():
            pass  # the other processes would wait for this one in the evaluation
        assert (told, codes) == ([signal.SIGTERM], [])
        signal.raise_signal(number)
    assert codes == [signals.RUN_AGAIN]
    assert signals.set_c_handler(signal.SIGTERM, former) == address


def test_jax_is_asked_with_a_number_that_counts_calls_from_1(
    monkeypatch,
):
    asked = []
    monkeypatch.setattr(signals, '_heard', signals._Heard())
    monkeypatch.setattr(signals, '_several_processes', lambda: True)
    monkeypatch.setattr(
        multihost_utils,
        'reached_preemption_sync_point',
        lambda n: asked.append(n) or n > 1,
    )
    assert [signals.received(), signals.received()] == [0, signal.SIGTERM]
    assert asked == [1, 2]


def test_only_the_outermost_context_in_the_main_thread_sets_handlers():
    before = [signal.getsignal(number) for number in signals.HEARD]
    with signals.heard():
        inside = [signal.getsignal(number) for number in signals.HEARD]
        with signals.heard():
            pass
        assert [signal.getsignal(number) for number in signals.HEARD] == inside != before
    assert [signal.getsignal(number) for number in signals.HEARD] == before

    def in_a_thread():
        with signals.heard():
            assert [signal.getsignal(number) for number in signals.HEARD] == before

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
