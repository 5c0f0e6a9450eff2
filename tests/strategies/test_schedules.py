"""Epochs as steps, and learning rates over them."""

import fractions
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tljax.strategies import schedules

SCHEDULES = [
    schedules.Constant(),
    schedules.Step(every_epochs=2, factor=0.1),
    schedules.Cosine(),
]
counts = st.integers(1, 5000)


def values(kind, steps_per_epoch, total_steps):
    """The multiplier at every step, and at the end."""
    multiplier = kind.multiplier(steps_per_epoch, total_steps)
    return np.array([multiplier(step) for step in range(total_steps + 1)])


def with_warmup(kind, epochs):
    return type(kind)(**{**{n: getattr(kind, n) for n in kind.__slots__}, 'warmup_epochs': epochs})


@settings(deadline=None)
@given(st.integers(1, 1000), counts, counts)
def test_whole_epochs_take_the_fewest_steps_that_show_them(epochs, examples, batch_size):
    steps = schedules.steps(epochs, examples, batch_size)
    assert (steps - 1) * batch_size < epochs * examples <= steps * batch_size


@settings(deadline=None)
@given(st.integers(1, 1000), counts, counts)
@example(tenths=11, examples=100, batch_size=1)
def test_tenths_of_epochs_take_the_fewest_steps_that_show_them(tenths, examples, batch_size):
    """1.1 epochs of 100 examples are 110, although 1.1 * 100 is a little more."""
    steps = schedules.steps(tenths / 10, examples, batch_size)
    exact = fractions.Fraction(tenths * examples, 10)
    assert steps == max(1, math.ceil(exact / batch_size))


def test_there_is_at_least_one_step():
    assert schedules.steps(0.001, 10, 32) == 1


@pytest.mark.parametrize('kind', SCHEDULES, ids=lambda kind: type(kind).__name__)
def test_the_first_step_without_warm_up_has_the_whole_learning_rate(kind):
    assert values(kind, 2.5, 10)[0] == 1


@pytest.mark.parametrize('kind', SCHEDULES, ids=lambda kind: type(kind).__name__)
def test_without_warm_up_it_never_rises(kind):
    assert (np.diff(values(kind, 2.5, 20)) <= 0).all()


def test_constant_stays():
    assert (values(schedules.Constant(), 2.5, 10) == 1).all()


@pytest.mark.parametrize('steps_per_epoch', [1.0, 2.5, 10.0])
def test_step_is_a_tenth_after_every_two_epochs(steps_per_epoch):
    total = int(8 * steps_per_epoch)
    epoch = np.arange(total + 1) / steps_per_epoch
    wanted = 0.1 ** np.floor(epoch / 2)
    np.testing.assert_allclose(values(schedules.Step(), steps_per_epoch, total), wanted, 1e-5)


def test_step_takes_its_factor_and_its_interval():
    found = values(schedules.Step(every_epochs=1, factor=0.5), 3.0, 9)
    np.testing.assert_allclose(found, [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125], 1e-6)


@pytest.mark.parametrize('warmup_epochs', [0, 2])
def test_cosine_ends_at_zero(warmup_epochs):
    found = values(schedules.Cosine(warmup_epochs=warmup_epochs), 2.5, 20)
    assert found[-1] == pytest.approx(0, abs=1e-6)
    assert (found[:-1] > 0).all()


def test_cosine_is_half_a_cosine():
    wanted = 0.5 * (1 + np.cos(np.pi * np.arange(21) / 20))
    np.testing.assert_allclose(values(schedules.Cosine(), 2.5, 20), wanted, atol=1e-6)


def test_cosine_after_a_warm_up_is_half_a_cosine_of_the_rest():
    found = values(schedules.Cosine(warmup_epochs=2), 2.5, 20)
    wanted = 0.5 * (1 + np.cos(np.pi * np.arange(16) / 15))
    np.testing.assert_allclose(found[5:], wanted, atol=1e-6)


def test_cosine_stays_at_zero_after_its_end():
    multiplier = schedules.Cosine().multiplier(2.5, 20)
    np.testing.assert_allclose(multiplier(25), 0, atol=1e-6)


@pytest.mark.parametrize('kind', SCHEDULES, ids=lambda kind: type(kind).__name__)
def test_warm_up_begins_above_zero_and_rises(kind):
    found = values(with_warmup(kind, 2), 5.0, 40)[:10]
    assert found[0] > 0
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize('kind', [schedules.Constant(), schedules.Cosine()])
def test_warm_up_is_a_straight_line_to_the_whole_learning_rate(kind):
    found = values(with_warmup(kind, 2), 5.0, 40)
    wanted = np.arange(1, 12) / 11
    np.testing.assert_allclose(found[:11], wanted, 1e-6)


@pytest.mark.parametrize('kind', [schedules.Constant(), schedules.Step()])
def test_warm_up_changes_nothing_after_it(kind):
    found = values(with_warmup(kind, 1.5), 2.5, 20)
    np.testing.assert_allclose(found[4:], values(kind, 2.5, 20)[4:], 1e-6)


@pytest.mark.parametrize('kind', SCHEDULES, ids=lambda kind: type(kind).__name__)
def test_a_warm_up_longer_than_the_phase_is_cut_off(kind):
    found = values(with_warmup(kind, 10), 2.5, 5)
    assert np.isfinite(found).all()
    assert ((found > 0) & (found < 1)).all()


@pytest.mark.parametrize(
    ('kind', 'names'),
    [
        (schedules.Constant(warmup_epochs=-1), ['warmup_epochs']),
        (schedules.Cosine(warmup_epochs=-1), ['warmup_epochs']),
        (
            schedules.Step(warmup_epochs=-1, every_epochs=0, factor=-0.1),
            ['warmup_epochs', 'every_epochs', 'factor'],
        ),
    ],
)
def test_every_field_out_of_range_is_a_problem(kind, names):
    assert [line.split()[0] for line in kind.problems()] == names


@pytest.mark.parametrize('kind', SCHEDULES, ids=lambda kind: type(kind).__name__)
def test_the_defaults_are_no_problem(kind):
    assert type(kind)().problems() == []


@settings(deadline=None)
@given(st.floats(0.1, 20), st.floats(0.5, 500), st.integers(1, 3000))
def test_the_last_step_is_marked_and_none_after_it(every_epochs, steps_per_epoch, total_steps):
    found = schedules.marks(every_epochs, steps_per_epoch, total_steps)
    assert max(found) == total_steps
    assert min(found) >= 1


@settings(deadline=None)
@given(st.integers(1, 10), st.integers(1, 20), st.integers(1, 50))
def test_whole_epochs_are_marked_where_they_end(every_epochs, times, steps_per_epoch):
    found = schedules.marks(every_epochs, steps_per_epoch, every_epochs * times * steps_per_epoch)
    every = every_epochs * steps_per_epoch
    assert sorted(found) == list(range(every, every * times + 1, every))


def test_a_mark_is_not_put_off_by_a_rounding_error():
    """0.55 epochs of 100 steps are 55, although 0.55 * 100 is a little more."""
    assert 0.55 * 100 > 55
    assert schedules.marks(0.55, 100, 100) == {55, 100}


def test_a_run_that_ends_between_marks_is_marked_at_its_end():
    assert sorted(schedules.marks(1, 10.0, 25)) == [10, 20, 25]


def test_an_interval_longer_than_the_run_leaves_its_end():
    assert schedules.marks(100, 10.0, 25) == {25}


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(32, 2000), st.integers(1, 32))
def test_as_many_marks_as_epochs_where_an_epoch_is_no_whole_number_of_steps(epochs, size, batch):
    """An epoch that ends within a step is over after it: `steps` and `marks` round alike."""
    total = schedules.steps(epochs, size, batch)
    assert len(schedules.marks(1, size / batch, total)) == epochs
