"""Scores agree with their papers, know the constructed cases, and refuse what they cannot judge."""

import functools
import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from tests import plain_scores
from tljax.features import transferability
from tljax.features.transferability import spectra
from tljax.types import InputError

OF_FEATURES = {
    'logme': transferability.logme,
    'nleep': functools.partial(transferability.nleep, components_per_class=2),
    'h_score': transferability.h_score,
    'shrunk_h_score': transferability.shrunk_h_score,
    'sfda': transferability.sfda,
    'transrate': transferability.transrate,
    'gbc': transferability.gbc,
    'knn_accuracy': transferability.knn_accuracy,
    'linear_probe_accuracy': transferability.linear_probe_accuracy,
}
PLAIN = {name: getattr(plain_scores, name) for name in OF_FEATURES} | {
    'nleep': functools.partial(plain_scores.nleep, components_per_class=2)
}
MOVED_BY_SHIFT = {'logme'}  # it has no intercept
MOVED_BY_SCALE = {'sfda', 'transrate', 'gbc'}
each_score = pytest.mark.parametrize('name', OF_FEATURES)


def blobs(count=60, width=7, classes=3, apart=1.0, seed=0):
    """Gaussian classes of unequal sizes, correlated features, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, classes, count))
    labels[:classes] = np.arange(classes)
    means = apart * rng.normal(size=(classes, width))
    mixing = np.eye(width) + 0.3 * rng.normal(size=(width, width))
    return (means[labels] + rng.normal(size=(count, width))) @ mixing + 0.5, labels


def rotation(width, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def ill_conditioned(width):
    """Features whose Gram matrix has eigenvalues below its own rounding."""
    x, labels = blobs(width=width)
    return x * np.logspace(0, -7, width), labels


CASES = {
    'tall': blobs(),
    'wide': blobs(count=30, width=45),
    'wide and small': (0.1 * blobs(count=30, width=45)[0], blobs(count=30, width=45)[1]),
    'float32': (blobs()[0].astype(np.float32), blobs()[1]),
    'inactive channels': (np.pad(blobs()[0], ((0, 0), (2, 1))), blobs()[1]),
}


@each_score
@pytest.mark.parametrize('case', CASES)
def test_a_score_is_that_of_its_paper(name, case):
    x, labels = CASES[case]
    wanted = PLAIN[name](x.astype(np.float64), labels)
    tolerance = 1e-6 if case == 'wide' and name == 'sfda' else 1e-9  # a matrix of condition 1e10
    assert OF_FEATURES[name](x, labels) == pytest.approx(wanted, rel=tolerance, abs=1e-10)


@pytest.mark.parametrize('name', ['logme', 'h_score', 'transrate', 'linear_probe_accuracy'])
def test_a_score_of_ill_conditioned_features_is_that_of_its_paper(name):
    x, labels = ill_conditioned(7)
    if name == 'h_score':  # whose value no scaling of the features changes
        wanted = plain_scores.h_score(x / np.logspace(0, -7, 7), labels)
    else:
        wanted = PLAIN[name](x, labels)
    assert OF_FEATURES[name](x, labels) == pytest.approx(wanted, rel=1e-7)


@each_score
def test_rotating_the_features_changes_no_score(name):
    x, labels = blobs()
    turned = OF_FEATURES[name](x @ rotation(7), labels)
    assert turned == pytest.approx(OF_FEATURES[name](x, labels), rel=1e-9)


@each_score
def test_only_logme_depends_on_the_origin(name):
    x, labels = blobs()
    same = pytest.approx(OF_FEATURES[name](x, labels), rel=1e-9)
    assert (OF_FEATURES[name](x + 3 * np.arange(7), labels) == same) == (name not in MOVED_BY_SHIFT)


@each_score
def test_the_scale_matters_where_it_says_so(name):
    x, labels = blobs()
    same = pytest.approx(OF_FEATURES[name](x, labels), rel=1e-9)
    assert (OF_FEATURES[name](0.01 * x, labels) == same) == (name not in MOVED_BY_SCALE)


@each_score
def test_neither_the_order_nor_the_numbers_of_classes_matter(name):
    x, labels = blobs()
    order = np.random.default_rng(2).permutation(len(x))
    changed = OF_FEATURES[name](x[order], np.array([2, 0, 1])[labels][order])
    # The mixture of N-LEEP starts at random examples.
    tolerance = 0.2 if name == 'nleep' else 1e-9
    assert changed == pytest.approx(OF_FEATURES[name](x, labels), rel=tolerance)


@each_score
def test_classes_that_lie_farther_apart_score_more(name):
    found = [OF_FEATURES[name](*blobs(count=200, apart=apart)) for apart in (0.0, 0.5, 1.0)]
    assert found == sorted(found)
    assert found[0] < found[2]


@each_score
def test_labels_at_random_score_less(name):
    x, labels = blobs(count=200)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert OF_FEATURES[name](x, shuffled) < OF_FEATURES[name](x, labels)


@each_score
def test_features_that_never_change_score_least(name):
    _, labels = blobs()
    assert OF_FEATURES[name](np.full((60, 7), 0.7), labels) <= OF_FEATURES[name](*blobs())


@each_score
def test_features_that_are_the_classes_get_a_finite_score(name):
    labels = np.repeat(np.arange(3), 20)
    assert np.isfinite(OF_FEATURES[name](np.eye(3)[labels], labels))


@each_score
def test_jax_arrays_and_half_precision_are_taken(name):
    x, labels = blobs()
    half = jnp.asarray(x, jnp.bfloat16)
    wanted = OF_FEATURES[name](np.asarray(half, np.float64), labels)
    assert OF_FEATURES[name](half, jnp.asarray(labels)) == pytest.approx(wanted, rel=1e-12)


def with_nan(x, labels):
    x[4, 2] = np.nan
    return x, labels


BAD = {
    'nan': (with_nan, r'features\[4, 2\] is nan'),
    'one class': (lambda x, y: (x, 0 * y), 'all of one class'),
    'empty class': (lambda x, y: (x, np.where(y > 0, y + 1, 0)), r'no example of \[1\]'),
    'negative': (lambda x, y: (x, y - 1), 'has -1, wanted integers from 0'),
    'too large': (lambda x, y: (x, y + 10**9), 'labels has 1000000002 for 60 examples'),
    'swapped': (lambda x, y: (y, x), r'features is \[60\] int64, wanted a matrix'),
    'float labels': (lambda x, y: (x, y.astype(float)), r'labels is \[60\] float64'),
    'lengths': (lambda x, y: (x[1:], y), 'labels has 60 entries for 59 examples'),
    'maps': (lambda x, y: (x[:, None], y), r'features is \[60, 1, 7\]'),
    'none': (lambda x, y: (x[:0], y[:0]), r'features is \[0, 7\]'),
}


@each_score
@pytest.mark.parametrize('kind', BAD)
def test_what_cannot_be_judged_is_refused_by_name(name, kind):
    change, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        OF_FEATURES[name](*change(*blobs()))


@pytest.mark.parametrize('shape', [(9, 5), (5, 9), (150, 140), (140, 150)])
def test_factors_multiply_to_the_features(shape):
    x = np.random.default_rng(0).normal(size=shape)
    found = spectra.factors(x)
    u, values = found.left(), np.sqrt(found.squares)
    np.testing.assert_allclose(values, np.linalg.svd(x)[1], rtol=1e-9)
    np.testing.assert_allclose(u.T @ u, np.eye(min(shape)), atol=1e-9)
    np.testing.assert_allclose(u @ (u.T @ x), x, atol=1e-9)
    np.testing.assert_allclose(found.project(np.eye(len(x))), u.T, atol=1e-9)


def test_large_features_score_what_small_ones_would(monkeypatch):
    x, labels = blobs(count=200, width=130)
    large = transferability.logme(x, labels)
    assert spectra.factors(x).v.reflectors is not None
    monkeypatch.setattr(spectra, 'LARGE', 1000)
    assert transferability.logme(x, labels) == pytest.approx(large, rel=1e-12)


def test_factors_of_ill_conditioned_features_are_exact():
    x, _ = ill_conditioned(7)
    found = spectra.factors(x)
    np.testing.assert_allclose(np.sqrt(found.squares), np.linalg.svd(x)[1], rtol=1e-9)
    np.testing.assert_allclose(found.left().T @ found.left(), np.eye(7), atol=1e-9)


def test_inactive_channels_do_not_make_factors_slow():
    found = spectra.factors(np.pad(blobs()[0], ((0, 0), (2, 1))))
    assert found.u is None  # they come from the Gram matrix


@pytest.mark.parametrize('order', ['C', 'F'])
def test_a_gram_matrix_is_the_product_in_any_order_of_axes(order):
    x = np.array(np.random.default_rng(0).normal(size=(9, 5)), order=order)
    np.testing.assert_allclose(spectra.gram(x), x.T @ x, rtol=1e-12)


def test_logme_knows_a_model_without_signal():
    """Targets orthogonal to the features: weights of 0, noise of the targets' own size."""
    labels = np.repeat([0, 1], 4)
    x = np.array([[1.0], [-1.0]] * 4)
    assert transferability.logme(x, labels) == pytest.approx(-0.5 * (np.log(2 * np.pi * 0.5) + 1))


def test_logme_knows_the_evidence_of_as_many_features_as_examples():
    """With features I, targets are drawn with variance 1 / alpha + 1 / beta each."""
    labels = np.repeat([0, 1], 4)
    wanted = -0.5 * (np.log(2 * np.pi * 0.5) + 1)
    assert transferability.logme(np.eye(8), labels) == pytest.approx(wanted)


def test_h_score_of_independent_features_as_many_as_examples_is_k_less_one():
    x, labels = blobs(count=12, width=40)
    assert transferability.h_score(x, labels) == pytest.approx(2)


def test_h_score_of_one_feature_is_the_share_of_variance_between():
    labels = np.repeat([0, 1], 50)
    x = np.tile([1.0, -1.0], 50) + np.where(labels, 2.0, -2.0)
    assert transferability.h_score(x[:, None], labels) == pytest.approx(4 / 5)


@pytest.mark.parametrize('seed', range(3))
def test_h_score_is_the_same_under_any_invertible_map(seed):
    x, labels = blobs()
    mixing = np.random.default_rng(seed).normal(size=(7, 7))
    assert transferability.h_score(x @ mixing - 4, labels) == pytest.approx(
        transferability.h_score(x, labels)
    )


def test_h_score_is_the_same_in_any_units_of_each_feature():
    x, labels = blobs()
    found = transferability.h_score(x * np.logspace(0, -18, 7), labels)
    assert found == pytest.approx(transferability.h_score(x, labels), rel=1e-9)


def test_transrate_of_one_feature_is_the_difference_of_the_logarithms():
    labels = np.repeat([0, 1], 50)
    x = np.tile([1.0, -1.0], 50) * np.where(labels, 3.0, 1.0)
    wanted = 0.5 * np.log(1 + 5 / 0.1) - 0.25 * (np.log(1 + 1 / 0.1) + np.log(1 + 9 / 0.1))
    assert transferability.transrate(x[:, None], labels, distortion=0.1) == pytest.approx(wanted)


@pytest.mark.parametrize('spherical', [True, False])
def test_gbc_of_equal_spreads_is_an_exponential_of_the_distance(spherical):
    labels = np.repeat([0, 1], 50)
    x = np.tile([1.0, -1.0], 50) + np.where(labels, 2.0, -2.0)
    found = transferability.gbc(x[:, None], labels, spherical=spherical)
    assert found == pytest.approx(-2 * np.exp(-(4.0**2) / 8))


def test_gbc_of_the_same_classes_is_minus_the_number_of_pairs():
    x = np.tile(blobs(count=20)[0], (3, 1))
    assert transferability.gbc(x, np.repeat([0, 1, 2], 20)) == pytest.approx(-6)


def test_a_spherical_gbc_takes_the_mean_variance():
    x, labels = blobs()
    turned = x @ np.linalg.svd(x - x.mean(0))[2].T
    even = np.sqrt([[turned[labels == k].var(0).mean()] for k in range(3)])
    means = np.stack([turned[labels == k].mean(0) for k in range(3)])
    apart = ((means[:, None] - means) ** 2).sum(-1) / (even**2 + even.T**2) / 4
    log = 7 / 2 * np.log((even**2 + even.T**2) / 2 / (even * even.T))
    wanted = 3 - np.exp(-apart - log).sum()
    assert transferability.gbc(x, labels, spherical=True) == pytest.approx(wanted)


def test_sfda_of_classes_far_apart_is_near_0_and_of_one_heap_near_the_entropy():
    far, labels = blobs(count=200, apart=8)
    assert -0.05 < transferability.sfda(far, labels) <= 0
    heap, labels = blobs(count=3000, apart=0)
    shares = np.bincount(labels) / 3000
    assert transferability.sfda(heap, labels) == pytest.approx(
        (shares * np.log(shares)).sum(), abs=0.05
    )


def test_neighbours_of_a_tie_are_decided_by_the_nearest():
    x = np.array([[0.0], [1.0], [-1.5], [9.0], [-9.5], [100.0]])
    labels = np.array([0, 0, 1, 1, 1, 1])
    wanted = plain_scores.knn_accuracy(x, labels, 2)
    assert transferability.knn_accuracy(x, labels, neighbours=2) == wanted == 4 / 6


def test_neighbours_are_the_same_in_blocks_of_rows(monkeypatch):
    x, labels = blobs()
    whole = transferability.knn_accuracy(x, labels)
    monkeypatch.setattr('tljax.features.transferability.accuracy.BLOCK', 7)
    assert transferability.knn_accuracy(x, labels) == whole


@pytest.mark.parametrize(
    'call',
    [
        lambda x, y: transferability.knn_accuracy(x, y, neighbours=60),
        lambda x, y: transferability.knn_accuracy(x, y, neighbours=0),
        lambda x, y: transferability.linear_probe_accuracy(x, y, strengths=(1.0, 0.0)),
        lambda x, y: transferability.linear_probe_accuracy(x, y, strengths=()),
        lambda x, y: transferability.transrate(x, y, distortion=0),
        lambda x, y: transferability.gbc(x, y, components=0),
        lambda x, y: transferability.gbc(x, y, least_variance=0),
        lambda x, y: transferability.nleep(x, y, energy=1.1),
        lambda x, y: transferability.nleep(x, y, components_per_class=21),
    ],
)
def test_settings_out_of_range_are_refused(call):
    with pytest.raises(InputError, match='wanted'):
        call(*blobs())


def test_the_code_of_the_docs_runs():
    text = (pathlib.Path(__file__).parents[2] / 'docs/transferability.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})


def test_the_docs_name_every_score():
    text = (pathlib.Path(__file__).parents[2] / 'docs/transferability.md').read_text()
    named = set(re.findall(r'^\| `(\w+)` \|', text, re.MULTILINE))
    assert named >= set(transferability.__all__) - {'Moments', 'moments'}


def test_logme_of_numbers_is_the_evidence_of_a_gaussian_process_and_has_no_unit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    y = x @ rng.normal(size=4) + 0.5 * rng.normal(size=60)
    score = transferability.logme(x, y, numbers=True)
    assert score == pytest.approx(transferability.logme(x, 40 + 1000 * y, numbers=True))
    standard = (y - y.mean()) / y.std()
    # The evidence is that of a Gaussian with covariance a x x' + b, at its best a and b.
    grid = [
        scipy.stats.multivariate_normal.logpdf(standard, cov=a * x @ x.T + b * np.eye(60)) / 60
        for a in np.geomspace(0.01, 1, 40)
        for b in np.geomspace(0.01, 1, 40)
    ]
    assert score >= max(grid) - 1e-9
    assert score == pytest.approx(max(grid), abs=0.01)
    assert score > transferability.logme(rng.permutation(x), y, numbers=True)
    both = transferability.logme(x, np.stack([y, rng.normal(size=60)], 1), numbers=True)
    assert both < score


def test_numbers_that_cannot_be_judged_are_refused():
    for labels, message in ((np.ones(5), 'the same for all'), (np.array([1, np.nan]), 'finite')):
        x = np.random.default_rng(0).normal(size=(len(labels), 2))
        with pytest.raises(InputError, match=message):
            transferability.logme(x, labels, numbers=True)
