"""Paired differences of scores that are no means over examples."""

import numpy as np
import pytest
import scipy.stats

import tljax
from tljax.metrics import ordinal, paired_scores
from tljax.metrics.paired_accuracy import accuracy_difference


def accuracy(decided, labels):
    return float((decided == labels).mean())


def answers(rng, labels, share):
    """Labels of which a share is replaced by random classes."""
    return np.where(rng.random(len(labels)) < share, rng.integers(0, 4, len(labels)), labels)


def test_the_difference_of_accuracies_agrees_with_the_exact_methods():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 150)
    first, second = answers(rng, labels, 0.2), answers(rng, labels, 0.32)
    found = paired_scores.difference(accuracy, first, second, labels)
    exact = accuracy_difference(first == labels, second == labels)
    assert found.difference == pytest.approx(exact.difference)
    np.testing.assert_allclose(found[1:3], (exact.low, exact.high), atol=0.015)
    assert abs(found.p_value - exact.p_value) < 0.03


def test_the_difference_of_kappas_is_that_of_the_task():
    rng = np.random.default_rng(1)
    labels, task = rng.integers(0, 4, 120), tljax.Ordered()
    first, second = answers(rng, labels, 0.05), answers(rng, labels, 0.7)
    found = paired_scores.difference(task.scored, first, second, labels)
    tables = []
    for decided in (first, second):
        table = np.zeros((4, 4), int)
        np.add.at(table, (labels, decided), 1)
        tables.append(float(ordinal.measured(table)['kappa']))
    assert found.difference == pytest.approx(tables[0] - tables[1])
    assert 0 < found.low < found.difference < found.high
    assert found.p_value < 0.005
    same = paired_scores.difference(task.scored, first, first, labels)
    assert same == (0, 0, 0, 1)


def test_p_values_are_uniform_without_a_difference():
    rng, found = np.random.default_rng(2), []
    for seed in range(40):
        labels = rng.normal(size=30)
        first, second = (labels + rng.normal(size=30) for _ in range(2))
        score = lambda decided, labels: -float(((decided - labels) ** 2).mean())  # noqa: E731
        found.append(paired_scores.difference(score, first, second, labels, seed).p_value)
    assert scipy.stats.kstest(found, 'uniform').pvalue > 0.05
