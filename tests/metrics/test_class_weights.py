"""Weights of classes."""

import numpy as np
import pytest

from tljax.metrics import class_weights

RNG = np.random.default_rng(0)
LABELS = RNG.choice(4, 200, p=[0.6, 0.2, 0.15, 0.05])
N = 400
SETS = (RNG.random((N, 5)) < [0.5, 0.25, 0.1, 0.05, 0.02]).astype(np.uint8)


def test_weights_make_every_class_count_alike():
    weights = np.array(class_weights.balanced(LABELS, 4))
    np.testing.assert_allclose(weights * np.bincount(LABELS), len(LABELS) / 4)
    assert weights[LABELS].mean() == pytest.approx(1)


def test_a_class_without_an_example_weighs_nothing():
    assert class_weights.balanced(np.array([0, 0, 2]), 3) == (0.5, 0.0, 1.0)


def test_positive_weights_balance_positives_and_negatives():
    weights = np.array(class_weights.positive(SETS))
    np.testing.assert_allclose(weights * SETS.sum(0), N - SETS.sum(0))


def test_a_class_of_all_or_of_no_images_weighs_1():
    labels = np.array([[1, 0, 1], [1, 0, 0]], np.uint8)
    assert class_weights.positive(labels) == (1.0, 1.0, 1.0)
