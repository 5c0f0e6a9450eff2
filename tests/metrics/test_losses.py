"""Losses against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tljax.metrics.losses import BinaryCrossEntropy, ClassWeighted, CrossEntropy, Focal

B, K = 6, 5
logits_of_any_size = arrays(np.float32, (B, K), elements=st.floats(-50, 50, width=32))
labels_of_all = arrays(np.int32, B, elements=st.integers(0, K - 1))
smoothings = st.floats(0, 0.9)


def log_softmax(logits):
    """In double precision."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def one_hot(labels):
    return jnp.eye(K)[jnp.asarray(labels)]


@settings(deadline=None, max_examples=40)
@given(logits_of_any_size, labels_of_all)
def test_cross_entropy_is_the_negative_log_probability_of_the_label(logits, labels):
    wanted = -log_softmax(logits)[np.arange(B), labels]
    found = CrossEntropy()(jnp.asarray(logits), one_hot(labels))
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)


@settings(deadline=None, max_examples=40)
@given(logits_of_any_size, labels_of_all, smoothings)
def test_smoothing_mixes_in_the_mean_over_classes(logits, labels, smoothing):
    """As torch documents it: (1 - s) of the label's loss and s of the mean of all losses."""
    losses = -log_softmax(logits)
    wanted = (1 - smoothing) * losses[np.arange(B), labels] + smoothing * losses.mean(-1)
    found = CrossEntropy(label_smoothing=smoothing)(jnp.asarray(logits), one_hot(labels))
    np.testing.assert_allclose(found, wanted, 1e-4, 1e-4)


@settings(deadline=None, max_examples=40)
@given(logits_of_any_size, labels_of_all, labels_of_all, st.floats(0, 1))
def test_the_loss_of_mixed_targets_is_the_mixed_loss(logits, one, other, share):
    loss, logits = CrossEntropy(label_smoothing=0.1), jnp.asarray(logits)
    mixed = share * one_hot(one) + (1 - share) * one_hot(other)
    wanted = share * loss(logits, one_hot(one)) + (1 - share) * loss(logits, one_hot(other))
    np.testing.assert_allclose(loss(logits, mixed), wanted, 1e-4, 1e-4)


@pytest.mark.parametrize('smoothing', [0.0, 0.3])
def test_equal_logits_lose_the_logarithm_of_the_number_of_classes(smoothing):
    loss = CrossEntropy(label_smoothing=smoothing)
    found = loss(jnp.full((B, K), 7.0), one_hot(np.zeros(B, int)))
    np.testing.assert_allclose(found, np.log(K), 1e-6)


def test_the_smoothed_targets_themselves_are_the_minimum():
    smoothing, targets = 0.2, one_hot(np.arange(B) % K)
    loss = CrossEntropy(label_smoothing=smoothing)
    best = jnp.log(targets * (1 - smoothing) + smoothing / K)
    gradient = jax.grad(lambda logits: loss(logits, targets).sum())(best)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_huge_logits_have_a_finite_loss():
    logits = jnp.full((1, K), -3e4).at[0, 0].set(3e4)
    assert np.isfinite(CrossEntropy(label_smoothing=0.1)(logits, one_hot(np.array([1])))).all()


def test_each_example_has_a_loss_of_its_own():
    logits = jax.random.normal(jax.random.key(0), (B, K))
    targets = one_hot(np.arange(B) % K)
    before = CrossEntropy()(logits, targets)
    after = CrossEntropy()(logits.at[2].set(jnp.nan), targets)
    np.testing.assert_array_equal(np.delete(after, 2), np.delete(before, 2))


def test_half_precision_logits_give_single_precision_losses():
    logits = np.random.default_rng(0).normal(size=(B, K)).astype(jnp.bfloat16)
    losses = CrossEntropy()(jnp.asarray(logits), one_hot(np.zeros(B, int)))
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, -log_softmax(logits)[:, 0], 1e-6)


@pytest.mark.parametrize(
    ('value', 'fine'), [(0.0, True), (0.99, True), (1.0, False), (-0.1, False)]
)
def test_a_smoothing_outside_its_range_is_a_problem(value, fine):
    assert (CrossEntropy(label_smoothing=value).problems() == []) is fine


@settings(deadline=None, max_examples=40)
@given(logits_of_any_size, labels_of_all, st.floats(0, 5))
def test_the_focal_loss_is_the_cross_entropy_times_a_power_of_the_rest(logits, labels, gamma):
    log_p = log_softmax(logits)[np.arange(B), labels]
    wanted = -((1 - np.exp(log_p)) ** gamma) * log_p
    found = Focal(gamma=gamma)(jnp.asarray(logits), one_hot(labels))
    np.testing.assert_allclose(found, wanted, 1e-4, 1e-4)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0])
def test_the_slope_of_the_focal_loss_is_finite_where_the_answer_is_sure(gamma):
    def total(logits):
        return Focal(gamma=gamma)(logits, one_hot(np.arange(B) % K)).sum()

    sure = 200 * one_hot(np.arange(B) % K)
    assert np.isfinite(jax.grad(total)(sure)).all()
    assert np.isfinite(jax.grad(total)(-sure)).all()


def test_a_weighted_loss_is_the_loss_times_the_weight_of_the_class():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(B, K)), jnp.float32)
    labels = np.arange(B) % K
    weights = (0.5, 1.0, 2.0, 0.0, 3.0)
    found = ClassWeighted(loss=Focal(), weights=weights)(logits, one_hot(labels))
    wanted = np.array(weights)[labels] * Focal()(logits, one_hot(labels))
    np.testing.assert_allclose(found, wanted, 1e-6)


def test_mixed_targets_weigh_as_their_mixture():
    logits = jnp.zeros((1, K))
    mixed = 0.25 * one_hot([0]) + 0.75 * one_hot([2])
    loss = ClassWeighted(loss=CrossEntropy(), weights=(4.0, 1.0, 8.0, 1.0, 1.0))
    np.testing.assert_allclose(loss(logits, mixed), 7 * np.log(K), 1e-6)


@pytest.mark.parametrize(
    'loss',
    [
        Focal(gamma=-1.0),
        Focal(gamma=float('nan')),
        ClassWeighted(loss=Focal(), weights=()),
        ClassWeighted(loss=Focal(), weights=(0.0, 0.0)),
        ClassWeighted(loss=Focal(), weights=(-1.0, 1.0)),
        BinaryCrossEntropy(label_smoothing=1.0),
        BinaryCrossEntropy(positive_weights=(1.0, 0.0)),
        BinaryCrossEntropy(positive_weights=(1.0, float('inf'))),
    ],
)
def test_a_loss_that_cannot_be_is_named(loss):
    assert len(loss.problems()) == 1


targets_of_sets = arrays(np.float32, (B, K), elements=st.sampled_from([0.0, 0.25, 1.0]))


def binary_losses(logits, targets):
    """In double precision, [B, K]."""
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    return np.logaddexp(0, -logits) * targets + np.logaddexp(0, logits) * (1 - targets)


@settings(deadline=None, max_examples=40)
@given(logits_of_any_size, targets_of_sets, smoothings)
def test_binary_cross_entropy_is_the_mean_over_classes_of_that_of_their_sigmoids(
    logits, targets, smoothing
):
    found = BinaryCrossEntropy(label_smoothing=smoothing)(jnp.asarray(logits), jnp.asarray(targets))
    smoothed = targets * (1 - smoothing) + smoothing / 2
    np.testing.assert_allclose(found, binary_losses(logits, smoothed).mean(-1), 1e-5, 1e-5)


@settings(deadline=None, max_examples=40)
@given(logits_of_any_size, targets_of_sets)
def test_positive_weights_multiply_the_loss_of_positives(logits, targets):
    weights = (0.5, 1.0, 2.0, 7.0, 3.0)
    found = BinaryCrossEntropy(positive_weights=weights)(jnp.asarray(logits), jnp.asarray(targets))
    there = binary_losses(logits, np.ones((B, K))) * targets * np.array(weights)
    absent = binary_losses(logits, np.zeros((B, K))) * (1 - targets)
    np.testing.assert_allclose(found, (there + absent).mean(-1), 1e-5, 1e-5)


def test_binary_cross_entropy_of_huge_logits_and_its_slope_are_finite():
    logits = jnp.asarray(np.resize([3e4, -3e4], (B, K)), jnp.float32)
    for targets in (jnp.zeros((B, K)), jnp.ones((B, K))):
        loss, slope = jax.value_and_grad(lambda x: BinaryCrossEntropy()(x, targets).sum())(logits)  # noqa: B023
        assert np.isfinite(loss)
        assert np.isfinite(slope).all()


def test_an_image_without_a_label_has_a_binary_cross_entropy():
    found = BinaryCrossEntropy()(jnp.zeros((B, K)), jnp.zeros((B, K)))
    np.testing.assert_allclose(found, np.log(2), 1e-6)
