"""The expected best score of a search, against draws of configurations."""

import numpy as np
import pytest

from tljax.metrics.tuning_budget import expected_best
from tljax.types import InputError

VALIDATION = np.array([0.7, 0.2, 0.9, 0.9, 0.5])
TEST = np.array([0.6, 0.3, 0.8, 0.6, 0.7])


def test_the_expected_best_is_the_mean_over_all_draws():
    curve = expected_best(VALIDATION, TEST)
    for k in (1, 2, 3):
        draws = np.stack(np.meshgrid(*[np.arange(5)] * k), -1).reshape(-1, k)
        best = VALIDATION[draws].max(1)
        assert curve.validation[k - 1] == pytest.approx(best.mean())
        assert curve.deviation[k - 1] == pytest.approx(best.std())
        chosen = [TEST[one == VALIDATION].mean() for one in best]
        assert curve.test[k - 1] == pytest.approx(np.mean(chosen))
    assert curve.budget.tolist() == [1, 2, 3, 4, 5]


def test_the_first_point_is_the_mean_of_all_configurations():
    curve = expected_best(VALIDATION, TEST)
    assert curve.validation[0] == pytest.approx(VALIDATION.mean())
    assert curve.test[0] == pytest.approx(TEST.mean())


def test_validation_grows_with_the_budget_and_stays_below_the_best():
    values = expected_best(VALIDATION).validation
    assert (np.diff(values) > 0).all()
    assert values[-1] < VALIDATION.max()
    assert expected_best(VALIDATION).test is None


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: expected_best([]), r'validation is \[0\]'),
        (lambda: expected_best([1, np.nan]), 'validation 1 is not a finite number'),
        (lambda: expected_best([1, 2], [1]), '2 validation and 1 test scores'),
    ],
)
def test_scores_that_do_not_fit_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
