"""Convolutions written anew, beside XLA's own."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import convolutions, layers

NAMES = ('NHWC', 'HWIO', 'NHWC')


def _drawn(*shape) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def _by_xla(x, kernel, *, stride=1, groups=1) -> jax.Array:
    """Each group a convolution of its own."""
    pads = [((side - 1) // 2,) * 2 for side in kernel.shape[:2]]
    pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    parts = [
        jax.lax.conv_general_dilated(a, b, (stride, stride), pads, dimension_numbers=NAMES)
        for a, b in pairs
    ]
    return jnp.concatenate(parts, -1)


def _assert_same(x, kernel, *, stride=1, groups=1):
    """The output, and the gradients of a sum of its squares."""
    layer = layers.conv(kernel.shape[-1], len(kernel), stride=stride, groups=groups)

    def ours(x, kernel) -> Any:
        y: Any = layer.apply({'params': {'kernel': kernel}}, x)
        return jnp.square(y).sum(), y

    def theirs(x, kernel) -> Any:
        y = _by_xla(x, kernel, stride=stride, groups=groups)
        return jnp.square(y).sum(), y

    found = jax.value_and_grad(ours, (0, 1), has_aux=True)(x, kernel)
    wanted = jax.value_and_grad(theirs, (0, 1), has_aux=True)(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), found, wanted)


def _lowered(layer, x, kernel, argnums=(0, 1)) -> str:
    pull = jax.grad(lambda x, k: layer.apply({'params': {'kernel': k}}, x).sum(), argnums)
    return jax.jit(pull).lower(x, kernel).as_text()


@pytest.mark.parametrize('groups', [2, 4])
@pytest.mark.parametrize(('kernel', 'stride', 'size'), [(3, 1, 7), (3, 2, 7), (3, 2, 8), (1, 2, 5)])
def test_a_convolution_in_groups_is_one_for_each_group(groups, kernel, stride, size):
    x, values = _drawn(2, size, size, 8), _drawn(kernel, kernel, 8 // groups, 12)
    _assert_same(x, values, stride=stride, groups=groups)


def test_on_cpu_no_gradient_of_a_kernel_is_a_convolution_in_groups():
    """XLA's own is one in batch groups, 150 times slower there than products."""
    x, values = jnp.ones((2, 6, 6, 16)), jnp.ones((3, 3, 4, 16))
    lowered = _lowered(layers.conv(16, 3, groups=4), x, values, (1,))
    assert not re.search(r'batch_group_count = (?!1 )', lowered)


@pytest.mark.parametrize(('stride', 'size'), [(1, 5), (2, 5), (2, 6), (3, 7)])
def test_a_1x1_convolution_has_the_gradients_that_jax_derives(stride, size):
    _assert_same(_drawn(2, size, size, 4), _drawn(1, 1, 4, 6), stride=stride)


def test_on_cpu_the_gradients_of_a_1x1_convolution_are_no_convolutions():
    """XLA's own transposes what it reads: a large part of a ResNet-50 step."""
    x, values = jnp.ones((2, 6, 6, 8)), jnp.ones((1, 1, 8, 16))
    assert 'stablehlo.convolution' not in _lowered(layers.conv(16, 1, stride=2), x, values)


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('kernel', [3, 5, 7])
@pytest.mark.parametrize('size', [(1, 1), (1, 4), (2, 2), (2, 9), (3, 2), (4, 4)])
def test_a_convolution_of_a_small_map_is_that_of_a_large_one(size, kernel, stride):
    _assert_same(_drawn(2, *size, 4), _drawn(kernel, kernel, 4, 6), stride=stride)


@pytest.mark.parametrize(('size', 'stride'), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_on_cpu_a_convolution_of_a_small_map_is_a_product(size, stride):
    """XLA's own is 20 to 30 times slower: the last stage of a ResNet at 64 px and below."""
    x, values = jnp.ones((2, size, size, 8)), jnp.ones((3, 3, 8, 8))
    assert 'stablehlo.convolution' not in _lowered(layers.conv(8, 3, stride=stride), x, values)


def test_a_convolution_of_a_map_of_one_pixel_reads_the_middle_of_its_kernel_alone():
    layer, x, values = layers.conv(8, 3), jnp.ones((2, 1, 1, 8)), jnp.ones((3, 3, 8, 8))
    whole = jax.jit(lambda k: layer.apply({'params': {'kernel': k}}, x)).lower(values)
    analysis: Any = whole.compile().cost_analysis()
    assert analysis['flops'] < 2 * 2 * 8 * 8 * 2


@pytest.mark.parametrize('size', [(1, 1), (2, 9), (5, 3), (8, 8)])
@pytest.mark.parametrize('kernel', [3, 7])
def test_a_convolution_of_each_channel_by_itself_is_one_for_each(kernel, size):
    _assert_same(_drawn(2, *size, 6), _drawn(kernel, kernel, 1, 6), groups=6)


def test_a_convolution_of_each_channel_may_make_several_or_stride():
    _assert_same(_drawn(2, 6, 6, 4), _drawn(3, 3, 1, 8), groups=4)
    _assert_same(_drawn(2, 6, 6, 4), _drawn(3, 3, 1, 4), groups=4, stride=2)


def test_on_cpu_a_convolution_of_each_channel_is_none_of_xla():
    """XLA's own takes a ConvNeXt's training step five times as long."""
    x, values = jnp.ones((2, 6, 6, 8)), jnp.ones((7, 7, 1, 8))
    assert 'stablehlo.convolution' not in _lowered(layers.conv(8, 7, groups=8), x, values)


def test_a_convolution_of_each_channel_sums_in_float32():
    x, values = _drawn(2, 6, 6, 8), _drawn(7, 7, 1, 8)
    halves = x.astype(jnp.bfloat16), values.astype(jnp.bfloat16)
    found = convolutions.convolve(*halves, (1, 1), ((3, 3), (3, 3)), feature_group_count=8)
    wanted = _by_xla(*(half.astype(jnp.float32) for half in halves), groups=8)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), wanted, rtol=1e-2, atol=1e-2)
