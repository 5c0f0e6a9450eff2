"""Weights of source examples recover known ratios of densities, and mend what they are for."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tljax import sample_transfer
from tljax.types import InputError

OF_DOMAINS = {
    'logistic_ratio': sample_transfer.logistic_ratio,
    'kernel_mean_matching': sample_transfer.kernel_mean_matching,
    'kliep': sample_transfer.kliep,
    'nearest_selection': functools.partial(sample_transfer.nearest_selection, neighbours=5),
    'nearest_counted': functools.partial(
        sample_transfer.nearest_selection, neighbours=50, counted=True
    ),
}
each_estimator = pytest.mark.parametrize('name', OF_DOMAINS)


def shifted(count=1000, target_count=500, width=2, shift=1.0, seed=0):
    """Gaussians of one spread, a step apart along the first axis, and the ratio for the source."""
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(count, width)), rng.normal(size=(target_count, width))
    target[:, 0] += shift
    ratio = np.exp(shift * source[:, 0])
    return source, target, ratio / ratio.mean()


def weigh(name, source, target):
    return OF_DOMAINS[name](source=source, target=target)


@pytest.mark.parametrize(
    ('name', 'width', 'least'),
    [
        ('logistic_ratio', 2, 0.97),
        pytest.param('logistic_ratio', 20, 0.9, marks=pytest.mark.slow),
        pytest.param('kernel_mean_matching', 2, 0.85, marks=pytest.mark.slow),
        pytest.param('kernel_mean_matching', 20, 0.65, marks=pytest.mark.slow),
        pytest.param('kliep', 1, 0.85, marks=pytest.mark.slow),
        pytest.param('kliep', 2, 0.8, marks=pytest.mark.slow),
        ('nearest_counted', 2, 0.6),
        ('nearest_selection', 2, 0.25),
    ],
)
def test_weights_go_with_the_known_ratio_of_densities(name, width, least):
    """The mean correlation over three draws of 1000 source and 500 target examples."""
    found = []
    for seed in range(3):
        source, target, ratio = shifted(width=width, seed=seed)
        found.append(np.corrcoef(weigh(name, source, target), ratio)[0, 1])
    assert np.mean(found) > least


@pytest.mark.parametrize('name', ['kernel_mean_matching', 'kliep'])
def test_kernels_tell_a_change_of_spread(name):
    """Where the logarithm of the ratio is quadratic, and a logistic regression blind."""
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(1000, 1)), rng.normal(scale=0.5, size=(500, 1))
    ratio = np.exp(-1.5 * source[:, 0] ** 2)
    assert np.corrcoef(weigh(name, source, target), ratio)[0, 1] > 0.9


@pytest.mark.parametrize(
    ('name', 'margin'),
    [('logistic_ratio', 0.02), ('kernel_mean_matching', 0.04), ('kliep', 0.02)],
)
def test_weighted_training_reaches_the_accuracy_of_training_on_the_target(name, margin):
    """A linear classifier of a curved border, which is elsewhere another line."""

    def domain(count, middle, rng):
        x = rng.normal(size=(count, 2)) * [1, 0.7] + [middle, 0]
        return x, (x[:, 1] > np.sin(1.5 * x[:, 0]) + 0.2 * rng.normal(size=count)).astype(int)

    rng = np.random.default_rng(0)
    (x, y), (target, _) = domain(2000, 0, rng), domain(500, 1.5, rng)
    (labelled, labels), (test, wanted) = domain(2000, 1.5, rng), domain(4000, 1.5, rng)

    def accuracy(x, y, weights=None):
        return LogisticRegression().fit(x, y, weights).score(test, wanted)

    best = accuracy(labelled, labels)
    assert accuracy(x, y) < best - 0.08
    assert accuracy(x, y, weigh(name, x, target)) > best - margin


@each_estimator
def test_weights_are_at_least_0_of_mean_1_and_float64(name):
    source, target, _ = shifted(300, 150, width=5)
    found = weigh(name, source, target)
    assert found.shape == (300,)
    assert found.dtype == np.float64
    assert found.min() >= 0
    assert found.mean() == pytest.approx(1)


@each_estimator
def test_weights_do_not_depend_on_the_units_or_on_constant_features(name):
    source, target, _ = shifted(300, 150, width=3)
    units, origin = np.array([1, 100, 0.01]), np.array([5, -300, 0])

    def padded(x):
        rounding = 1e-9 * np.random.default_rng(len(x)).normal(size=(len(x), 20))
        return np.concatenate([x * units + origin, 0.3 + rounding], 1)

    found = weigh(name, padded(source), padded(target))
    assert np.corrcoef(found, weigh(name, source, target))[0, 1] > 0.99


@each_estimator
def test_weights_follow_the_examples_and_not_their_order(name):
    """Up to what is drawn at random: blocks, folds, centres."""
    source, target, _ = shifted(300, 150)
    order = np.random.default_rng(3).permutation(len(source))
    found = weigh(name, source[order], target)
    assert np.corrcoef(found, weigh(name, source, target)[order])[0, 1] > 0.95


@each_estimator
def test_the_same_call_gives_the_same_weights(name):
    source, target, _ = shifted(300, 150)
    np.testing.assert_array_equal(weigh(name, source, target), weigh(name, source, target))


@each_estimator
def test_jax_arrays_are_taken_and_left_as_they_were(name):
    source, target, _ = shifted(300, 150)
    kept = source.copy(), target.copy()
    found = weigh(name, jnp.asarray(source), jnp.asarray(target))
    wanted = weigh(name, source, target)
    assert np.corrcoef(found, wanted)[0, 1] > 0.95  # float32
    np.testing.assert_array_equal(source, kept[0])
    np.testing.assert_array_equal(target, kept[1])


def test_domains_that_cannot_be_told_apart_get_even_logistic_weights():
    source, target, _ = shifted(width=50, target_count=200, shift=0.0)
    found = sample_transfer.logistic_ratio(source=source, target=target)
    assert sample_transfer.effective_sample_size(found) > 0.95 * len(found)


@pytest.mark.parametrize('name', ['logistic_ratio', 'kernel_mean_matching', 'kliep'])
def test_no_weight_is_beyond_the_cap(name):
    source, target, _ = shifted(300, 150, shift=2.5)
    assert getattr(sample_transfer, name)(source=source, target=target).max() > 4.1
    found = getattr(sample_transfer, name)(source=source, target=target, most=4.0)
    assert 3.9 < found.max() <= 4.0 + 1e-6


@each_estimator
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s, t: (s[:, 1:], t), 'source has 1 features and target 2'),
        (
            lambda s, t: (s, t * np.where(np.arange(150) == 3, np.nan, 1)[:, None]),
            r'target\[3, 0\]',
        ),
        (lambda s, t: (s[0], t), r'source is \[2\] float64, wanted a matrix'),
        (lambda s, t: (s, t[:1]), r'target is \[1, 2\], wanted two rows'),
        (lambda s, t: (s > 0, t), r'source is \[300, 2\] bool'),
    ],
)
def test_what_are_no_features_of_one_network_is_refused(name, change, message):
    source, target, _ = shifted(300, 150)
    with pytest.raises(InputError, match=message):
        weigh(name, *change(source, target))


@each_estimator
def test_domains_are_given_by_name(name):
    source, target, _ = shifted(300, 150)
    with pytest.raises(TypeError):
        OF_DOMAINS[name](source, target)


@pytest.mark.parametrize(
    ('name', 'settings'),
    [
        ('logistic_ratio', {'strengths': ()}),
        ('logistic_ratio', {'most': 0.5}),
        ('logistic_ratio', {'folds': 1}),
        ('kernel_mean_matching', {'block_rows': 1}),
        ('kernel_mean_matching', {'target_rows': 0}),
        ('kernel_mean_matching', {'bandwidth': 0}),
        ('kernel_mean_matching', {'most': np.nan}),
        ('kliep', {'centres': 0}),
        ('kliep', {'folds': 151}),
        ('nearest_selection', {'neighbours': 0}),
        ('nearest_selection', {'neighbours': 301}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, settings):
    source, target, _ = shifted(300, 150)
    with pytest.raises(InputError, match=f'{next(iter(settings))} .*wanted'):
        getattr(sample_transfer, name)(source=source, target=target, **settings)


def test_mean_matching_in_blocks_is_near_that_of_the_whole():
    source, target, ratio = shifted()
    found = sample_transfer.kernel_mean_matching(source=source, target=target, block_rows=300)
    assert np.corrcoef(found, ratio)[0, 1] > 0.85


def test_mean_matching_is_the_minimum_that_a_general_solver_finds():
    import scipy.optimize

    from tljax.sample_transfer import kernels

    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1)) + 0.05 * np.eye(12, dtype=np.float32)
    pull = 12 * np.exp(-((x - 1) ** 2).sum(1))
    wanted = scipy.optimize.minimize(
        lambda w: w @ kernel @ w / 2 - pull @ w,
        np.ones(12),
        method='SLSQP',
        bounds=[(0, 3)] * 12,
        constraints={'type': 'eq', 'fun': lambda w: w.mean() - 1},
    )
    np.testing.assert_allclose(kernels._matched(kernel, pull, 3.0), wanted.x, atol=5e-3)


def test_nearest_selection_chooses_the_nearest_of_each_target_example():
    source = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    target = np.array([[0.9], [0.6], [9.0]])
    chosen = sample_transfer.nearest_selection(source=source, target=target, neighbours=1)
    np.testing.assert_allclose(chosen, [0, 2.5, 0, 2.5, 0])
    counted = sample_transfer.nearest_selection(
        source=source, target=target, neighbours=1, counted=True
    )
    np.testing.assert_allclose(counted, np.array([0, 2, 0, 1, 0]) * 5 / 3)


def test_class_importance_recovers_a_known_shift_of_labels():
    rng = np.random.default_rng(0)
    source, target = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    labels = rng.choice(3, 5000, p=source)
    certain = np.eye(3)[rng.choice(3, 5000, p=target)]
    found = sample_transfer.class_importance(source_labels=labels, target_probabilities=certain)
    assert np.corrcoef(found, (target / source)[labels])[0, 1] > 0.99
    np.testing.assert_allclose(found, (target / source)[labels], rtol=0.1)


@pytest.mark.parametrize(
    ('labels', 'probabilities', 'message'),
    [
        ([0, 1, 3], np.full((4, 3), 1 / 3), 'source_labels are 0 to 3, wanted 0 to 2'),
        ([0, 1, 2], np.full((4, 3), 1.0), 'wanted probabilities'),
        ([0.0, 1.0], np.full((4, 3), 1 / 3), r'source_labels is \[2\] float64'),
        ([0, 0], np.eye(3)[[1, 2]], 'are 0 for every class of source_labels'),
    ],
)
def test_class_importance_refuses_what_does_not_fit(labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        sample_transfer.class_importance(
            source_labels=np.array(labels), target_probabilities=probabilities
        )


def test_effective_sample_size_counts_equal_weights_and_no_others():
    assert sample_transfer.effective_sample_size(np.array([0, 2, 2, 0, 2])) == pytest.approx(3)
    assert sample_transfer.effective_sample_size(np.array([1e-300, 1e300])) == pytest.approx(1)
    assert sample_transfer.effective_sample_size(sample_transfer.uniform(7)) == pytest.approx(7)


@pytest.mark.parametrize('share', [0.3, 0.6, 0.95, 1.0])
def test_clipping_keeps_just_the_stated_share(share):
    weights = np.random.default_rng(0).lognormal(sigma=2, size=400)
    found = sample_transfer.clip_to_share(weights, share)
    assert sample_transfer.effective_sample_size(found) == pytest.approx(share * 400, rel=1e-6)
    assert found.mean() == pytest.approx(1)
    under = found < found.max() * (
        1 - 1e-9
    )  # the cap takes the largest, the rest keep their ratios
    ratio = found[under] / weights[under]
    np.testing.assert_allclose(ratio, ratio.mean() if len(ratio) else ratio)


def test_clipping_leaves_weights_that_are_worth_enough():
    np.testing.assert_allclose(sample_transfer.clip_to_share(np.array([1.0, 3.0]), 0.5), [0.5, 1.5])


def test_clipping_makes_the_few_that_have_weight_equal_where_more_are_wanted():
    np.testing.assert_allclose(
        sample_transfer.clip_to_share(np.array([0, 0, 1, 5.0]), 0.9), [0, 0, 2, 2]
    )


@pytest.mark.parametrize('weights', [[], [[1.0]], [-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]])
def test_what_are_no_weights_is_refused(weights):
    for function in (
        sample_transfer.effective_sample_size,
        lambda w: sample_transfer.clip_to_share(w, 0.5),
    ):
        with pytest.raises(InputError, match='weights are'):
            function(np.array(weights))


@pytest.mark.parametrize('share', [0, 1.5, np.nan])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(InputError, match='share is'):
        sample_transfer.clip_to_share(np.ones(3), share)


def boost(**changes):
    arguments = {
        'source_weights': jnp.ones(4),
        'target_weights': jnp.ones(4),
        'source_losses': jnp.array([0.0, 1, 1, 0]),
        'target_losses': jnp.array([1.0, 0, 0, 0]),
        'rounds': 10,
    } | changes
    return sample_transfer.tradaboost(**arguments)


def test_a_round_of_tradaboost_is_that_of_its_paper():
    """Error 1/4: a wrong target example gains by 3, a wrong source example fades by beta."""
    source, target = boost(corrected=False)
    beta = 1 / (1 + np.sqrt(2 * np.log(4) / 10))
    wanted = np.array([1, beta, beta, 1, 3, 1, 1, 1])
    found = np.concatenate([source, target])
    np.testing.assert_allclose(found, wanted / wanted.mean(), rtol=1e-6)


def test_the_correction_raises_the_source_by_twice_the_share_that_is_right():
    plain, corrected = boost(corrected=False), boost()
    ratio = (corrected[0][0] / corrected[1][1]) / (plain[0][0] / plain[1][1])
    assert ratio == pytest.approx(2 * (1 - 1 / 4))


def test_source_examples_that_are_always_right_keep_their_weight_with_the_correction():
    """Al-Stouhi and Reddy 2011, theorem 1: the weight of what is right does not drift."""
    losses = jnp.array([0.0, 0, 0, 0])
    source = target = jnp.ones(4)
    for step in range(8):
        wrong = jnp.zeros(4).at[step % 4].set(1.0)
        weights = target / target.sum()
        source, target = sample_transfer.tradaboost(
            source, target, source_losses=losses, target_losses=wrong / weights / 4, rounds=8
        )
    assert float(source.mean()) == pytest.approx(1, rel=1e-3)


def test_tradaboost_can_be_jitted_and_bears_errors_of_0_and_1():
    jitted = jax.jit(sample_transfer.tradaboost, static_argnames=('rounds', 'corrected'))
    for error in (0.0, 1.0):
        found = jitted(
            jnp.ones(4),
            jnp.ones(3),
            source_losses=jnp.ones(4),
            target_losses=jnp.full(3, error),
            rounds=5,
        )
        assert all(bool(jnp.isfinite(a).all()) and bool((a > 0).all()) for a in found)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'source_losses': jnp.ones(3)}, r'source has weights \[4\] and losses \[3\]'),
        ({'target_losses': jnp.ones((4, 1))}, r'target has weights \[4\] and losses \[4, 1\]'),
        ({'rounds': 0}, 'rounds is 0'),
    ],
)
def test_tradaboost_refuses_what_does_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        boost(**changes)


def softmax_errors(x, labels, head):
    return jax.nn.softmax(x @ head[0] + head[1][None]) - jax.nn.one_hot(labels, 3)


def aligned(seed=0, wrong=0.4):
    """Examples of three classes, part of the source's labels wrong, and a head half trained."""
    rng = np.random.default_rng(seed)
    means = 2 * rng.normal(size=(3, 6))
    labels, target_labels = rng.integers(0, 3, 300), rng.integers(0, 3, 60)
    source = jnp.asarray(means[labels] + rng.normal(size=(300, 6)), jnp.float32)
    target = jnp.asarray(means[target_labels] + rng.normal(size=(60, 6)), jnp.float32)
    flipped = rng.random(300) < wrong
    given = np.where(flipped, (labels + rng.integers(1, 3, 300)) % 3, labels)
    head = jnp.asarray(0.1 * rng.normal(size=(6, 3)), jnp.float32), jnp.zeros(3)
    return source, given, target, target_labels, head, flipped


def test_alignment_is_the_derivative_of_the_target_loss_by_an_examples_weight():
    """Ren et al. 2018, equations 6 to 9, by automatic differentiation through the step."""
    source, given, target, target_labels, head, _ = aligned()

    def loss(head, x, labels):
        logits = x @ head[0] + head[1][None]
        return -(jax.nn.one_hot(labels, 3) * jax.nn.log_softmax(logits)).sum(1)

    def after(weights):
        step = jax.grad(lambda head: (weights * loss(head, source, given)).sum())(head)
        moved = jax.tree.map(lambda value, slope: value - slope, head, step)
        return loss(moved, target, target_labels).mean()

    wanted = np.maximum(-np.asarray(jax.jit(jax.grad(after))(jnp.zeros(300))), 0)
    found = sample_transfer.gradient_alignment(
        source_features=source,
        source_errors=softmax_errors(source, given, head),
        target_features=target,
        target_errors=softmax_errors(target, target_labels, head),
    )
    np.testing.assert_allclose(found, wanted / wanted.mean(), rtol=1e-4, atol=1e-4)


def test_wrong_labels_of_the_source_lose_their_weight_by_alignment():
    source, given, target, target_labels, head, flipped = aligned()
    found = np.asarray(
        jax.jit(sample_transfer.gradient_alignment)(
            source_features=source,
            source_errors=softmax_errors(source, given, head),
            target_features=target,
            target_errors=softmax_errors(target, target_labels, head),
        )
    )
    assert found.mean() == pytest.approx(1, rel=1e-5)
    assert found[flipped].mean() < 0.1 * found[~flipped].mean()


def test_a_source_that_would_only_harm_gets_no_weight():
    x, error = jnp.array([[1.0, 2.0]]), jnp.array([[0.5, -0.5]])
    found = sample_transfer.gradient_alignment(
        source_features=x, source_errors=-error, target_features=x, target_errors=error
    )
    np.testing.assert_array_equal(found, [0])


def test_alignment_refuses_shapes_that_do_not_fit():
    ones = jnp.ones((4, 3))
    with pytest.raises(InputError, match='wanted'):
        sample_transfer.gradient_alignment(
            source_features=ones,
            source_errors=jnp.ones((4, 2)),
            target_features=ones,
            target_errors=ones,
        )


def test_the_code_of_the_docs_runs_and_names_every_function():
    text = (pathlib.Path(__file__).parents[2] / 'docs/sample_weights.md').read_text()
    (block,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    exec(block, {})
    text += (pathlib.Path(__file__).parents[2] / 'docs/sample_transfer.md').read_text()
    assert not [name for name in sample_transfer.__all__ if name not in text]
