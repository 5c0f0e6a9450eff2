"""The power of the paired comparison, against simulated experiments."""

import math

import numpy as np
import pytest
import scipy.stats

from tljax.metrics import paired_seeds
from tljax.metrics.power import power, seeds_needed
from tljax.types import InputError

RNG = np.random.default_rng(0)


def simulated(difference, seeds, tests, repeats):
    """The share of experiments that show a difference in a table of so many tests."""
    x = RNG.normal(difference, 1, (repeats, seeds))
    p_values = paired_seeds.exact_sign_flips(x)  # Holm multiplies the smallest by the number
    outside = scipy.stats.ttest_1samp(x, 0, axis=1).pvalue < 0.05  # 0 is outside the interval
    return np.mean(outside & (p_values * tests < 0.05))


@pytest.mark.parametrize(
    ('seeds', 'difference', 'tests'),
    [
        (5, 2.0, 1),
        (6, 1.5, 1),
        (8, 1.0, 1),
        (8, 1.5, 6),
        (10, 0.9, 6),
        pytest.param(15, 0.6, 1, marks=pytest.mark.slow),
        pytest.param(15, 1.2, 20, marks=pytest.mark.slow),
    ],
)
def test_the_power_is_that_of_simulated_experiments_within_5_points(seeds, difference, tests):
    share = simulated(difference, seeds, tests, 3000 if seeds < 15 else 1000)
    assert power(1, difference, seeds, tests=tests) == pytest.approx(share, abs=0.04)


def test_the_power_depends_on_the_ratio_only():
    assert power(0.02, -0.03, 7) == power(2, 3, 7)


def test_five_seeds_can_show_no_difference():
    assert power(1, 100, 5) == 0
    assert power(1, 100, 6) == 1


@pytest.mark.parametrize('tests', [1, 6])
def test_the_power_grows_with_seeds(tests):
    values = [power(1, 0.8, seeds, tests=tests) for seeds in (4, 6, 8, 9, 10, 12, 15, 20, 40)]
    assert np.diff(values).min() > -0.02
    assert values[-1] > 0.97


@pytest.mark.parametrize('difference', [0.3, 0.7, 1.2, 3.0])
def test_the_seeds_needed_are_the_first_with_enough_power(difference):
    seeds = seeds_needed(1, difference, power=0.8, tests=3)
    assert power(1, difference, seeds, tests=3) >= 0.8 > power(1, difference, seeds - 1, tests=3)


def test_no_number_of_seeds_shows_a_difference_of_zero():
    assert seeds_needed(1, 0) is None
    assert seeds_needed(0, 0) is None


def test_without_variance_the_fewest_possible_seeds_are_enough():
    assert seeds_needed(0, 0.01) == paired_seeds.least_seeds() == 6


def test_a_very_large_effect_has_power_one():
    assert power(1, 1000, 20) == power(1, 0.5, 3000) == 1


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: power(-1, 1, 5), 'standard_deviation is -1'),
        (lambda: power(1, math.nan, 5), 'difference is nan'),
        (lambda: power(1, 1, 0), 'seeds is 0'),
        (lambda: power(1, 1, 5, level=5), 'level is 5'),
        (lambda: power(1, 1, 5, tests=0), '0 tests'),
        (lambda: seeds_needed(1, 1, power=80), 'power is 80'),
    ],
)
def test_wrong_values_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
