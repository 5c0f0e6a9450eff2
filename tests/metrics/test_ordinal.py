"""Ordered classes: probabilities, the loss, and weighted kappa against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tljax.metrics import ordinal, scores, totals
from tljax.metrics.losses import CORN, CrossEntropy
from tljax.metrics.tasks.classes import Classes
from tljax.metrics.tasks.ordered import Ordered

K = 4
logits = arrays(np.float32, (5, K - 1), elements=st.floats(-20, 20, width=32))


@settings(deadline=None, max_examples=30)
@given(logits)
def test_probabilities_are_products_of_conditional_ones(z):
    p = np.exp(np.asarray(ordinal.log_probabilities(jnp.asarray(z)), np.float64))
    above = np.cumprod(scipy.special.expit(z.astype(np.float64)), -1)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-4)
    np.testing.assert_allclose(p[:, -1], above[:, -1], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(1 - np.cumsum(p, -1)[:, :-1], above, rtol=1e-3, atol=1e-4)


def test_conditional_logits_invert_the_probabilities():
    z = jnp.asarray(np.random.default_rng(0).normal(0, 3, (20, K - 1)), jnp.float32)
    back = ordinal.conditional_logits(ordinal.log_probabilities(z))
    np.testing.assert_allclose(back, z, rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_sum_of_the_conditional_tasks():
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(50, K - 1)), rng.integers(0, K, 50)
    losses = CORN()(jnp.asarray(z, jnp.float32), jax.nn.one_hot(labels, K))
    wanted = np.zeros(50)
    for k in range(K - 1):  # of the examples whose class is at least k: is it above k?
        chosen = labels >= k
        sign = np.where(labels > k, -1.0, 1.0)
        wanted += chosen * np.logaddexp(0, sign * z[:, k])
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_the_predicted_class_is_the_median():
    z = jnp.asarray([[-5.0, 0, 0], [5, -5, 0], [5, 5, 5], [1.0, 0.1, 9.0]])
    assert ordinal.decided(z).tolist() == [0, 1, 3, 1]
    p = np.exp(np.asarray(ordinal.log_probabilities(z)))
    assert [Ordered().best(row) for row in p] == [0, 1, 3, 1]
    # The last one is the median, although class 3 is more probable.
    assert p[3].argmax() == 3


def test_nan_is_wrong():
    z = np.full((2, K - 1), np.nan, np.float32)
    assert not Ordered().right(z, np.array([0, 3])).any()


def random_table(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, 300)
    predicted = np.clip(labels + rng.integers(-1, 2, 300), 0, K - 1)
    table = np.zeros((K, K), int)
    np.add.at(table, (labels, predicted), 1)
    return labels, predicted, table


def test_kappa_is_that_of_scikit_learn():
    labels, predicted, table = random_table()
    measured = ordinal.measured(table)
    wanted = sklearn.metrics.cohen_kappa_score(labels, predicted, weights='quadratic')
    assert measured['kappa'] == pytest.approx(wanted)
    assert measured['mae'] == pytest.approx(np.abs(labels - predicted).mean())
    assert measured['accuracy'] == pytest.approx((labels == predicted).mean())


def test_intervals_are_those_of_resampled_examples():
    labels, predicted, table = random_table()
    low, high = ordinal.intervals(table)['kappa_interval']
    rng, drawn = np.random.default_rng(1), []
    for _ in range(300):
        rows = rng.integers(0, 300, 300)
        pair = labels[rows], predicted[rows]
        drawn.append(sklearn.metrics.cohen_kappa_score(*pair, weights='quadratic'))
    np.testing.assert_allclose([low, high], np.percentile(drawn, [2.5, 97.5]), atol=0.02)


def test_kappa_scores_ordered_classes_and_accuracy_others():
    task, z = Ordered(), np.random.default_rng(0).normal(size=(6, K - 1)).astype(np.float32)
    labels = np.arange(6) % K
    losses = CORN()(jnp.asarray(z), task.targets(jnp.asarray(labels), K))
    summary = task.summary(task.sums(z, labels, losses, np.ones(6, bool)))
    assert scores.of(summary) is scores.KAPPA
    assert totals.ranking(summary)['score'] == summary['kappa']
    assert Classes().loss_problem(CORN()) is not None
    assert task.loss_problem(CrossEntropy()) is not None
