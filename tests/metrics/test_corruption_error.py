"""Errors under corruption, and the gap between two independent sets."""

import numpy as np
import pytest

from tljax.metrics import independent_accuracy
from tljax.metrics.corruption_error import corruption_errors
from tljax.types import InputError


def right(rate, seed=0):
    return np.random.default_rng(seed).random((3, 5, 80)) < rate


def test_errors_are_shares_of_wrong_images():
    errors = corruption_errors(right(0.7))
    np.testing.assert_allclose(errors.error, (~right(0.7)).mean(-1))
    assert errors.mean.value == pytest.approx(errors.error.mean())
    assert errors.mean.low < errors.mean.value < errors.mean.high
    assert errors.mce is errors.difference is None


def test_the_mean_corruption_error_is_the_mean_ratio_to_the_baseline():
    hits, base = right(0.7), right(0.5, seed=1)
    errors = corruption_errors(hits, base)
    ratios = (~hits).sum((1, 2)) / (~base).sum((1, 2))
    assert errors.mce.value == pytest.approx(ratios.mean())
    assert errors.mce.low < errors.mce.value < errors.mce.high
    assert errors.difference.value == pytest.approx((~hits).mean() - (~base).mean())


def test_a_classifier_equals_itself():
    errors = corruption_errors(right(0.7), right(0.7))
    assert (*errors.mce, *errors.difference) == pytest.approx((1, 1, 1, 0, 0, 0))


def test_a_baseline_without_errors_has_no_ratio():
    errors = corruption_errors(right(0.7), right(2.0))
    assert errors.mce is None
    assert np.isnan(errors.relative).all()


def test_other_shapes_are_an_error():
    with pytest.raises(InputError, match='wanted \\[corruptions, severities, images\\]'):
        corruption_errors(np.ones((3, 5)))
    with pytest.raises(InputError, match='the baseline is'):
        corruption_errors(right(0.7), right(0.7)[:2])


def test_the_interval_of_independent_sets_is_newcombes():
    # The worked example of Newcombe 1998, table II (a), method 10.
    difference = independent_accuracy.accuracy_difference(56, 70, 48, 80)
    assert difference == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
