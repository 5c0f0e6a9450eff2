"""Intervals of the mean over seeds: against SciPy, a plain form and simulated samples."""

import math

import numpy as np
import pytest
import scipy.stats

from tljax.metrics import seed_intervals
from tljax.types import InputError

VALUES = np.random.default_rng(0).beta(20, 3, 40)
SHAPES = {
    'normal': scipy.stats.norm(),
    'accuracies': scipy.stats.beta(20, 2),
    'skewed': scipy.stats.gamma(4),
}


def plain_bca(x, resamples, seed):
    """Efron's formulas; x [..., S], with the same resamples for all samples."""
    normal, count = scipy.stats.norm, x.shape[-1]
    chosen = np.random.default_rng(seed).integers(count, size=(resamples, count))
    weights = np.stack([(chosen == i).mean(1) for i in range(count)])
    means, center = np.sort(x @ weights, -1), x.mean(-1, keepdims=True)
    bias = normal.ppf(((means < center).mean(-1) + (means <= center).mean(-1)) / 2)[..., None]
    jackknife = (x.sum(-1, keepdims=True) - x) / (count - 1)
    deviation = jackknife.mean(-1, keepdims=True) - jackknife
    acceleration = (deviation**3).sum(-1) / (6 * (deviation**2).sum(-1) ** 1.5)
    z = bias + normal.ppf([0.025, 0.975])
    places = normal.cdf(bias + z / (1 - acceleration[..., None] * z)) * (resamples - 1)
    below = np.floor(places).astype(int)
    lower, upper = (np.take_along_axis(means, below + one, -1) for one in (0, 1))
    return lower + (upper - lower) * (places - below)


def covered(shape, ends):
    """The share of intervals [M, 2] with the true mean."""
    return np.mean((ends[:, 0] <= shape.mean()) & (shape.mean() <= ends[:, 1]))


def test_students_interval_is_scipys():
    result = seed_intervals.student_t(VALUES[:5], level=0.9)
    plain = scipy.stats.ttest_1samp(VALUES[:5], 0).confidence_interval(0.9)
    assert (result.low, result.high) == pytest.approx(tuple(plain))
    assert result.mean == pytest.approx(VALUES[:5].mean())
    assert (result.count, result.standard_deviation) == (5, np.std(VALUES[:5], ddof=1))


def test_the_interval_of_scores_ends_at_0_and_1():
    scores = np.array([0.99, 1.0, 0.9])
    whole, cut = seed_intervals.student_t(scores), seed_intervals.of_scores(scores)
    assert whole.high > 1
    assert cut == whole._replace(high=1.0)
    assert math.isnan(seed_intervals.of_scores(scores[:1]).high)


def test_one_value_has_no_interval():
    result = seed_intervals.student_t(VALUES[:1])
    assert np.isnan(result[1:3]).all()
    assert (result.mean, result.count) == (VALUES[0], 1)


def test_the_bca_interval_is_efrons():
    skewed = np.random.default_rng(1).lognormal(size=40)
    result = seed_intervals.bca(skewed, resamples=20_000)
    plain = plain_bca(skewed, 20_000, seed=1)
    assert (result.low, result.high) == pytest.approx(plain, abs=0.03 * (plain[1] - plain[0]))


def test_a_seed_repeats_a_bca_interval():
    first, again, other = (seed_intervals.bca(VALUES, resamples=500, seed=s) for s in (0, 0, 1))
    assert first == again != other


def test_equal_values_have_an_interval_without_width():
    assert seed_intervals.bca(np.full(40, 0.5))[:3] == (0.5, 0.5, 0.5)
    assert seed_intervals.student_t(np.full(4, 0.5))[:3] == (0.5, 0.5, 0.5)


@pytest.mark.parametrize('shape', SHAPES)
def test_from_its_least_number_of_values_the_bca_interval_covers_93_to_97_percent(shape):
    size = (4000, seed_intervals.BCA_LEAST)
    x = SHAPES[shape].rvs(size, random_state=np.random.default_rng(2))
    ends = np.concatenate(
        [plain_bca(part, 1000, seed=i) for i, part in enumerate(x.reshape(40, 100, -1))]
    )
    assert 0.93 <= covered(SHAPES[shape], ends) <= 0.97


def test_with_few_values_the_bca_interval_is_too_narrow():
    x = SHAPES['normal'].rvs((2000, 10), random_state=np.random.default_rng(3))
    assert covered(SHAPES['normal'], plain_bca(x, 1000, seed=0)) < 0.92


@pytest.mark.parametrize('count', [3, pytest.param(20, marks=pytest.mark.slow)])
def test_students_interval_covers_93_to_97_percent(count):
    x = SHAPES['normal'].rvs((1500, count), random_state=np.random.default_rng(4))
    ends = np.array([seed_intervals.student_t(one)[1:3] for one in x])
    assert 0.93 <= covered(SHAPES['normal'], ends) <= 0.97


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: seed_intervals.student_t([]), r'values are \[0\]'),
        (lambda: seed_intervals.student_t([0.1, np.nan]), 'index 1 is not finite'),
        (lambda: seed_intervals.student_t([0.1, 0.2], level=95), 'level is 95'),
        (lambda: seed_intervals.bca(VALUES[:34]), '34 values is too narrow, wanted at least 35'),
    ],
)
def test_values_without_an_interval_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
