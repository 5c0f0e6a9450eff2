"""Selective prediction against plain forms."""

import math

import numpy as np
import pytest
import scipy.stats

from tljax.metrics import selective
from tljax.types import InputError

RNG = np.random.default_rng(0)
CONFIDENCE = np.round(RNG.random(400), 2)  # with ties
RIGHT = RNG.random(400) < 0.5 + 0.6 * CONFIDENCE


def test_a_risk_coverage_curve_is_the_plain_one():
    curve = selective.risk_coverage(CONFIDENCE, RIGHT)
    for threshold, coverage, risk in zip(*curve[:3], strict=True):
        answered = threshold <= CONFIDENCE
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx(1 - RIGHT[answered].mean())
    assert len(curve.risk) == len(set(CONFIDENCE))
    each = [1 - RIGHT[value <= CONFIDENCE].mean() for value in CONFIDENCE]
    assert curve.area == pytest.approx(np.mean(each))


@pytest.mark.parametrize('errors', [0, 7, 20])
def test_the_upper_bound_is_where_the_binomial_tail_is_delta(errors):
    bound = selective.upper_bound(errors, 20, 0.01)
    if errors == 20:
        assert bound == 1
    else:
        assert scipy.stats.binom.cdf(errors, 20, bound) == pytest.approx(0.01)


@pytest.mark.parametrize('risk', [0.15, 0.3])
def test_a_threshold_has_a_bound_below_the_stated_risk(risk):
    result = selective.threshold_for_risk(CONFIDENCE, RIGHT, risk)
    answered = result.threshold <= CONFIDENCE
    assert result.coverage == answered.mean() > 0
    assert result.risk == pytest.approx(1 - RIGHT[answered].mean())
    wrong = int((~RIGHT[answered]).sum())
    wanted = selective.upper_bound(wrong, int(answered.sum()), 0.05 / math.ceil(math.log2(400)))
    assert result.risk < result.bound == pytest.approx(wanted)
    assert result.bound <= risk


def test_nothing_is_answered_without_a_low_enough_bound():
    result = selective.threshold_for_risk(CONFIDENCE[:5], RIGHT[:5], 0.01)
    assert (result.threshold, result.coverage) == (math.inf, 0)
    with pytest.raises(InputError, match='risk is 0'):
        selective.threshold_for_risk(CONFIDENCE, RIGHT, 0)


def test_the_true_risk_is_above_the_stated_one_in_less_than_delta_of_the_draws():
    rng, above = np.random.default_rng(1), 0
    for _ in range(200):
        confidence = rng.random(150)
        result = selective.threshold_for_risk(confidence, rng.random(150) < confidence, 0.2, 0.1)
        true = (1 - min(result.threshold, 1)) / 2  # of uniform confidences above the threshold
        above += true > 0.2
    assert above <= 20
