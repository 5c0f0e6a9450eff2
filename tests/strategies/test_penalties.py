"""Penalties against the papers' formulas, written again in NumPy and double precision."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.metrics.losses import CrossEntropy
from tljax.metrics.tasks.classes import Classes
from tljax.strategies.penalties import (
    BSS,
    DELTA,
    L2SP,
    CoTuning,
    FeatureDistillation,
    L2SPFisher,
    LogitDistillation,
    calibration_temperature,
    fisher,
)
from tljax.strategies.penalties.cotuning import relationship
from tljax.strategies.penalties.delta import fit_linear, importance
from tljax.types import PenaltyInputs, Setting, Start

STAGES = ('low', 'top', 'head')
B, K, S = 6, 3, 5
SETTING = Setting(
    stages=STAGES, shared=frozenset({'low', 'top'}), trained=frozenset(STAGES), upstream_classes=S
)
UPSTREAM = np.random.default_rng(9).normal(size=(4, S)).astype(np.float32)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def upstream(maps):
    """The source task's head on maps [B, 2, 2, 4]."""
    return maps.mean((1, 2)) @ UPSTREAM


def make_inputs(**changes):
    """Maps of 3 and 4 channels, some parameters, and where all of them started."""
    params, start = (
        {'low': {'kernel': normal(n, 2, 3)}, 'top': {'kernel': normal(n + 1, 3, 2)},
         'head': {'kernel': normal(n + 2, 2, 2), 'bias': normal(n + 3, 2)}}
        for n in (0, 10)
    )  # fmt: skip
    fields = {
        'setting': SETTING,
        'trained': params,
        'start': start,
        'features': {'low': normal(20, B, 3, 3, 3), 'top': normal(21, B, 2, 2, 4)},
        'start_features': {'low': normal(22, B, 3, 3, 3), 'top': normal(23, B, 2, 2, 4)},
        'upstream': upstream,
        'targets': jax.nn.one_hot(jnp.arange(B) % K, K),
        'mask': jnp.ones(B, bool),
    }
    return PenaltyInputs(**{**fields, **changes})


def double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def start_of(run, params, batches, classes=K):
    """A start, of a network written as a function; all of it trains."""
    return Start(
        setting=SETTING,
        num_classes=classes,
        task=Classes(),
        params=params,
        trained=jax.tree.map(lambda _: True, params),
        run=run,
        upstream=upstream,
        batches=lambda limit: iter(batches),
        key=jax.random.key(0),
    )


READY = (
    (L2SP(), ()),
    (L2SPFisher(), {'low': {'kernel': np.full((2, 3), 2.0, np.float32)}}),
    (DELTA(), {'low': np.full(3, 1 / 3, np.float32), 'top': np.full(4, 1 / 4, np.float32)}),
    (BSS(smallest=2), ()),
    (FeatureDistillation(stages=('low', 'top')), ()),
    (LogitDistillation(), ()),
    (CoTuning(), np.full((K, S), 1 / S, np.float32)),
)
each = pytest.mark.parametrize(
    ('penalty', 'prepared'), READY, ids=[type(one).__name__ for one, _ in READY]
)


def test_l2_sp_is_half_the_squared_way_from_the_start_and_half_the_squared_new_head():
    inputs = make_inputs()
    w, w0 = double(inputs.trained), double(inputs.start)
    shared = sum(((w[n]['kernel'] - w0[n]['kernel']) ** 2).sum() for n in ('low', 'top'))
    new = sum((leaf**2).sum() for leaf in w['head'].values())
    found = L2SP(strength=0.3, head_strength=0.2)(inputs, ())
    np.testing.assert_allclose(found, 0.3 / 2 * shared + 0.2 / 2 * new, rtol=1e-6)


def test_the_slope_of_l2_sp_is_the_way_from_the_start():
    inputs = make_inputs()

    def value(trained):
        return L2SP(strength=0.3, head_strength=0.2)(
            dataclasses.replace(inputs, trained=trained), ()
        )

    slope = jax.grad(value)(inputs.trained)
    way = inputs.trained['top']['kernel'] - inputs.start['top']['kernel']
    np.testing.assert_allclose(slope['top']['kernel'], 0.3 * way, rtol=1e-6)
    np.testing.assert_allclose(slope['head']['bias'], 0.2 * inputs.trained['head']['bias'], 1e-6)


def test_l2_sp_draws_a_kept_head_to_its_start_and_not_to_zero():
    kept = dataclasses.replace(SETTING, shared=frozenset(STAGES))
    inputs = make_inputs(setting=kept)
    same = dataclasses.replace(inputs, trained=inputs.start)
    assert float(L2SP(head_strength=5.0)(same, ())) == 0


@pytest.mark.parametrize('penalty', [L2SP(), L2SPFisher()])
def test_frozen_leaves_count_nowhere(penalty):
    inputs = make_inputs()
    trained = {**inputs.trained, 'low': {'kernel': None}}
    moved = {**inputs.trained, 'low': inputs.start['low']}
    ones = jax.tree.map(np.ones_like, {n: inputs.trained[n] for n in ('low', 'top')})
    values = [
        float(penalty(dataclasses.replace(inputs, trained=one), ones)) for one in (trained, moved)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6) != 0


def test_the_fisher_weighted_form_weighs_each_value_by_its_information():
    inputs = make_inputs()
    weights = {n: {'kernel': np.abs(inputs.trained[n]['kernel'])} for n in ('low', 'top')}
    w, w0, f = double(inputs.trained), double(inputs.start), double(weights)
    wanted = sum(
        (f[n]['kernel'] * (w[n]['kernel'] - w0[n]['kernel']) ** 2).sum() for n in ('low', 'top')
    )
    found = L2SPFisher(strength=0.3, head_strength=0.0)(inputs, weights)
    np.testing.assert_allclose(found, 0.15 * wanted, rtol=1e-5)


def test_the_slope_of_the_fisher_weighted_form_is_finite_where_nothing_is_known():
    inputs = make_inputs()
    zeros = {n: {'kernel': np.zeros_like(inputs.trained[n]['kernel'])} for n in ('low', 'top')}

    def value(trained):
        return L2SPFisher()(dataclasses.replace(inputs, trained=trained), zeros)

    slope = jax.grad(value)(inputs.trained)
    np.testing.assert_array_equal(slope['low']['kernel'], 0)


def test_the_fisher_information_of_a_linear_model_is_that_of_its_labels():
    """By hand: sum_y p(y) (x_j (1[y=k] - p_k))^2."""
    kernel, x = normal(0, 3, K), normal(1, 2, 3)
    p = np.exp(log_softmax(x.astype(np.float64) @ kernel))
    residual = np.eye(K)[None] - p[:, None]  # [N, y, k]
    wanted = np.einsum('ny,nj,nyk->jk', p, x.astype(np.float64) ** 2, residual**2) / 2
    images = np.tile(x, (1500, 1))
    found = fisher(lambda w, x: x @ w['kernel'], {'kernel': kernel}, images, jax.random.key(0))
    np.testing.assert_allclose(found['kernel'], wanted, rtol=0.1)


def test_the_fisher_information_is_taken_through_the_head_of_the_source_task():
    """The new head may be zeros, and no slope passes through it."""

    def run(params, x, start, stop):
        assert (start, stop) == (None, 'head')
        return x * params['low']['scale'].reshape(1, 1, 1, 4)

    x = jnp.asarray(normal(2, B, 2, 2, 4))
    mask = jnp.arange(B) < 4
    params = {'low': {'scale': jnp.ones(4)}, 'top': {}, 'head': {'kernel': jnp.zeros(3)}}
    batches = [(x.at[4:].set(jnp.nan), jnp.zeros(B, int), mask)]
    found = L2SPFisher().prepare(start_of(run, params, batches))
    direct = fisher(
        lambda p, x: upstream(run(p, x, None, 'head')), params, x[:4], jax.random.key(0)
    )
    assert found.keys() == {'low', 'top'}
    np.testing.assert_allclose(found['low']['scale'], direct['low']['scale'], rtol=1e-5)
    assert (found['low']['scale'] > 0).all()


def bss_value(features, mask, smallest):
    inputs = make_inputs(features={'top': features}, mask=mask)
    return BSS(strength=0.5, smallest=smallest)(inputs, ())


@pytest.mark.parametrize(('shape', 'real'), [((6, 4), 6), ((6, 9), 6), ((6, 4), 5), ((6, 9), 4)])
@pytest.mark.parametrize('smallest', [1, 2, 3])
def test_bss_is_the_sum_of_the_least_squared_singular_values_of_real_rows(shape, real, smallest):
    features, mask = normal(3, *shape), np.arange(6) < real
    features[real:] = np.nan
    singular = np.linalg.svd(features[:real].astype(np.float64), compute_uv=False)
    wanted = 0.5 * (np.sort(singular)[:smallest] ** 2).sum()
    np.testing.assert_allclose(bss_value(features, mask, smallest), wanted, rtol=1e-4)


@pytest.mark.parametrize('shape', [(6, 4), (4, 6)])
def test_the_slope_of_bss_is_that_of_finite_differences(shape):
    features = normal(4, *shape)
    slope = jax.grad(bss_value)(jnp.asarray(features), jnp.ones(len(features), bool), 2)
    exact = features.astype(np.float64)

    def value(x):
        return 0.5 * (np.sort(np.linalg.svd(x, compute_uv=False))[:2] ** 2).sum()

    for place in np.ndindex(*shape):
        step = np.zeros(shape)
        step[place] = 1e-5
        wanted = (value(exact + step) - value(exact - step)) / 2e-5
        np.testing.assert_allclose(slope[place], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    'features',
    [np.zeros((4, 3)), np.ones((4, 3)), np.eye(4, 3), np.eye(4, 6)],
    ids=['zeros', 'rank one', 'equal', 'equal, wide'],
)
@pytest.mark.parametrize('real', [0, 1, 4])
def test_bss_and_its_slope_are_finite_on_degenerate_batches(features, real):
    value, slope = jax.value_and_grad(bss_value)(
        jnp.asarray(features, jnp.float32), jnp.arange(4) < real, 9
    )
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert not np.any(slope[real:])


def test_delta_weighs_the_squared_change_of_each_channel():
    inputs = make_inputs()
    weights = {'low': normal(5, 3) ** 2, 'top': normal(6, 4) ** 2}
    now, before, w = map(double, (inputs.features, inputs.start_features, weights))
    wanted = 0
    for name, positions in (('low', 9), ('top', 4)):
        channels = len(w[name])
        for row in range(B):
            for c in range(channels):
                norm = np.linalg.norm(now[name][row, ..., c] - before[name][row, ..., c])
                wanted += 0.5 * channels * w[name][c] * norm**2 / positions / B
    head = sum((leaf**2).sum() for leaf in double(inputs.trained['head']).values())
    found = DELTA(strength=0.3, head_strength=0.2)(inputs, weights)
    np.testing.assert_allclose(found, 0.3 * wanted + 0.1 * head, rtol=1e-5)


def test_delta_without_attention_takes_all_channels_alike():
    inputs = make_inputs()
    even = {'low': np.full(3, 1 / 3, np.float32), 'top': np.full(4, 1 / 4, np.float32)}
    alike = DELTA(attention=False)
    assert alike.prepare(start_of(None, {}, [])) == {}
    np.testing.assert_allclose(alike(inputs, {}), DELTA()(inputs, even), rtol=1e-6)


def test_the_importance_of_a_channel_is_what_its_loss_costs():
    maps, kernel = normal(7, 5, 2, 2, 4), normal(8, 4)

    def loss(maps, kernel):
        return ((maps.mean((1, 2)) @ kernel - 1) ** 2).mean()

    exact = maps.astype(np.float64)
    wanted = [loss(exact * (np.arange(4) != c), kernel) - loss(exact, kernel) for c in range(4)]
    found = importance(loss, jnp.asarray(maps), kernel)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_delta_finds_the_channel_that_the_new_task_needs():
    """Channel 2 of the first stage gives the label, and reaches the last through a product."""
    labels = np.arange(64) % 2
    x = normal(9, 64, 2, 2, 4)
    x[..., 2] += 4 * labels[:, None, None] - 2

    def run(params, x, start, stop):
        for name in STAGES[STAGES.index(start) if start else 0 : STAGES.index(stop)]:
            x = x if name == 'low' else 2 * x
        return x

    half = [
        (jnp.asarray(x[i : i + 32]), jnp.asarray(labels[i : i + 32]), jnp.ones(32, bool))
        for i in (0, 32)
    ]
    weights = DELTA().prepare(start_of(run, {}, half, classes=2))
    for name in ('low', 'top'):
        assert np.argmax(weights[name]) == 2
        np.testing.assert_allclose(weights[name].sum(), 1, rtol=1e-5)


def test_the_fitted_classifier_is_at_the_least_of_its_objective():
    features, labels = normal(10, 40, 3), np.arange(40) % K
    features += np.eye(3)[labels].astype(np.float32)
    standard = (features - features.mean(0)) / features.std(0)
    targets = jax.nn.one_hot(labels, K)
    classify = fit_linear(jnp.asarray(features), targets, CrossEntropy(), K, decay=0.1)
    p = np.exp(log_softmax(classify(jnp.asarray(features))))
    kernel = np.linalg.lstsq(
        np.column_stack([standard, np.ones(40)]), np.asarray(classify(jnp.asarray(features))),
        rcond=None,
    )[0][:3]  # fmt: skip
    slope = standard.T @ (p - np.eye(K)[labels]) / 40 + 0.1 * kernel
    np.testing.assert_allclose(slope, 0, atol=1e-3)


def test_feature_distillation_is_half_the_mean_squared_change_of_pooled_features():
    inputs = make_inputs()
    wanted = 0.0
    for name in ('low', 'top'):
        both = (inputs.features[name], inputs.start_features[name])
        now, before = (x.astype(np.float64).mean((1, 2)) for x in both)
        wanted += 0.5 * ((now - before) ** 2).mean()
    found = FeatureDistillation(strength=0.7, stages=('low', 'top'))(inputs, ())
    np.testing.assert_allclose(found, 0.7 * wanted, rtol=1e-5)


def test_logit_distillation_is_the_cross_entropy_of_softened_answers():
    inputs, temperature = make_inputs(), 2.0
    both = (inputs.features['top'], inputs.start_features['top'])
    now, before = (np.exp(log_softmax(upstream(x.astype(np.float64)))) for x in both)
    now, before = (p ** (1 / temperature) for p in (now, before))
    now, before = (p / p.sum(1, keepdims=True) for p in (now, before))
    wanted = -(before * np.log(now)).sum(1).mean()
    found = LogitDistillation(strength=0.7, temperature=temperature)(inputs, ())
    np.testing.assert_allclose(found, 0.7 * wanted, rtol=1e-5)


def test_the_relationship_is_the_mean_prediction_of_each_label():
    p = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    found = relationship(p, np.array([1, 1, 0]), 3)
    np.testing.assert_allclose(found, [[0.1, 0.9], [0.6, 0.4], [0, 0]], rtol=1e-6)


def test_co_tuning_measures_the_relationship_on_real_rows_at_its_temperature():
    x, labels = normal(11, B, 2, 2, 4), np.arange(B) % K
    mask = np.arange(B) < 4
    batch = (jnp.asarray(x), jnp.asarray(labels), jnp.asarray(mask))
    penalty = CoTuning(temperature=3.0)
    found = penalty.prepare(start_of(lambda _, x, start, stop: x, {}, [batch, batch]))
    p = np.exp(log_softmax(upstream(x.astype(np.float64)) / 3))
    wanted = [p[mask & (labels == k)].mean(0) for k in range(K)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_co_tuning_is_the_cross_entropy_of_the_label_in_source_categories():
    mixed = normal(12, B, K) ** 2
    mixed /= mixed.sum(1, keepdims=True)
    inputs = make_inputs(targets=jnp.asarray(mixed))
    relation = np.exp(log_softmax(normal(13, K, S)))
    log_p = log_softmax(upstream(inputs.features['top'].astype(np.float64)))
    wanted = 0.0
    for row in range(B):
        for k in range(K):
            wanted -= mixed[row, k] * (relation[k] * log_p[row]).sum() / B
    found = CoTuning(strength=0.7)(inputs, relation.astype(np.float32))
    np.testing.assert_allclose(found, 0.7 * wanted, rtol=1e-5)


@pytest.mark.parametrize('temperature', [0.4, 1.0, 3.0])
def test_calibration_finds_the_temperature_that_labels_were_drawn_at(temperature):
    logits = 4 * normal(14, 20_000, 4).astype(np.float64)
    p = np.exp(log_softmax(logits / temperature))
    labels = (p.cumsum(1) < np.random.default_rng(0).random((20_000, 1))).sum(1)
    assert calibration_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


@each
def test_padding_counts_nowhere(penalty, prepared):
    padded, inputs = np.arange(B) >= 4, make_inputs()
    damaged, short = {}, {}
    for field in ('features', 'start_features'):
        maps = getattr(inputs, field)
        wide = padded.reshape(-1, 1, 1, 1)
        damaged[field] = {n: jnp.asarray(np.where(wide, 1e3, x)) for n, x in maps.items()}
        short[field] = {n: jnp.asarray(x[:4]) for n, x in maps.items()}

    def value(features, inputs):
        return penalty(dataclasses.replace(inputs, features=features), prepared)

    masked = dataclasses.replace(inputs, mask=jnp.asarray(~padded), **damaged)
    real = dataclasses.replace(inputs, mask=jnp.ones(4, bool), targets=inputs.targets[:4], **short)
    (found, slopes), (wanted, wanted_slopes) = (
        jax.value_and_grad(value)(one.features, one) for one in (masked, real)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for name, slope in slopes.items():
        np.testing.assert_allclose(slope[:4], wanted_slopes[name], rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(slope[4:], 0)


@each
def test_a_batch_of_padding_alone_is_finite(penalty, prepared):
    def value(features):
        inputs = make_inputs(features=features, mask=jnp.zeros(B, bool))
        return penalty(inputs, prepared)

    found, slopes = jax.value_and_grad(value)(make_inputs().features)
    assert np.isfinite(found)
    assert all(not np.any(slope) for slope in slopes.values())


@pytest.mark.parametrize(
    ('penalty', 'prepared'),
    [
        (L2SP(head_strength=0.0), ()),
        (L2SPFisher(head_strength=0.0), READY[1][1]),
        (DELTA(head_strength=0.0), {}),
        (FeatureDistillation(), ()),
    ],
)
def test_where_nothing_has_moved_there_is_nothing_to_pay(penalty, prepared):
    inputs = make_inputs()
    still = dataclasses.replace(inputs, trained=inputs.start, features=inputs.start_features)
    assert float(penalty(still, prepared)) == 0


def test_where_nothing_has_moved_distillation_does_not_push():
    inputs = make_inputs()

    def value(features):
        return LogitDistillation()(dataclasses.replace(inputs, features=features), ())

    slopes = jax.grad(value)(inputs.start_features)
    np.testing.assert_allclose(slopes['top'], 0, atol=1e-7)


@pytest.mark.parametrize(
    'penalty', [L2SP(), L2SPFisher(), DELTA(), BSS(), FeatureDistillation(), LogitDistillation(),
                CoTuning()], ids=lambda one: type(one).__name__
)  # fmt: skip
def test_a_penalty_says_that_it_has_no_effect_where_the_head_alone_trains(penalty):
    assert penalty.obstacle(SETTING) is None
    probe = dataclasses.replace(SETTING, trained=frozenset({'head'}))
    assert penalty.obstacle(probe)
    assert penalty.needs(probe).features == ()


@pytest.mark.parametrize('penalty', [L2SPFisher(), LogitDistillation(), CoTuning()])
def test_what_needs_the_head_of_the_source_task_says_so(penalty):
    without = dataclasses.replace(SETTING, upstream_classes=None)
    assert 'no upstream head' in penalty.obstacle(without)


def test_l2_sp_from_random_weights_has_nowhere_to_go_back_to():
    assert L2SP().obstacle(dataclasses.replace(SETTING, shared=frozenset()))


@pytest.mark.parametrize('penalty', [DELTA(stages=('mid',)), FeatureDistillation(stages=('head',))])
def test_a_stage_that_is_not_there_is_named_with_those_that_are(penalty):
    assert "wanted any of ['low', 'top']" in penalty.obstacle(SETTING)


def test_a_stage_below_all_that_trains_is_named():
    penalty = FeatureDistillation(stages=('low', 'top'))
    upper = dataclasses.replace(SETTING, trained=frozenset({'top'}))
    assert penalty.obstacle(upper) == 'nothing trains in or below low'


@pytest.mark.parametrize(
    'penalty',
    [
        L2SP(strength=0.0),
        L2SP(head_strength=-1.0),
        L2SPFisher(examples=0),
        DELTA(strength=float('nan')),
        DELTA(head_strength=float('inf')),
        BSS(smallest=0),
        FeatureDistillation(strength=-1.0),
        LogitDistillation(temperature=0.0),
        CoTuning(temperature=float('inf')),
    ],
)
def test_a_penalty_that_cannot_be_is_named(penalty):
    assert len(penalty.problems()) == 1
