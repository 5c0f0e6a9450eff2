"""Probes are the minima, the means and the neighbours that they are called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import covariance, discriminant_analysis, linear_model, neighbors
from sklearn.exceptions import ConvergenceWarning

from tljax.features import probes
from tljax.features.probes import Distance, Linear
from tljax.features.probes.selection import group_lasso
from tljax.models import layers
from tljax.types import InputError

CLASSES = 4


def blobs(examples=120, size=15, seed=0, spread=1.0, classes=CLASSES):
    """Features around their class's mean, float32, and labels."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(classes, size))
    labels = np.arange(examples, dtype=np.int32) % classes
    x = means[labels] + spread * rng.normal(size=(examples, size))
    return x.astype(np.float32), labels


def badly_scaled(examples, size):
    """Positive features, some of them ten thousand times as large as others."""
    x, labels = blobs(examples, size, spread=2.0)
    sizes = np.exp(np.random.default_rng(5).uniform(-4, 5, size))
    return (np.abs(x) * sizes).astype(np.float32), labels


def objective(kernel, bias, x, labels, decay):
    """Of logistic regression, in float64."""
    kernel, bias, x = (np.asarray(a, np.float64) for a in (kernel, bias, x))
    logits = x @ kernel + bias
    top = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    losses = log_sum - logits[np.arange(len(labels)), labels]
    return losses.mean() + decay / 2 * np.square(kernel).sum()


DECAYS = (1e-5, 1e-3, 1e-1, 10.0)


WIDE = pytest.param((40, 90), marks=pytest.mark.slow)  # which ridge regression has by default


@pytest.mark.parametrize('shape', [(120, 15), WIDE], ids=str)
def test_logistic_regression_reaches_scikit_learns_objective(shape):
    x, labels = blobs(*shape, spread=2.0)
    fit = probes.logistic(x, labels, DECAYS)
    assert fit.converged.all()
    for i, decay in enumerate(DECAYS):
        theirs = linear_model.LogisticRegression(
            C=1 / (len(x) * decay), tol=1e-8, max_iter=10_000
        ).fit(x.astype(np.float64), labels)
        wanted = objective(theirs.coef_.T, theirs.intercept_, x, labels, decay)
        found = objective(fit.linear.kernel[i], fit.linear.bias[i], x, labels, decay)
        assert found == pytest.approx(wanted, rel=1e-4)
        assert float(fit.objective[i]) == pytest.approx(found, rel=1e-4)


@pytest.mark.filterwarnings('ignore', category=ConvergenceWarning)
def test_logistic_regression_of_badly_scaled_features_is_no_worse_than_scikit_learns():
    x, labels = badly_scaled(120, 15)
    fit = probes.logistic(x, labels, [1e-4, 1.0, 1e-3, 1e-2])
    assert fit.converged.all()
    for i, decay in enumerate([1e-4, 1.0]):
        model = linear_model.LogisticRegression(C=1 / (len(x) * decay), max_iter=1000)
        theirs = model.fit(x.astype(np.float64), labels)
        wanted = objective(theirs.coef_.T, theirs.intercept_, x, labels, decay)
        found = objective(fit.linear.kernel[i], fit.linear.bias[i], x, labels, decay)
        assert found <= wanted * (1 + 1e-4)


def test_what_a_strength_gives_does_not_depend_on_the_others():
    x, labels = blobs(spread=2.0)
    many = probes.logistic(x, labels, DECAYS)
    for i, decay in enumerate(DECAYS):
        others = probes.logistic(x, labels, [7.0, 0.5, decay, 1e-4])
        assert float(others.objective[2]) == pytest.approx(float(many.objective[i]), rel=1e-5)


def test_more_strengths_than_a_program_holds_are_fitted_in_turns(monkeypatch):
    x, labels = blobs()
    more = (3e-5, 3e-3, 0.3, 30.0)  # as many as DECAYS, so that there is one program
    wanted = [probes.logistic(x, labels, decays).objective for decays in (DECAYS, more)]
    monkeypatch.setattr('tljax.features.probes.lbfgs.PROGRAM_VALUES', 4 * len(x) * CLASSES)
    found = probes.logistic(x, labels, (*DECAYS, *more))
    np.testing.assert_allclose(found.objective, np.concatenate(wanted), rtol=1e-5)


def test_what_is_given_up_is_not_called_converged():
    x, labels = blobs()
    fit = probes.logistic(x, labels, [1e-5, 100.0, 200.0, 300.0], max_steps=6)
    assert fit.converged.tolist() == [False, True, True, True]


@pytest.mark.parametrize('shape', [(120, 15), (40, 90)], ids=str)
@pytest.mark.parametrize('data', [blobs, badly_scaled])
def test_ridge_is_scikit_learns_in_float64(shape, data):
    x, _ = data(*shape)
    targets = np.random.default_rng(1).normal(size=(len(x), 3)).astype(np.float32)
    largest = float(np.linalg.norm(x - x.mean(0), 2) ** 2 / len(x))
    decays = np.float32(largest) * np.float32([1e-5, 1e-3, 1e-1, 10])
    found = probes.ridge(x, targets, decays)
    for i, decay in enumerate(decays):
        theirs = linear_model.Ridge(alpha=len(x) * float(decay), solver='svd')
        theirs.fit(x.astype(np.float64), targets.astype(np.float64))
        scale = np.abs(theirs.coef_).max()
        np.testing.assert_allclose(found.kernel[i], theirs.coef_.T, rtol=0, atol=2e-4 * scale)
        wanted = theirs.predict(x.astype(np.float64))
        np.testing.assert_allclose(found.at(i).logits(x), wanted, rtol=0, atol=2e-4)


def test_ridge_classification_is_regression_on_plus_and_minus_one():
    x, labels = blobs()
    found = probes.ridge_classifier(x, labels, [0.1])
    wanted = probes.ridge(x, 2 * np.eye(CLASSES)[labels] - 1, [0.1])
    np.testing.assert_allclose(found.kernel, wanted.kernel, rtol=1e-5, atol=1e-6)
    theirs = linear_model.RidgeClassifier(alpha=0.1 * len(x)).fit(x, labels)
    np.testing.assert_array_equal(found.at(0).logits(x).argmax(-1), theirs.predict(x))


@pytest.mark.parametrize('shape', [(40, 9), (20, 50)], ids=str)
def test_leave_one_out_equals_a_fit_to_all_other_examples(shape):
    x, labels = blobs(*shape)
    decays = np.float32([0.01, 1.0])
    outputs = probes.ridge_leave_one_out(x, labels, decays, num_classes=CLASSES)
    assert outputs.shape == (2, len(x), CLASSES)
    for i in range(0, len(x), 7):
        others = np.arange(len(x)) != i
        # The penalty is decay times the number of examples, which is one less here.
        strengths = decays * len(x) / (len(x) - 1)
        fit = probes.ridge_classifier(x[others], labels[others], strengths, num_classes=CLASSES)
        np.testing.assert_allclose(outputs[:, i], fit.logits(x[i : i + 1])[:, 0], atol=1e-4)


def test_the_nearest_mean_is_the_nearest():
    x, labels = blobs(spread=3.0)
    x = x + 10
    queries = blobs(seed=1, spread=3.0)[0] + 10
    means = np.stack([x[labels == k].mean(0) for k in range(CLASSES)])
    nearest = np.linalg.norm(queries[:, None] - means[None], axis=-1).argmin(-1)
    found = probes.nearest_mean(x, labels).logits(queries)
    np.testing.assert_array_equal(found.argmax(-1), nearest)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[labels == k].mean(0) for k in range(CLASSES)])
    cosine = queries @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    found = probes.nearest_mean(x, labels, distance=Distance.COSINE).logits(queries)
    np.testing.assert_array_equal(found.argmax(-1), cosine.argmax(-1))


@pytest.mark.parametrize('distance', Distance)
def test_a_class_without_examples_is_never_the_nearest(distance):
    x, labels = blobs()
    found = probes.nearest_mean(x, labels, num_classes=CLASSES + 1, distance=distance)
    assert found.logits(x).argmax(-1).max() == CLASSES - 1


def test_discriminant_analysis_is_scikit_learns():
    x, labels = blobs(60, 20, spread=2.0)
    x, labels = x[7:], labels[7:]  # classes of different sizes
    shrinkages = [0.01, 0.3, 1.0]
    found = probes.discriminant(x, labels, shrinkages)
    for i, shrinkage in enumerate(shrinkages):
        theirs = discriminant_analysis.LinearDiscriminantAnalysis(
            solver='lsqr', shrinkage=shrinkage
        ).fit(x.astype(np.float64), labels)
        ours = jax.nn.log_softmax(found.at(i).logits(x))
        np.testing.assert_allclose(ours, theirs.predict_log_proba(x), rtol=2e-3, atol=2e-3)


def test_the_shrinkage_of_discriminant_analysis_is_ledoit_and_wolfs():
    x, labels = blobs(60, 20)
    means = np.stack([x[labels == k].mean(0) for k in range(CLASSES)])
    rest = (x - means[labels]).astype(np.float64)
    wanted = covariance.ledoit_wolf_shrinkage(rest, assume_centered=True)
    assert 0.05 < wanted < 0.95
    named, chosen = probes.discriminant(x, labels, [wanted]), probes.discriminant(x, labels)
    np.testing.assert_allclose(chosen.kernel, named.kernel[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('distance', Distance)
def test_neighbours_are_scikit_learns(distance, monkeypatch):
    x, labels = blobs(spread=2.5)
    x = x + 3
    queries = blobs(50, seed=1, spread=2.5)[0] + 3
    monkeypatch.setattr('tljax.features.probes.neighbours.CHUNK_VALUES', 7 * len(x))
    ks = [1, 3, 10]
    found = np.asarray(probes.neighbour_votes(x, labels, queries, ks, distance=distance))
    for k, votes in zip(ks, found, strict=True):
        theirs = neighbors.KNeighborsClassifier(k, metric=distance.value).fit(x, labels)
        shares = theirs.predict_proba(queries)
        np.testing.assert_allclose(votes, shares, atol=0.3 / k)  # the order breaks ties
        clear = np.sort(shares)[:, -1] > np.sort(shares)[:, -2] + 0.5 / k
        np.testing.assert_array_equal(votes.argmax(-1)[clear], shares.argmax(-1)[clear])


def test_of_classes_with_as_many_votes_the_nearer_is_ahead():
    x, labels = np.float32([[0.0], [1.0], [3.0], [3.1]]), np.array([1, 0, 1, 0])
    options = {'distance': Distance.EUCLIDEAN}
    votes = probes.neighbour_votes(x, labels, np.float32([[-1.0], [4.0]]), [2, 4], **options)
    np.testing.assert_array_equal(votes.argmax(-1), [[1, 0], [1, 0]])


def test_votes_weigh_by_similarity_with_a_temperature():
    x, labels = blobs(20)
    queries = blobs(6, seed=1)[0]
    found = probes.neighbour_votes(x, labels, queries, [5], temperature=0.2)[0]
    unit, other = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (queries, x))
    for row, near in zip(found, unit @ other.T, strict=True):
        best = np.argsort(-near)[:5]
        wanted = np.zeros(CLASSES)
        np.add.at(wanted, labels[best], np.exp(near[best] / 0.2))
        np.testing.assert_allclose(row, wanted / wanted.sum(), rtol=1e-4)


def test_an_example_left_out_has_no_vote_on_itself():
    x, labels = blobs(40, spread=5.0)
    for i, row in enumerate(probes.neighbour_votes(x, labels, x, [3], leave_one_out=True)[0]):
        rest = np.delete(np.arange(40), i)
        wanted = probes.neighbour_votes(x[rest], labels[rest], x[i : i + 1], [3])[0, 0]
        np.testing.assert_allclose(row, wanted, atol=1e-6)


def test_a_probe_is_a_head():
    x, labels = blobs()
    found = probes.nearest_mean(x, labels)
    head = layers.ClassifierHead(CLASSES)
    logits = head.apply({'params': found.params()}, x, deterministic=True, use_running_average=True)
    np.testing.assert_allclose(logits, found.logits(x), rtol=1e-5, atol=1e-5)


def test_a_folded_layer_does_to_plain_features_what_it_did_to_scaled_ones():
    x, _ = badly_scaled(50, 12)
    x[:, 3] = 7.5  # does not vary
    scale = probes.scaling(x)
    np.testing.assert_allclose(scale.apply(x).std(0), np.arange(12) != 3, rtol=1e-4, atol=1e-6)
    layer = Linear(jax.random.normal(jax.random.key(0), (12, 3)), jnp.arange(3.0))
    found, wanted = scale.fold(layer).logits(x), layer.logits(scale.apply(x))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_equal_logits_are_never_right():
    assert probes.accuracy(jnp.zeros((3, 2)), jnp.array([0, 1, 0])) == 0
    assert probes.accuracy(jnp.full((3, 2), jnp.nan), jnp.array([0, 1, 0])) == 0
    logits = jnp.array([[2.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    assert probes.accuracy(logits, jnp.array([0, 1, 0])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    'fitter', [pytest.param(probes.logistic, marks=pytest.mark.slow), probes.ridge_classifier]
)
def test_the_strength_is_chosen_on_validation_and_refitted_on_both(fitter):
    train, val = blobs(120, 15, spread=3.0), blobs(120, 15, seed=1, spread=3.0)
    strengths = [1e-4, 1e-1, 3.0, 1e4]
    found = probes.choose(train, val, fitter=fitter, strengths=strengths, standardise=False)
    scores = []
    for strength in strengths:
        fit = fitter(*train, [strength], num_classes=CLASSES)
        layer = getattr(fit, 'linear', fit)
        scores.append(float(probes.accuracy(layer.at(0).logits(val[0]), val[1])))
    np.testing.assert_allclose(found.val_accuracy, scores, atol=0.006)
    assert found.best_val_accuracy > min(scores)
    assert scores[strengths.index(pytest.approx(found.strength))] >= max(scores) - 0.006
    both = [np.concatenate(parts) for parts in zip(train, val, strict=True)]
    fit = fitter(*both, [found.strength])
    wanted = getattr(fit, 'linear', fit).at(0)
    np.testing.assert_allclose(found.linear.kernel, wanted.kernel, rtol=1e-2, atol=1e-4)


def test_of_strengths_as_good_the_largest_is_chosen():
    train, val = blobs(spread=0.01), blobs(seed=1, spread=0.01)
    found = probes.choose(train, val, **{**RIDGE, 'strengths': [1e-3, 1e-1, 1e-2]})
    assert found.strength == pytest.approx(0.1)


def test_standardised_probes_are_given_for_plain_features():
    x, labels = badly_scaled(100, 12)
    options = {**RIDGE, 'strengths': [1e-2]}
    found = probes.choose((x[:60], labels[:60]), (x[60:], labels[60:]), **options)
    scale = probes.scaling(x)
    wanted = probes.ridge_classifier(scale.apply(x), labels, [1e-2]).at(0)
    logits = wanted.logits(scale.apply(x))
    np.testing.assert_allclose(found.linear.logits(x), logits, rtol=1e-2, atol=1e-2)


RIDGE = {'fitter': probes.ridge_classifier, 'strengths': [1e-2, 1e-1, 1.0]}


def depths(seed):
    """Three stages, of which the middle one tells the class."""
    x, labels = blobs(80, 10, seed=seed)
    noise = np.random.default_rng(seed).normal(size=(80, 14)).astype(np.float32)
    return {'low': noise[:, :6], 'mid': x, 'top': noise[:, 6:]}, labels


def test_the_stage_that_tells_the_class_is_the_one_that_transfers_best():
    (train, labels), (val, val_labels) = depths(0), depths(1)
    found = probes.by_stage(train, labels, val, val_labels, **RIDGE)
    accuracies = {stage: probe.best_val_accuracy for stage, probe in found.items()}
    assert list(found) == ['low', 'mid', 'top']
    wanted = probes.choose((train['low'], labels), (val['low'], val_labels), **RIDGE)
    np.testing.assert_allclose(
        found['low'].linear.kernel, wanted.linear.kernel, rtol=1e-4, atol=1e-5
    )
    assert accuracies['mid'] > 0.9 > 0.6 > max(accuracies['low'], accuracies['top'])


def test_features_that_tell_the_class_are_chosen_from_all_stages():
    (train, labels), (val, val_labels) = depths(0), depths(1)
    found = probes.head2toe(train, labels, val, val_labels, shares=[10 / 24], **RIDGE)
    assert len(found.chosen['mid']) >= 7
    assert sum(map(len, found.chosen.values())) == 10
    for stage, places in found.chosen.items():
        rest = np.setdiff1d(np.arange(train[stage].shape[1]), places)
        scores = found.relevance[stage]
        if len(places) and len(rest):
            assert scores[places].min() >= scores[rest].max()
    everything = np.concatenate(list(val.values()), 1)
    logits = found.linear.logits(everything)
    masked = [
        np.where(np.isin(np.arange(part[stage].shape[1]), found.chosen[stage]), part[stage], 0)
        for part in (train, val)
        for stage in part
    ]
    parts = (np.concatenate(masked[:3], 1), labels), (np.concatenate(masked[3:], 1), val_labels)
    wanted = probes.choose(*parts, **RIDGE)
    assert wanted.strength == found.strength
    np.testing.assert_allclose(logits, wanted.linear.logits(parts[1][0]), rtol=1e-4, atol=1e-4)
    assert probes.accuracy(logits, val_labels) > 0.9


def test_the_share_of_features_is_chosen_on_validation():
    (train, labels), (val, val_labels) = depths(0), depths(1)
    found = probes.head2toe(train, labels, val, val_labels, shares=[0.04, 0.4], **RIDGE)
    assert found.share == 0.4
    assert found.val_accuracy[0] < found.val_accuracy[1]


def test_the_group_lasso_is_where_its_conditions_say_it_is():
    x, labels = blobs(100, 20, spread=2.0)
    x = np.asarray(probes.scaling(x).apply(x), np.float64)
    kernel, bias = group_lasso(jnp.asarray(x, jnp.float32), jnp.asarray(labels), CLASSES, 0.3, 2000)
    targets = np.eye(CLASSES)[labels]
    slope = x.T @ (targets - targets.mean(0)) / len(x)
    penalty = 0.3 * np.linalg.norm(slope, axis=1).max()
    shares = np.asarray(jax.nn.softmax(x @ np.asarray(kernel, np.float64) + np.asarray(bias)))
    gradient = x.T @ (shares - targets) / len(x)
    norms = np.linalg.norm(kernel, axis=1)
    assert 0 < (norms == 0).sum() < 20
    np.testing.assert_array_less(np.linalg.norm(gradient[norms == 0], axis=1), penalty * 1.001)
    unit = np.asarray(kernel)[norms > 0] / norms[norms > 0][:, None]
    np.testing.assert_allclose(gradient[norms > 0], -penalty * unit, atol=1e-3 * penalty)
    np.testing.assert_allclose((shares - targets).mean(0), 0, atol=1e-4)


X, LABELS = blobs(20)
NOT_FINITE = np.where(np.arange(20)[:, None] == 3, np.nan, X)
BAD = {
    'not finite': (lambda: probes.logistic(NOT_FINITE, LABELS, [1]), '1 of 20 examples'),
    'lengths': (lambda: probes.nearest_mean(X, LABELS[:5]), r'\[20, 15\] and labels \[5\]'),
    'label': (lambda: probes.nearest_mean(X, LABELS, num_classes=3), 'labels are 0 to 3'),
    'kind': (lambda: probes.nearest_mean(X, LABELS * 1.0), 'wanted integers'),
    'decay': (lambda: probes.logistic(X, LABELS, [0.0]), 'decays are'),
    'ridge': (lambda: probes.ridge(X, LABELS, [1.0]), r'targets are \[20\]'),
    'shrinkage': (lambda: probes.discriminant(X, LABELS, [2.0]), 'shrinkages are'),
    'class': (lambda: probes.discriminant(X, LABELS, num_classes=6), r'classes \[4, 5\]'),
    'k': (lambda: probes.neighbour_votes(X, LABELS, X, [21]), 'each 1 to 20'),
    'own k': (lambda: probes.neighbour_votes(X, LABELS, X, [20], leave_one_out=True), '1 to 19'),
    'queries': (lambda: probes.neighbour_votes(X, LABELS, X[:, :3], [1]), 'do not fit'),
    'temperature': (lambda: probes.neighbour_votes(X, LABELS, X, [1], temperature=0.0), 'temper'),
    'widths': (lambda: probes.choose((X, LABELS), (X[:, 1:], LABELS)), '15 for training, 14'),
    'stages': (lambda: probes.by_stage({'a': X}, LABELS, {'b': X}, LABELS), 'stages are'),
    'share': (lambda: probes.head2toe({'a': X}, LABELS, {'a': X}, LABELS, shares=[2]), 'shares'),
    'strength': (lambda: probes.relevance(X, LABELS, 1.0), 'strength is 1.0'),
}


@pytest.mark.parametrize('name', BAD)
def test_what_cannot_be_probed_is_said(name):
    call, words = BAD[name]
    with pytest.raises(InputError, match=words):
        call()
