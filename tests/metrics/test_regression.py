"""Metrics of predicted numbers against scikit-learn, and the bootstrap against its coverage."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy
import sklearn.metrics

from tljax.config import json_form
from tljax.metrics import regression
from tljax.metrics.losses import AbsoluteError, GaussianLikelihood, Huber, SquaredError
from tljax.metrics.tasks.values import Values
from tljax.types import InputError
from tljax.weights import own_format


def example(count=200, seed=0):
    """Labels and noisy predictions [N, 2] in units of very different size."""
    rng = np.random.default_rng(seed)
    labels = rng.normal([40.0, -3e4], [10.0, 500.0], (count, 2))
    return labels + rng.normal(0, [5.0, 100.0], (count, 2)), labels


def prepared(labels, loss=None):
    return Values().prepared(labels, loss or SquaredError())


def outputs(task, predicted):
    """The outputs of a network that predicts these numbers."""
    return ((predicted - np.array(task.mean)) / np.array(task.deviation)).astype(np.float32)


def summed(task, predicted, labels, mask=None):
    logits, labels = outputs(task, predicted), labels.astype(np.float32)
    mask = np.ones(len(labels), bool) if mask is None else mask
    losses = SquaredError()(jnp.asarray(logits), task.targets(jnp.asarray(labels), 2))
    return task.sums(jnp.asarray(logits), jnp.asarray(labels), losses, jnp.asarray(mask)), logits


def test_metrics_are_those_of_scikit_learn_and_scipy():
    predicted, labels = example()
    task = prepared(labels)
    sums, logits = summed(task, predicted, labels)
    summary = task.summary(sums, [(logits[:50], labels[:50]), (logits[50:], labels[50:])])
    r2 = sklearn.metrics.r2_score(labels, predicted, multioutput='raw_values')
    np.testing.assert_allclose(summary['value_r2'], r2, rtol=1e-4)
    assert summary['r2'] == pytest.approx(r2.mean(), rel=1e-4)
    errors = sklearn.metrics.root_mean_squared_error(labels, predicted, multioutput='raw_values')
    np.testing.assert_allclose(summary['value_rmse'], errors, rtol=1e-4)
    errors = sklearn.metrics.mean_absolute_error(labels, predicted, multioutput='raw_values')
    np.testing.assert_allclose(summary['value_mae'], errors, rtol=1e-4)
    ranks = [scipy.stats.spearmanr(labels[:, i], predicted[:, i]).statistic for i in (0, 1)]
    np.testing.assert_allclose(summary['value_spearman'], ranks, rtol=1e-4)
    assert 'rmse' not in summary  # a mean over different units would have no meaning


def test_sums_of_training_give_the_same_metrics_without_padding():
    predicted, labels = example()
    task, mask = prepared(labels), np.arange(200) < 150
    sums, logits = summed(task, predicted, labels, mask)
    exact = task.summary(sums, [(logits[:150], labels[:150])])
    quick = task.summary(sums)
    assert quick['count'] == 150
    for name in ('value_r2', 'value_rmse', 'value_mae'):
        np.testing.assert_allclose(quick[name], exact[name], rtol=1e-3)


def test_equal_labels_or_no_examples_have_no_score():
    task = prepared(example()[1])
    constant = np.ones((4, 2), np.float32)
    sums, logits = summed(task, constant, constant)
    assert task.summary(sums, [(logits, constant)])['r2'] is None
    assert task.summary(task.zeros(2))['r2'] is None


def test_the_interval_covers_the_true_error_about_as_often_as_it_states():
    covered = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels = rng.normal(0, 1, (200, 1))
        ends = regression.intervals(labels + rng.normal(0, 0.5, (200, 1)), labels)
        low, high = ends['rmse_interval']
        covered.append(low <= 0.5 <= high)
    assert 0.83 <= np.mean(covered) <= 1.0


def test_intervals_contain_their_values_and_exist_for_each_number():
    predicted, labels = example()
    ends = regression.intervals(predicted, labels)
    low, high = ends['r2_interval']
    assert low < sklearn.metrics.r2_score(labels, predicted) < high
    assert np.shape(ends['value_spearman_interval']) == (2, 2)
    assert 'rmse_interval' not in ends


def test_predictions_are_in_the_units_of_the_labels():
    predicted, labels = example()
    task = prepared(labels)
    back = task.predicted(jnp.asarray(outputs(task, predicted)))
    np.testing.assert_allclose(back, predicted, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(task.targets(jnp.asarray(labels), 2).mean(0), 0, atol=1e-2)


def test_a_variance_is_predicted_in_units_and_mixed_over_views():
    labels = example()[1]
    task = prepared(labels, GaussianLikelihood())
    assert (task.outputs(2), task.count(4)) == (4, 2)
    views = jnp.asarray([[[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]]])
    mixed = task.predicted(task.average(views))[0]
    np.testing.assert_allclose(mixed[:2], task.mean, rtol=1e-5)
    # The variance of a mixture is the mean variance plus that of the means.
    np.testing.assert_allclose(mixed[2] / task.deviation[0], 2**0.5, rtol=1e-5)
    np.testing.assert_allclose(mixed[3] / task.deviation[1], 1, rtol=1e-5)
    assert task.cells(np.asarray(mixed), ('a', 'b')).keys() == {
        'a', 'b', 'a_deviation', 'b_deviation'
    }  # fmt: skip


def test_losses_have_their_closed_forms():
    z, t = jnp.asarray([[0.5, 3.0]]), jnp.asarray([[0.0, 0.0]])
    assert SquaredError()(z, t)[0] == pytest.approx((0.25 + 9) / 2)
    assert AbsoluteError()(z, t)[0] == pytest.approx(1.75)
    assert Huber(delta=1.0)(z, t)[0] == pytest.approx((0.125 + 2.5) / 2)
    both = jnp.concatenate([z, jnp.log(jnp.asarray([[4.0, 1.0]]))], -1)
    densities = scipy.stats.norm.logpdf([0.0, 0.0], [0.5, 3.0], [2.0, 1.0])
    assert GaussianLikelihood()(both, t)[0] == pytest.approx(-densities.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        (np.ones((5, 1)), 'number 1 of 1 is 1 in all training examples'),
        (1e9 + np.arange(5.0)[:, None], 'subtract a constant'),
    ],
)
def test_numbers_that_cannot_be_learned_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        prepared(labels)


def test_units_of_a_file_are_checked():
    file = {'tljax': '0.1.0', 'task': json.dumps(json_form.encode(prepared(example()[1])))}
    assert own_format.task_of(file) == prepared(example()[1])
    for field in ({'deviation': [0.0, 1.0]}, {'mean': ['a', 'b']}, {'mean': [1.0]}):
        wrong = json.dumps(json.loads(file['task']) | field)
        with pytest.raises(ValueError, match=r'mean|deviation'):
            own_format.task_of(file | {'task': wrong})


def test_strata_are_groups_of_equal_size_by_the_first_number():
    labels = np.random.default_rng(0).normal(size=(100, 2))
    strata = Values().strata(labels)
    assert np.bincount(strata).tolist() == [10] * 10
    assert labels[strata == 0, 0].max() < labels[strata == 9, 0].min()
