"""Update rules against their formulas, and which leaves they reach."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tljax import tree
from tljax.strategies import partition
from tljax.strategies.optimizers import SGD, AdamW
from tljax.strategies.partition import CoverageError
from tljax.training import states
from tljax.types import Rule

STEPS = 5
RATES = (0.1, 0.1, 0.05, 0.05, 0.025)  # a schedule: the rate of each step
EVERYTHING = (Rule(pattern='**'),)


def problem():
    """Parameters [3, 2] and the gradient of every step."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 2)), rng.normal(size=(STEPS, 3, 2))


def trajectory(optimizer, weights, grads, *, rule=EVERYTHING[0], clip_norm=None):
    """The weights after each step with `tljax`."""
    params: Any = {'w': jnp.asarray(weights, jnp.float32)}
    labels = partition.assign(params, (rule,))
    schedule = jnp.asarray(RATES)
    transform = partition.make(optimizer, (rule,), labels, lambda n: schedule[n], clip_norm)
    opt = states.init_optimizer(transform, params, labels)
    result = []
    for grad in grads:
        updates, opt = transform.update({'w': jnp.asarray(grad, jnp.float32)}, opt, params)
        params = optax.apply_updates(params, updates)
        result.append(params['w'])
    return np.stack(result)


def torch_sgd(weights, grads, momentum, nesterov, weight_decay):
    """The algorithm that torch.optim.SGD documents, dampening 0."""
    buffer, result = None, []
    for rate, grad in zip(RATES, grads, strict=True):
        g = grad + weight_decay * weights
        if momentum:
            buffer = g if buffer is None else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        weights = weights - rate * g
        result.append(weights)
    return np.stack(result)


def torch_adamw(weights, grads, b1, b2, epsilon, weight_decay):
    """The algorithm that torch.optim.AdamW documents."""
    m = v = np.zeros_like(weights)
    result = []
    for t, (rate, g) in enumerate(zip(RATES, grads, strict=True), 1):
        weights = weights * (1 - rate * weight_decay)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        weights = weights - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + epsilon)
        result.append(weights)
    return np.stack(result)


@pytest.mark.parametrize('weight_decay', [0.0, 0.1])
@pytest.mark.parametrize(('momentum', 'nesterov'), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_is_torchs(momentum, nesterov, weight_decay):
    weights, grads = problem()
    optimizer = SGD(momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    expected = torch_sgd(weights, grads, momentum, nesterov, weight_decay)
    np.testing.assert_allclose(trajectory(optimizer, weights, grads), expected, rtol=1e-5)


@pytest.mark.parametrize('weight_decay', [0.0, 0.1])
@pytest.mark.parametrize('epsilon', [1e-8, 0.1])
def test_adamw_is_torchs(weight_decay, epsilon):
    weights, grads = problem()
    optimizer = AdamW(b1=0.8, b2=0.99, epsilon=epsilon, weight_decay=weight_decay)
    expected = torch_adamw(weights, grads, 0.8, 0.99, epsilon, weight_decay)
    np.testing.assert_allclose(trajectory(optimizer, weights, grads), expected, rtol=2e-5)


def test_the_learning_rate_multiplier_of_a_rule_scales_every_step():
    weights, grads = problem()
    rule = Rule(pattern='w', learning_rate_scale=0.5)
    half = trajectory(SGD(momentum=0), weights, grads, rule=rule)
    whole = trajectory(SGD(momentum=0), weights, grads)
    np.testing.assert_allclose(weights - half, (weights - whole) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('optimizer', [SGD(weight_decay=0.2), AdamW(weight_decay=0.2)])
def test_the_weight_decay_multiplier_of_a_rule_scales_the_decay_alone(optimizer):
    weights, grads = problem()
    rule = Rule(pattern='w', weight_decay_scale=0.5)
    scaled = trajectory(optimizer, weights, grads, rule=rule)
    optimizer = type(optimizer)(weight_decay=0.1)
    np.testing.assert_allclose(scaled, trajectory(optimizer, weights, grads), rtol=1e-6)


def test_the_gradient_is_clipped_to_its_global_norm():
    weights, grads = problem()
    norms = np.sqrt((grads**2).sum((1, 2), keepdims=True))
    limit = float(np.median(norms))
    clipped = grads * np.minimum(1, limit / norms)
    expected = torch_sgd(weights, clipped, 0.9, False, 0.1)
    found = trajectory(SGD(weight_decay=0.1), weights, grads, clip_norm=limit)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


PARAMS = {
    'stage1': {'conv': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}},
    'stage10': {'conv': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}},
    'head': {'linear': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)}},
}


def test_every_group_takes_its_own_multipliers():
    rules = (
        Rule(pattern='head', learning_rate_scale=10.0),
        Rule(pattern='**/bias', weight_decay_scale=0.0),
        Rule(pattern='**'),
    )
    labels = partition.assign(PARAMS, rules)
    transform = partition.make(
        SGD(momentum=0, weight_decay=1.0), rules, labels, lambda _: jnp.float32(0.1)
    )
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates: Any = transform.update(grads, transform.init(PARAMS), PARAMS)[0]
    expected = {'stage1/conv/kernel': -0.2, 'stage1/conv/bias': -0.1, 'head/linear/kernel': -2.0}
    found = tree.flatten(updates)
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-6)


def test_the_first_rule_that_matches_decides():
    rules = (Rule(pattern='head/linear/bias', train=False), Rule(pattern='head'), *EVERYTHING)
    trained = tree.flatten(partition.trained(partition.assign(PARAMS, rules)))
    assert [path for path, live in trained.items() if not live] == ['head/linear/bias']


def test_a_rule_for_a_stage_spares_one_whose_name_begins_alike():
    rules = (Rule(pattern='stage1', train=False), *EVERYTHING)
    trained = tree.flatten(partition.trained(partition.assign(PARAMS, rules)))
    frozen = {path.split('/')[0] for path, live in trained.items() if not live}
    assert frozen == {'stage1'}


def test_everything_that_does_not_fit_is_said_at_once():
    rules = (Rule(pattern='stage1'), Rule(pattern='stage2'), Rule(pattern='stage1/conv'))
    with pytest.raises(CoverageError) as caught:
        partition.assign(PARAMS, rules)
    message = str(caught.value)
    for path in ('stage10/conv/kernel', 'stage10/conv/bias', 'head/linear/kernel'):
        assert f'no rule covers {path}' in message
    assert "rule 1 ('stage2') decides no leaf" in message
    assert "rule 2 ('stage1/conv') decides no leaf" in message
    assert "['stage1', 'stage10', 'head']" in message


scales = st.floats(1e-6, 1e3)


@settings(max_examples=200, deadline=None)
@given(scales, scales, scales, scales)
@example(0.1234567, 1.0, 0.1234568, 1.0)
def test_rules_share_a_group_only_if_their_multipliers_are_equal(a, b, c, d):
    one = Rule(pattern='a', learning_rate_scale=a, weight_decay_scale=b)
    other = Rule(pattern='b', learning_rate_scale=c, weight_decay_scale=d)
    assert (partition.label(one) == partition.label(other)) == ((a, b) == (c, d))


def test_a_frozen_rule_is_no_group_of_the_trained():
    frozen = Rule(pattern='a', train=False, learning_rate_scale=2.0)
    assert partition.label(frozen) == partition.FROZEN != partition.label(Rule(pattern='a'))


@pytest.mark.parametrize('optimizer', [SGD(), AdamW()])
def test_state_and_update_are_for_trained_leaves_only(optimizer):
    rules = (Rule(pattern='head'), Rule(pattern='**', train=False))
    labels = partition.assign(PARAMS, rules)
    transform = partition.make(optimizer, rules, labels, lambda _: jnp.float32(0.1), clip_norm=1.0)
    opt = states.init_optimizer(transform, PARAMS, labels)
    assert {leaf.shape for leaf in jax.tree.leaves(opt)} == {(), (2, 3), (3,)}
    trained = tree.select(PARAMS, partition.trained(labels))
    updates, _ = transform.update(trained, opt, trained)
    assert jax.tree.structure(updates) == jax.tree.structure(trained)


def test_frozen_gradients_do_not_shrink_live_ones():
    rules = (Rule(pattern='head'), Rule(pattern='**', train=False))
    labels = partition.assign(PARAMS, rules)
    transform = partition.make(SGD(momentum=0), rules, labels, lambda _: 1.0, clip_norm=1.0)
    trained = tree.select(PARAMS, partition.trained(labels))
    grads = tree.select(jax.tree.map(lambda x: 100 * x, PARAMS), partition.trained(labels))
    updates, _ = transform.update(grads, transform.init(trained), trained)
    found = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(updates)])
    np.testing.assert_allclose(jnp.linalg.norm(found), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ('optimizer', 'words'),
    [
        (SGD(learning_rate=0), 'learning_rate is 0'),
        (SGD(weight_decay=-1), 'weight_decay is -1'),
        (SGD(weight_decay=math.nan), 'weight_decay is nan'),
        (SGD(momentum=1.0), 'momentum is 1.0'),
        (SGD(momentum=0, nesterov=True), 'nesterov is on'),
        (AdamW(b1=1.0), 'b1 is 1.0'),
        (AdamW(b2=-0.1), 'b2 is -0.1'),
        (AdamW(epsilon=-1.0), 'epsilon is -1.0'),
    ],
)
def test_a_value_out_of_range_is_a_problem_that_names_the_field(optimizer, words):
    assert [line for line in optimizer.problems() if words in line]
