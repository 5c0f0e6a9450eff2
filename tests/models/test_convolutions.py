"""Convolutions written anew, beside XLA's own."""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.models import convolutions, layers

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
    ours, theirs = _with_gradients(
        lambda x, kernel: layer.apply({'params': {'kernel': kernel}}, x),
        lambda x, kernel: _by_xla(x, kernel, stride=stride, groups=groups),
        x,
        kernel,
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), ours, theirs)


def _with_gradients(ours, theirs, x, kernel) -> Any:
    """The outputs of two functions and the gradients of their sums of squares, in one program."""

    def both(x, kernel):
        results = []
        for function in (ours, theirs):
            y, pull = jax.vjp(function, x, kernel)
            results.append((y, pull(2 * y)))
        return results

    return jax.jit(both)(x, kernel)


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


SMALL_MAPS = [
    # A kernel of 3 and one larger than the map by default; unrolled ones take seconds to compile.
    pytest.param(
        size,
        kernel,
        stride,
        marks=() if kernel == 3 or (size, kernel) == ((1, 4), 5) else pytest.mark.slow,
    )
    for size in [(1, 1), (1, 4), (2, 2), (2, 9), (3, 2), (4, 4)]
    for kernel in (3, 5, 7)
    for stride in (1, 2, 3)
]


@pytest.mark.parametrize(('size', 'kernel', 'stride'), SMALL_MAPS)
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


@pytest.mark.parametrize(('height', 'side', 'stride'), [(12, 5, 1), (23, 3, 2), (11, 3, 1)])
def test_the_rows_of_a_map_are_summed_in_groups(height, side, stride):
    """Two groups of six rows, two again, and eleven of one."""
    _assert_same(_drawn(2, height, 5, 4), _drawn(side, side, 1, 4), groups=4, stride=stride)


def _kernel_gradient(*shape, after=lambda y: y) -> jax.stages.Compiled:
    """The gradient of a 3 x 3 depthwise convolution, compiled as a training step is."""
    layer = layers.conv(shape[-1], 3, groups=shape[-1])

    def loss(x, kernel):
        return after(layer.apply({'params': {'kernel': kernel}}, x)).sum()

    gradients = jax.jit(jax.grad(loss, (0, 1)), compiler_options=layers.KEEP_BARRIERS)
    return gradients.lower(jnp.ones(shape), jnp.ones((3, 3, 1, shape[-1]))).compile()


def test_the_gradient_of_a_depthwise_kernel_does_not_copy_what_each_tap_reads():
    analysis: Any = _kernel_gradient(2, 32, 32, 16).memory_analysis()
    assert analysis.temp_size_in_bytes < 5 * (2 * 32 * 32 * 16 * 4)  # a copy for each tap takes 9


def test_the_gradient_above_a_depthwise_convolution_is_computed_once():
    text = _kernel_gradient(2, 8, 8, 4, after=jnp.sin).as_text()
    assert text.count(' cosine(') == 1


@pytest.mark.parametrize('padding', ['SAME', 'VALID', ((1, 1), (2, 2)), ((0, 2), (1, 0))], ids=str)
@pytest.mark.parametrize('strides', [(2, 2), (1, 3)], ids=str)
@pytest.mark.parametrize('size', [(6, 6), (7, 9)], ids=str)
def test_a_strided_convolution_of_each_channel_is_one_for_each(size, strides, padding):
    ours, theirs = (
        functools.partial(
            function,
            window_strides=strides,
            padding=padding,
            dimension_numbers=NAMES,
            feature_group_count=6,
        )
        for function in (convolutions.convolve, jax.lax.conv_general_dilated)
    )
    results = _with_gradients(ours, theirs, _drawn(2, *size, 6), _drawn(3, 5, 1, 6))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *results)


@pytest.mark.parametrize(('side', 'stride'), [(7, 1), (3, 1), (3, 2)])
def test_on_cpu_a_convolution_of_each_channel_is_none_of_xla(side, stride):
    """XLA's own takes a ConvNeXt's training step five times as long; with strides, 30 times."""
    x, values = jnp.ones((2, 6, 6, 8)), jnp.ones((side, side, 1, 8))
    layer = layers.conv(8, side, groups=8, stride=stride)
    assert 'stablehlo.convolution' not in _lowered(layer, x, values)


def test_a_convolution_of_each_channel_sums_in_float32():
    x, values = _drawn(2, 6, 6, 8), _drawn(7, 7, 1, 8)
    halves = x.astype(jnp.bfloat16), values.astype(jnp.bfloat16)
    found = convolutions.convolve(*halves, (1, 1), ((3, 3), (3, 3)), feature_group_count=8)
    wanted = _by_xla(*(half.astype(jnp.float32) for half in halves), groups=8)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ('sides', 'inner', 'options'),
    [
        ((3, 3), 4, {'rhs_dilation': (2, 2)}),
        ((3, 3), 1, {'rhs_dilation': (1, 2), 'feature_group_count': 4}),
        ((3, 3), 2, {'rhs_dilation': (2, 1), 'feature_group_count': 2, 'window_strides': (2, 1)}),
        ((1, 1), 4, {'rhs_dilation': (3, 3)}),
        ((3, 3), 4, {'lhs_dilation': (2, 2), 'window_strides': (1, 2)}),
        ((1, 1), 4, {'padding': ((1, 0), (2, 1))}),
        ((3, 3), 1, {'padding': ((4, 3), (0, 5)), 'feature_group_count': 4}),
        ((3, 3), 2, {'padding': ((-1, 2), (3, -2)), 'feature_group_count': 2}),
        ((3, 2), 4, {'padding': 'SAME', 'window_strides': (2, 3)}),
        ((3, 3), 2, {'padding': 'VALID', 'feature_group_count': 2}),
        ((9, 3), 4, {'padding': 'SAME_LOWER'}),
        ((3, 3), 4, {'padding': ((9, 9), (9, 9)), 'window_strides': (20, 20)}),
        ((3, 3), 2, {'batch_group_count': 2}),
    ],
    ids=str,
)
def test_a_convolution_honours_every_argument_of_lax(sides, inner, options):
    if 'batch_group_count' in options:
        inner = 4
    x, kernel = _drawn(2, 6, 5, 4), _drawn(*sides, inner, 4)
    options = {'window_strides': (1, 1), 'padding': ((1, 1), (1, 1))} | options
    ours, theirs = _with_gradients(
        functools.partial(convolutions.convolve, dimension_numbers=NAMES, **options),
        functools.partial(jax.lax.conv_general_dilated, dimension_numbers=NAMES, **options),
        x,
        kernel,
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)


@pytest.mark.parametrize(('kernel', 'dilation'), [((3, 3), 2), ((3,), 3), ((2, 2, 2), 1)], ids=str)
def test_a_layer_of_flax_gives_what_it_gives_without_us(kernel, dilation):
    x = _drawn(2, *(5,) * len(kernel), 4)
    options = {'kernel_dilation': dilation, 'padding': 'SAME', 'features': 4}
    theirs = nn.Conv(kernel_size=kernel, **options)
    ours = nn.Conv(kernel_size=kernel, **options, conv_general_dilated=convolutions.convolve)
    variables = theirs.init(jax.random.key(0), x)
    found, wanted = (np.asarray(layer.apply(variables, x)) for layer in (ours, theirs))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_axes_in_another_order_are_left_to_lax():
    x, kernel = _drawn(2, 4, 4, 4), _drawn(4, 4, 1, 1)
    arguments = x, kernel, (1, 1), 'SAME', None, None, None  # the order of channels first
    np.testing.assert_array_equal(
        convolutions.convolve(*arguments), jax.lax.conv_general_dilated(*arguments)
    )


@pytest.mark.parametrize(
    ('side', 'groups', 'stride', 'size'),
    [(1, 1, 2, 6), (5, 4, 1, 6), (3, 2, 1, 6), (3, 1, 1, 2), (3, 1, 1, 6)],
    ids=['1x1', 'depthwise', 'grouped', 'small', 'plain'],
)
def test_every_product_has_the_precision_that_is_asked_for(side, groups, stride, size):
    def run(x, kernel):
        pads = ((side // 2,) * 2,) * 2
        how = {'feature_group_count': groups, 'precision': 'highest'}
        return convolutions.convolve(x, kernel, (stride, stride), pads, **how).sum()

    x, kernel = jnp.ones((2, size, size, 4)), jnp.ones((side, side, 4 // groups, 4))
    lowered = jax.jit(jax.grad(run, (0, 1))).lower(x, kernel).as_text()
    products = [line for line in lowered.splitlines() if re.search(r'convolution\(|dot_gen', line)]
    assert all('HIGHEST' in line and 'DEFAULT' not in line for line in products), products


def test_the_element_type_of_a_result_can_be_asked_for():
    x, kernel = _drawn(2, 6, 6, 4).astype(jnp.bfloat16), _drawn(1, 1, 4, 4).astype(jnp.bfloat16)
    y = convolutions.convolve(x, kernel, (1, 1), 'SAME', preferred_element_type=jnp.float32)
    assert y.dtype == jnp.float32
