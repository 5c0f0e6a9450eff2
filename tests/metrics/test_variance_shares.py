"""Shares of variance, against sums of squares."""

import numpy as np
import pytest

from tljax.metrics.variance_shares import shares
from tljax.types import InputError

RNG = np.random.default_rng(0)


def test_effects_that_were_added_are_recovered():
    first, second = np.array([-1.0, 0, 1]), np.array([-2.0, 2])
    both = np.array([[1.0, -1], [-2, 2], [1, -1]])
    result = shares(5 + first[:, None] + second + both, ('a', 'b'))
    variances = {('a',): first.var(), ('b',): second.var(), ('a', 'b'): both.var()}
    total = sum(variances.values())
    assert result == pytest.approx({key: value / total for key, value in variances.items()})


@pytest.mark.parametrize('shape', [(4,), (3, 2), (2, 3, 4), (2, 1, 3, 2)])
def test_shares_sum_to_one(shape):
    result = shares(RNG.random(shape), 'abcd'[: len(shape)])
    assert sum(result.values()) == pytest.approx(1)
    assert min(result.values()) >= 0
    assert len(result) == 2 ** len(shape) - 1


def test_seeds_are_the_residual_within_cells():
    scores = RNG.random((3, 2, 5))
    result = shares(scores, ('a', 'b', 'seed'))
    assert set(result) == {('a',), ('b',), ('a', 'b'), ('seed',)}
    assert result['seed',] == pytest.approx(scores.var(2).mean() / scores.var())


def test_equal_scores_have_shares_of_zero():
    assert shares(np.full((2, 3), 0.1), ('a', 'b')) == {('a',): 0, ('b',): 0, ('a', 'b'): 0}


def test_a_large_mean_does_not_change_the_shares():
    scores = RNG.random((3, 4))
    assert shares(scores + 1e6, ('a', 'b')) == pytest.approx(shares(scores, ('a', 'b')), rel=1e-6)


def test_a_hole_in_the_grid_is_named():
    scores = np.zeros((2, 3))
    scores[1, 2] = np.nan
    with pytest.raises(InputError, match='no score of rate 1, depth 2'):
        shares(scores, ('rate', 'depth'))


@pytest.mark.parametrize('names', [('a',), ('a', 'a'), ('a', 'b', 'c')])
def test_an_axis_needs_its_own_name(names):
    with pytest.raises(InputError, match='wanted a name of each axis'):
        shares(np.zeros((2, 3)), names)
