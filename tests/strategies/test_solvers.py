"""A solver ends at the minimum, and says how near it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.strategies.solvers import LBFGS


def data():
    """[40, 3] inputs and [40, 2] outputs of a linear map with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    y = x @ rng.normal(size=(3, 2)) + 0.1 * rng.normal(size=(40, 2))
    return jnp.asarray(x), jnp.asarray(y, jnp.float32)


def squares(params, data):
    """Half the mean squared error of a linear map; its bias is a hole."""
    x, y = data
    return 0.5 * jnp.square(x @ params['kernel'] - y).sum() / len(x)


def test_it_ends_at_the_ridge_regression_that_can_be_computed():
    start = {'kernel': jnp.zeros((3, 2)), 'bias': None}
    found = LBFGS(weight_decay=0.5, tolerance=1e-5)(squares, start, data())
    x, y = (np.asarray(part, np.float64) for part in data())
    wanted = np.linalg.solve(x.T @ x / 40 + 0.5 * np.eye(3), x.T @ y / 40)
    np.testing.assert_allclose(found.params['kernel'], wanted, rtol=1e-3, atol=1e-5)
    assert found.params['bias'] is None
    assert found.gradient_norm < 1e-5
    assert 1 <= found.iterations < 500


def test_it_stops_after_as_many_iterations_as_it_may_take():
    start = {'kernel': jnp.zeros((3, 2))}
    found = LBFGS(max_iterations=1, tolerance=1e-12)(squares, start, data())
    assert found.iterations == 1
    assert found.gradient_norm > 1e-3


def test_data_are_no_constants_of_the_program():
    start, seen = {'kernel': jnp.zeros((3, 2))}, []

    def watched(params, data):
        seen.extend(isinstance(part, jax.core.Tracer) for part in data)
        return squares(params, data)

    LBFGS()(watched, start, data())
    assert seen
    assert all(seen)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'weight_decay': -1.0}, 'weight_decay is -1'),
        ({'max_iterations': 0}, 'max_iterations is 0'),
        ({'tolerance': 0.0}, 'tolerance is 0'),
    ],
)
def test_a_value_out_of_range_is_named(changes, words):
    assert [line for line in LBFGS(**changes).problems() if words in line]
