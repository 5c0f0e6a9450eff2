"""Layers against plain NumPy and against the libraries' own."""

import itertools
import math
from typing import Any

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.models import layers, transformer


def _normal(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).normal(3.0, 2.0, shape).astype(np.float32)


def _norm_variables(channels):
    draw = np.random.default_rng(1).uniform(0.5, 1.5, (4, channels)).astype(np.float32)
    return {
        'params': {'scale': draw[0], 'bias': draw[1]},
        'batch_stats': {'mean': draw[2], 'var': draw[3]},
    }


def _batch_norm(variables, x, *, running, **fields) -> Any:
    y, updated = layers.BatchNorm(**fields).apply(
        variables, x, use_running_average=running, mutable=['batch_stats']
    )
    return np.asarray(y), updated.get('batch_stats')


@pytest.mark.parametrize('shape', [(4, 3, 5, 2), (8, 2)])
def test_batch_norm_divides_by_the_biased_deviation_of_the_batch(shape):
    x, variables = _normal(*shape), _norm_variables(2)
    y, _ = _batch_norm(variables, x, running=False)
    axes = tuple(range(x.ndim - 1))
    normal = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)
    expected = normal * variables['params']['scale'] + variables['params']['bias']
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_moves_its_running_variance_towards_the_unbiased_one():
    x, variables = _normal(2, 3, 1, 2), _norm_variables(2)
    _, stats = _batch_norm(variables, x, running=False, stats_decay=0.75)
    before = variables['batch_stats']
    mean = 0.75 * before['mean'] + 0.25 * x.mean((0, 1, 2))
    var = 0.75 * before['var'] + 0.25 * x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(stats['mean'], mean, rtol=1e-6)
    np.testing.assert_allclose(stats['var'], var, rtol=1e-6)


def test_batch_norm_keeps_nine_tenths_of_its_running_statistics_as_torch_does():
    x, variables = _normal(4, 2), _norm_variables(2)
    _, stats = _batch_norm(variables, x, running=False)
    kept = 0.9 * variables['batch_stats']['mean'] + 0.1 * x.mean(0)
    np.testing.assert_allclose(stats['mean'], kept, rtol=1e-6)


def test_batch_norm_of_one_value_a_channel_stays_finite():
    y, stats = _batch_norm(_norm_variables(2), _normal(1, 1, 1, 2), running=False)
    assert np.isfinite([y.ravel(), stats['mean'], stats['var']]).all()


def test_batch_norm_in_evaluation_uses_the_running_statistics():
    x, variables = _normal(4, 3, 5, 2), _norm_variables(2)
    y, _ = _batch_norm(variables, x, running=True)
    params, stats = variables['params'], variables['batch_stats']
    normal = (x - stats['mean']) / np.sqrt(stats['var'] + 1e-5)
    np.testing.assert_allclose(y, normal * params['scale'] + params['bias'], rtol=1e-5, atol=1e-5)


def test_batch_norm_in_evaluation_leaves_the_running_statistics_alone():
    variables = _norm_variables(2)
    _, stats = _batch_norm(variables, _normal(4, 3, 5, 2), running=True)
    jax.tree.map(np.testing.assert_array_equal, stats, variables['batch_stats'])


def test_batch_norm_takes_its_moments_in_float32_where_the_input_is_bfloat16():
    x = jnp.asarray(_normal(64, 16, 16, 2), jnp.bfloat16)
    y, stats = _batch_norm(_norm_variables(2), x, running=False, stats_decay=0.0)
    assert (y.dtype, stats['mean'].dtype) == (jnp.bfloat16, np.float32)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(stats['mean'], exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stats['var'], exact.var((0, 1, 2), ddof=1), rtol=1e-5)


@pytest.mark.parametrize('ratio', [4, 16, 64])
@pytest.mark.parametrize('running', [True, False])
def test_batch_norm_of_bfloat16_is_float32_arithmetic_rounded_once(running, ratio):
    """Whatever a channel's mean is in standard deviations."""
    x = jnp.asarray(np.random.default_rng(0).normal(ratio, 1, (8, 8, 8, 4)), jnp.bfloat16)
    exact = np.asarray(x, np.float32)
    stats = {'mean': exact.mean((0, 1, 2)), 'var': exact.var((0, 1, 2))}
    variables = {'params': _norm_variables(4)['params'], 'batch_stats': stats}
    found, _ = _batch_norm(variables, x, running=running)
    wanted, _ = _batch_norm(variables, exact, running=running)
    np.testing.assert_array_equal(found, wanted.astype(jnp.bfloat16))


def test_adaptive_pooling_of_bfloat16_is_float32_arithmetic_rounded_once():
    x = jnp.asarray(_normal(2, 9, 8, 3), jnp.bfloat16)
    wanted = layers.adaptive_average_pool(x.astype(jnp.float32), 7)
    found = layers.adaptive_average_pool(x, 7)
    np.testing.assert_array_equal(found, wanted.astype(jnp.bfloat16))


_POOLING = {
    'height': st.integers(1, 9),
    'width': st.integers(1, 9),
    'window': st.integers(1, 3),
    'stride': st.integers(1, 3),
    'pad': st.integers(0, 1),
}


def _distinct(height, width) -> Any:
    """[2, height, width, 2] without ties, whose gradient two correct poolings may share out."""
    values = np.random.default_rng(height * 10 + width).permutation(4 * height * width)
    return values.reshape(2, height, width, 2).astype(np.float32)


def _reduce_window(x, window, stride, pad):
    border = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    size, steps = (1, window, window, 1), (1, stride, stride, 1)
    return jax.lax.reduce_window(x, -np.inf, jax.lax.max, size, steps, border)


def _with_gradients(pools, x, *how) -> Any:
    """For each pooling its output [B, H', W', C] and the gradient for distinct cotangents."""

    def results(x):
        values = []
        for pool in pools:
            y, pull = jax.vjp(lambda x, pool=pool: pool(x, *how), x)
            values.append((y, pull(jnp.arange(1.0, y.size + 1).reshape(y.shape))[0]))
        return values

    # They compile in a third of the time if XLA does not optimise them.
    return jax.jit(results, compiler_options={'xla_backend_optimization_level': 0})(x)


@hypothesis.given(**_POOLING)
@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
def test_max_pool_equals_reduce_window_in_value_and_gradient_where_no_values_tie(
    height, width, window, stride, pad
):
    hypothesis.assume(2 * pad <= window <= min(height, width) + 2 * pad)
    x, how = _distinct(height, width), (window, stride, pad)
    ours, expected = _with_gradients((layers.max_pool, _reduce_window), x, *how)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize('size', [14, 15])
def test_max_pool_equals_flax(size):
    x = _distinct(size, size)
    border: Any = ((1, 1), (1, 1))
    expected = nn.max_pool(x, (3, 3), (2, 2), border)
    np.testing.assert_array_equal(layers.max_pool(x, 3, 2, 1), expected)


def test_max_pool_shares_a_gradient_among_ties_without_losing_any():
    gradient = jax.grad(lambda x: layers.max_pool(x, 2, 2).sum())(np.ones((1, 4, 4, 1), np.float32))
    np.testing.assert_array_equal(gradient.reshape(2, 2, 2, 2).sum((1, 3)), np.ones((2, 2)))


def test_max_pool_of_negative_maps_ignores_the_border():
    x = jnp.full((1, 3, 3, 1), -5.0)
    np.testing.assert_array_equal(layers.max_pool(x, 3, 2, 1), np.full((1, 2, 2, 1), -5.0))


@pytest.mark.parametrize('shape', [(3, 3), (7, 7), (13, 13), (14, 14), (3, 13)])
def test_adaptive_average_pool_averages_torchs_windows(shape):
    height, width = shape
    x = _normal(2, height, width, 3)
    y = np.asarray(layers.adaptive_average_pool(x, 7))
    for i, j in itertools.product(range(7), repeat=2):
        rows = slice(math.floor(i * height / 7), math.ceil((i + 1) * height / 7))
        cols = slice(math.floor(j * width / 7), math.ceil((j + 1) * width / 7))
        np.testing.assert_allclose(y[:, i, j], x[:, rows, cols].mean((1, 2)), rtol=1e-5)


def test_adaptive_average_pool_of_its_own_size_is_the_identity():
    x = _normal(2, 7, 7, 3)
    np.testing.assert_array_equal(layers.adaptive_average_pool(x, 7), x)


def _plain_convolution(x, kernel, stride, bias):
    """[H, W, C] and [k, k, C, F] to [H', W', F], padded (k - 1) // 2 on each side, by loops."""
    size = kernel.shape[0]
    pad = (size - 1) // 2
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    rows, cols = ((n - size) // stride + 1 for n in x.shape[:2])
    y = np.zeros((rows, cols, kernel.shape[-1]))
    for i in range(rows):
        for j in range(cols):
            window = x[i * stride : i * stride + size, j * stride : j * stride + size]
            y[i, j] = np.einsum('hwc,hwcf->f', window, kernel) + bias
    return y


@pytest.mark.parametrize('size', [7, 8])
@pytest.mark.parametrize(('kernel', 'stride'), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolutions_are_padded_alike_on_both_sides(kernel, stride, size):
    x = _normal(1, size, size, 2)
    weight, bias = _normal(kernel, kernel, 2, 3, seed=2), _normal(3, seed=3)
    layer = layers.conv(3, kernel, stride=stride, use_bias=True)
    y = layer.apply({'params': {'kernel': weight, 'bias': bias}}, x)[0]
    np.testing.assert_allclose(y, _plain_convolution(x[0], weight, stride, bias), rtol=1e-4)


def test_convolutions_start_from_he_normal_of_the_fan_out():
    variables: Any = layers.conv(64, 3).init(jax.random.key(0), np.zeros((1, 8, 8, 32), np.float32))
    spread = np.std(variables['params']['kernel'])
    np.testing.assert_allclose(spread, np.sqrt(2 / (64 * 9)), rtol=0.03)


def _head(x, kernel, bias) -> Any:
    variables = {'params': {'linear': {'kernel': kernel, 'bias': bias}}}
    head = layers.ClassifierHead(kernel.shape[1])
    return head.apply(variables, x, deterministic=True, use_running_average=True)


def test_linear_head_averages_maps_before_its_linear_layer():
    x, kernel, bias = _normal(2, 3, 5, 4), _normal(4, 6, seed=1), _normal(6, seed=2)
    np.testing.assert_allclose(
        _head(x, kernel, bias), x.mean((1, 2)) @ kernel + bias, rtol=1e-4, atol=1e-4
    )


def test_linear_head_takes_features_as_they_are():
    x, kernel, bias = _normal(2, 4), _normal(4, 6, seed=1), _normal(6, seed=2)
    np.testing.assert_allclose(_head(x, kernel, bias), x @ kernel + bias, rtol=1e-4, atol=1e-4)


def test_linear_head_starts_with_equal_logits():
    logits, _ = layers.ClassifierHead(5).init_with_output(
        jax.random.key(0), _normal(2, 4), deterministic=True, use_running_average=True
    )
    np.testing.assert_array_equal(logits, np.zeros((2, 5)))


@pytest.mark.parametrize('shape', [(2, 3, 5, 4), (2, 6, 4)], ids=['maps', 'tokens'])
def test_mean_pooling_averages_maps_and_the_tokens_after_the_class_token(shape):
    x = _normal(*shape)
    expected = x.mean((1, 2)) if x.ndim == 4 else x[:, 1:].mean(1)
    np.testing.assert_allclose(layers.pool(x, layers.Pooling.MEAN), expected, atol=1e-6)


def _tokens_and_maps(layer: Any) -> Any:
    """The outputs of a layer for 6 tokens, and for the same as maps of 2 x 3."""
    x, how = _normal(2, 6, 8), {'deterministic': True, 'use_running_average': True}
    tokens, variables = layer.init_with_output(jax.random.key(0), x, **how)
    return tokens, layer.apply(variables, x.reshape(2, 2, 3, 8), **how)


def test_a_transformer_block_treats_maps_as_tokens():
    block = transformer.Block(width=8, head_width=4, inner=12, epsilon=1e-6, last=True)
    tokens, maps = _tokens_and_maps(block)
    assert maps.shape == (2, 2, 3, 8)
    np.testing.assert_array_equal(maps.reshape(2, 6, 8), tokens)


def test_attention_pooling_of_maps_and_tokens_is_the_same_and_ignores_their_order():
    layer = transformer.AttentionPool(width=8, head_width=4, inner=12, epsilon=1e-6)
    tokens, maps = _tokens_and_maps(layer)
    assert tokens.shape == (2, 8)
    np.testing.assert_array_equal(maps, tokens)
    x, how = _normal(2, 6, 8), {'deterministic': True, 'use_running_average': True}
    variables = layer.init(jax.random.key(1), x, **how)
    np.testing.assert_allclose(
        layer.apply(variables, x[:, ::-1], **how), layer.apply(variables, x, **how), atol=1e-6
    )


def test_a_projection_head_is_linear_in_the_class_token():
    x, kernel = _normal(2, 6, 8), _normal(8, 3, seed=1)
    head = layers.ProjectionHead(3)
    y = head.apply(
        {'params': {'projection': {'kernel': kernel}}},
        x,
        deterministic=True,
        use_running_average=True,
    )
    np.testing.assert_allclose(y, x[:, 0] @ kernel, rtol=1e-4, atol=1e-4)
