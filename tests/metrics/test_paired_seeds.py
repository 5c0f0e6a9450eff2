"""Paired comparison over seeds: against SciPy, plain forms and simulated experiments."""

import itertools

import numpy as np
import pytest
import scipy.stats

from tljax.metrics import paired_accuracy, paired_seeds
from tljax.types import InputError

RNG = np.random.default_rng(0)
DIFFERENCES = RNG.normal(0.5, 1, 9)


def scores(rng, repeats, seeds, images, by_seed, by_image):
    """Right or wrong of two methods [2, M, S, N], and the true difference of their accuracies.

    An image is right if a sum of normal numbers is positive: one of each seed, one of each image,
    and one of each pair of them.
    """
    start = np.array([1.0, 0.8], np.float32)[:, None, None, None]
    shapes = (repeats, seeds, 1), (repeats, 1, images), (repeats, seeds, images)
    parts = (
        np.float32(deviation) * rng.standard_normal((2, *shape), np.float32)
        for deviation, shape in zip((by_seed, by_image, 1), shapes, strict=True)
    )
    true = scipy.stats.norm.cdf(start.ravel() / np.sqrt(1 + by_seed**2 + by_image**2))
    return start + sum(parts) > 0, float(true[0] - true[1])


CASES = {'seeds': (0.5, 0.2), 'images': (0.0, 1.5), 'both': (0.12, 1.0)}
SIZES = [(3, 200, 2000), (5, 500, 2000), (20, 200, 2000), (3, 2000, 1000)]


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize(
    ('seeds', 'images', 'repeats'),
    [SIZES[0], *(pytest.param(*size, marks=pytest.mark.slow) for size in SIZES[1:])],
)
def test_an_interval_contains_the_true_difference_in_93_to_97_percent(case, seeds, images, repeats):
    rng, hits = np.random.default_rng(1), []
    for _ in range(5):
        (first, second), true = scores(rng, repeats // 5, seeds, images, *CASES[case])
        d = first.astype(np.float32) - second
        half = paired_seeds.crossed_half_width(d)
        hits.append(np.abs(d.mean((1, 2)) - true) <= half)
    assert 0.93 <= np.mean(hits) <= 0.97


def test_two_seeds_get_cochrans_quantile():
    first, second = RNG.random((2, 2, 15))
    by_seed, by_image, residual = plain_mean_squares(first - second)
    parts = np.array([by_seed, max(by_image - residual, 0)])
    quantile = np.average(scipy.stats.t.ppf(0.975, [1, 14]), weights=parts)
    result = paired_seeds.difference(first, second)
    assert result.high - result.difference == pytest.approx(quantile * np.sqrt(parts.sum() / 30))


@pytest.mark.parametrize('options', [{}, {'same_images': False}])
def test_new_test_images_for_each_seed_are_covered_too(options):
    rng, hits = np.random.default_rng(2), 0
    (first, second), true = scores(rng, 1000 * 5, 1, 200, 0.1, 1.0)
    first, second = (x.reshape(1000, 5, 200) for x in (first, second))
    for one, other in zip(first, second, strict=True):
        result = paired_seeds.difference(one, other, **options)
        hits += result.low <= true <= result.high
    assert 930 <= hits <= 970


def plain_mean_squares(d):
    """The mean squares of seeds, images and residual of d [S, N], by least squares."""
    seeds, images = d.shape
    row, column = (index.ravel() for index in np.indices(d.shape))
    constant = np.ones((d.size, 1))
    by_seed, by_image = np.eye(seeds)[row], np.eye(images)[column]

    def residual(*columns):
        matrix = np.hstack([constant, *columns])
        return ((d.ravel() - matrix @ np.linalg.lstsq(matrix, d.ravel())[0]) ** 2).sum()

    both = residual(by_seed, by_image)
    return (
        (residual(by_image) - both) / (seeds - 1),
        (residual(by_seed) - both) / (images - 1),
        both / (seeds - 1) / (images - 1),
    )


def test_the_variance_of_crossed_seeds_and_images_is_that_of_least_squares():
    first, second = RNG.random((2, 4, 15))
    second = second + np.linspace(0, 2, 15)
    mean_seeds, mean_images, residual = plain_mean_squares(first - second)
    parts = np.array([mean_seeds, mean_images - residual])
    cochran = np.average(scipy.stats.t.ppf(0.95, [3, 14]), weights=parts)
    satterthwaite = scipy.stats.t.ppf(0.95, parts.sum() ** 2 / (parts**2 / [3, 14]).sum())
    quantile = (cochran + satterthwaite) / 2
    half = quantile * np.sqrt(parts.sum() / 60)
    result = paired_seeds.difference(first, second, level=0.9)
    assert (result.low, result.high) == pytest.approx(
        (result.difference - half, result.difference + half)
    )
    assert result.difference == pytest.approx((first - second).mean())
    assert result.differences == pytest.approx((first - second).mean(1))
    assert (result.seeds, result.images) == (4, 15)


def test_methods_that_do_not_depend_on_the_seed_get_the_interval_over_images():
    first, second = RNG.random((2, 40))
    result = paired_seeds.difference([first] * 6, [second] * 6)
    plain = scipy.stats.ttest_1samp(first - second, 0).confidence_interval()
    assert (result.low, result.high) == pytest.approx(tuple(plain))


@pytest.mark.parametrize('lengths', [(30, 30, 30), (30, 20, 25)])
def test_images_nested_in_seeds_get_students_interval_over_seeds(lengths):
    first, second = ([RNG.random(n) for n in lengths] for _ in range(2))
    result = paired_seeds.difference(first, second, same_images=False)
    means = [[x.mean() for x in method] for method in (first, second)]
    plain = scipy.stats.ttest_rel(*means).confidence_interval()
    assert (result.low, result.high) == pytest.approx(tuple(plain))
    assert result.images == min(lengths)


def test_different_numbers_of_images_are_taken_as_nested():
    first, second = ([RNG.random(n) for n in (9, 5, 7)] for _ in range(2))
    assert paired_seeds.difference(first, second) == paired_seeds.difference(
        first, second, same_images=False
    )


def test_one_seed_gets_the_tests_over_images():
    first, second = RNG.random((2, 1, 60)) < [[[0.9]], [[0.6]]]
    result = paired_seeds.difference(first, second)
    plain = paired_accuracy.accuracy_difference(first[0], second[0])
    assert result[2:6] == plain[3:]
    assert paired_seeds.difference(first.astype(float), second.astype(int)) == result
    assert (result.seeds, result.images, result.least_p) == (1, 60, 2**-59)


def test_one_seed_with_other_scores_gets_students_interval_over_images():
    first, second = RNG.random((2, 1, 12))
    result = paired_seeds.difference(first, second)
    plain = scipy.stats.ttest_rel(first[0], second[0]).confidence_interval()
    assert (result.low, result.high) == pytest.approx(tuple(plain))
    assert result.p_value == paired_seeds.sign_flip(first[0] - second[0])


def test_equal_methods_have_no_difference():
    same = RNG.random((5, 50)) < 0.5
    result = paired_seeds.difference(same, same)
    assert result[2:6] == (0, 0, 0, 1)


def test_without_images_the_interval_is_students_over_seeds():
    first, second = RNG.random((2, 7))
    result = paired_seeds.difference_of_means(first, second)
    plain = scipy.stats.ttest_rel(first, second).confidence_interval()
    assert (result.low, result.high) == pytest.approx(tuple(plain))
    assert (result.images, result.p_value) == (0, paired_seeds.sign_flip(first - second))


def test_one_seed_without_images_has_no_interval():
    result = paired_seeds.difference_of_means(np.array([0.9]), np.array([0.8]))
    assert np.isnan([result.low, result.high]).all()
    assert result.p_value == result.least_p == 1


@pytest.mark.parametrize('seeds', [1, 2, 5, 9])
def test_the_sign_flip_test_is_scipys_permutation_test(seeds):
    x = DIFFERENCES[:seeds]
    assert paired_seeds.sign_flip(x) == np.mean(np.abs(flips(x)) >= abs(x.sum()) - 1e-12)
    if seeds > 1:  # SciPy wants two values
        plain = scipy.stats.permutation_test(
            (x,), np.mean, permutation_type='samples', n_resamples=np.inf
        )
        assert paired_seeds.sign_flip(x) == pytest.approx(plain.pvalue)


def test_equal_sums_count_as_extreme_although_they_are_rounded():
    x = np.array([0.1, 0.2, 0.3, -0.1, 0.7, 0.1])
    assert paired_seeds.sign_flip(x) == paired_seeds.sign_flip(np.rint(10 * x))


def test_more_than_20_seeds_sample_the_patterns_of_signs():
    x = np.random.default_rng(3).normal(0.3, 1, 24)
    sums = flips(x[:12])[:, None] + flips(x[12:])
    exact = np.mean(np.abs(sums) >= abs(x.sum()))
    assert paired_seeds.sign_flip(x, resamples=20_000) == pytest.approx(exact, abs=0.01)
    assert paired_seeds.sign_flip(np.ones(24), resamples=99) == 0.01


def flips(x):
    """The sums of x under all patterns of signs."""
    return np.array(list(itertools.product((1, -1), repeat=len(x)))) @ x


@pytest.mark.parametrize(('seeds', 'least'), [(1, 1), (5, 0.0625), (6, 0.03125), (20, 2**-19)])
def test_the_least_p_value_is_that_of_differences_of_one_sign(seeds, least):
    assert paired_seeds.least_sign_flip(seeds) == least
    assert paired_seeds.sign_flip(np.arange(1, seeds + 1)) == least


@pytest.mark.parametrize(('tests', 'seeds'), [(1, 6), (2, 7), (10, 9), (10**6, None)])
def test_significance_needs_at_least_so_many_seeds(tests, seeds):
    assert paired_seeds.least_seeds(0.05, tests) == seeds


def test_holm_multiplies_the_smallest_p_value_by_the_number_of_tests():
    adjusted = paired_seeds.holm([0.01, 0.04, np.nan, 0.03, 0.6])
    np.testing.assert_allclose(adjusted, [0.04, 0.09, np.nan, 0.09, 0.6])


def test_holm_rejects_what_its_steps_reject():
    for p in RNG.random((50, 6)) ** 3:
        rejected = set()
        for step, index in enumerate(np.argsort(p)):
            if p[index] > 0.05 / (6 - step):
                break
            rejected.add(int(index))
        assert set(np.flatnonzero(paired_seeds.holm(p) <= 0.05).tolist()) == rejected


def test_sweeps_without_any_difference_have_a_false_one_in_at_most_5_percent():
    accuracies = np.random.default_rng(4).normal(0.8, 0.01, (1000, 7, 8)).round(3)
    differences = accuracies[:, 1:] - accuracies[:, :1]
    p_values = [[paired_seeds.sign_flip(method) for method in sweep] for sweep in differences]
    errors = sum(paired_seeds.holm(p).min() < 0.05 for p in p_values)
    assert 15 <= errors <= 50


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: paired_seeds.difference([], []), '0 and 0 seeds'),
        (lambda: paired_seeds.difference([[1]], [[1], [0]]), '1 and 2 seeds cannot be paired'),
        (lambda: paired_seeds.difference([[1, 0]], [[1]]), r'pair 0 are \[2\] and \[1\]'),
        (lambda: paired_seeds.difference([[np.nan]], [[1]]), 'index 0 is not finite'),
        (lambda: paired_seeds.difference([[1]], [[1]], level=95), 'level is 95'),
        (lambda: paired_seeds.difference_of_means([1], [1, 2]), '1 and 2 seeds'),
        (lambda: paired_seeds.sign_flip([]), r'values are \[0\]'),
        (lambda: paired_seeds.holm([1.2]), 'from 0 to 1'),
    ],
)
def test_scores_that_cannot_be_paired_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
