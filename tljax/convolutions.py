"""`lax.conv_general_dilated`, written anew where XLA's own, or its gradient, is slow on CPU.

Kernels in groups, one of each channel, 1 x 1 kernels, and maps that are smaller than the kernel:
what is measured of them is in `benchmarks/convolution_gradients.py`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

_Pads = tuple[tuple[int, int], ...]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[Sequence[int]],
    *,
    feature_group_count: int,
    **_: Any,
) -> jax.Array:
    """A convolution, in the place of `lax.conv_general_dilated` in a layer.

    Args:
        x: [B, H, W, C].
        kernel: [h, w, C / groups, F].
        strides: of height and width.
        padding: before and after, of both.
        feature_group_count: into so many groups channels are parted.

    Returns:
        [B, H', W', F].
    """
    groups, features = feature_group_count, kernel.shape[-1]
    strides, pads = tuple(strides), tuple((before, after) for before, after in padding)
    sides = zip(x.shape[1:3], kernel.shape[:2], strides, pads, strict=True)
    if 1 < groups == features == x.shape[-1] and strides == (1, 1):
        return _depthwise_conv(x, kernel, pads)
    if 1 < groups < features:
        function = _grouped_conv
    elif kernel.shape[:2] == (1, 1) and groups == 1:
        function = _pointwise_conv
    elif groups == 1 and any(_length(*side) < side[1] for side in sides):
        function = _small_conv
    else:
        function = _plain_conv
    return function(x, kernel, strides, pads, groups)


def _length(size: int, kernel: int, stride: int, pad: tuple[int, int]) -> int:
    """Of the output, along an axis."""
    return (size + sum(pad) - kernel) // stride + 1


def _plain_conv(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: _Pads, groups: int
) -> jax.Array:
    """[B, H, W, C] by [h, w, C / groups, F] to [B, H', W', F]."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=groups,
    )


# XLA has no fast gradient of kernels in groups on CPU: a step of ResNeXt-50 takes 12 times as long
# with its own as with the products of shifted views below (benchmarks/convolution_gradients.py).
_grouped_conv = jax.custom_vjp(_plain_conv, nondiff_argnums=(2, 3, 4))


def _forward(x, kernel, strides, pads, groups):
    return _plain_conv(x, kernel, strides, pads, groups), (x, kernel)


def _grouped_backward(strides, pads, groups, saved, dy):
    x, kernel = saved

    def by_input(x):
        return _plain_conv(x, kernel, strides, pads, groups)

    def by_kernel(kernel):
        return _plain_conv(x, kernel, strides, pads, groups)

    dkernel = jax.lax.platform_dependent(
        dy,
        cpu=lambda dy: _kernel_gradient(x, dy, kernel.shape, strides, pads, groups),
        default=lambda dy: jax.vjp(by_kernel, kernel)[1](dy)[0],
    )
    return jax.vjp(by_input, x)[1](dy)[0], dkernel


_grouped_conv.defvjp(_forward, _grouped_backward)


# XLA transposes what such a convolution reads for the gradient of its kernel, and computes it again
# in that order on the way: a large part of a ResNet-50 step on CPU (docs/performance.md). As
# products both gradients need no transposition.
_pointwise_conv = jax.custom_vjp(_plain_conv, nondiff_argnums=(2, 3, 4))


def _pointwise_backward(strides, pads, groups, saved, dy):
    x, kernel = saved

    def by_xla(dy):
        return jax.vjp(lambda x, k: _plain_conv(x, k, strides, pads, groups), x, kernel)[1](dy)

    def by_products(dy):
        return _pointwise_gradients(x, kernel, dy, strides)

    return jax.lax.platform_dependent(dy, cpu=by_products, default=by_xla)


_pointwise_conv.defvjp(_forward, _pointwise_backward)


def _pointwise_gradients(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, strides: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Of the input [B, H, W, C] and the kernel [1, 1, C, F], given that of the output."""
    down, across = strides
    seen = x[:, ::down, ::across]
    rows, flat = dy.reshape(-1, dy.shape[-1]), seen.reshape(-1, x.shape[-1])
    dkernel = jax.lax.dot_general(flat, rows, (((0,), (0,)), ((), ())))
    dx = jax.lax.dot_general(rows, kernel[0, 0], (((1,), (1,)), ((), ()))).reshape(seen.shape)
    if down > 1 or across > 1:
        ends = [(0, n - (m - 1) * s - 1, s - 1) for n, m, s in _axes(x, seen, strides)]
        dx = jax.lax.pad(dx, jnp.zeros((), dx.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    return dx, dkernel.reshape(kernel.shape)


def _axes(x: jax.Array, seen: jax.Array, strides: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Of height and width: their size, how many places are read, how far apart."""
    return list(zip(x.shape[1:3], seen.shape[1:3], strides, strict=True))


def _kernel_gradient(
    x: jax.Array,
    dy: jax.Array,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    pads: _Pads,
    groups: int,
) -> jax.Array:
    """The gradient of a kernel of that shape, a product of a shifted view and `dy` per tap."""
    rows, cols, inner, features = shape
    (batch, height, width, _), (down, across) = dy.shape, strides
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    dy = dy.reshape(batch, height, width, groups, features // groups)
    taps = []
    for i in range(rows):
        for j in range(cols):
            view = x[:, i : i + down * (height - 1) + 1 : down]
            view = view[:, :, j : j + across * (width - 1) + 1 : across]
            view = view.reshape(batch, height, width, groups, inner)
            taps.append(jnp.einsum('bhwgc,bhwgo->cgo', view, dy).reshape(inner, features))
    return jnp.stack(taps).reshape(shape).astype(x.dtype)


def _plain_depthwise(x: jax.Array, kernel: jax.Array, pads: _Pads) -> jax.Array:
    return _plain_conv(x, kernel, (1, 1), pads, x.shape[-1])


# A 7 x 7 kernel of each channel (ConvNeXt) takes XLA on CPU ten times as long as sums of shifted
# views, and more where the map is small; so do its gradients.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise_conv(x: jax.Array, kernel: jax.Array, pads: _Pads) -> jax.Array:
    """[B, H, W, C] by [h, w, 1, C] to [B, H', W', C], each channel by itself."""
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _shifted_sum(x, kernel, pads),
        default=lambda x, kernel: _plain_depthwise(x, kernel, pads),
    )


def _depthwise_forward(x, kernel, pads):
    return _depthwise_conv(x, kernel, pads), (x, kernel)


def _depthwise_backward(pads, saved, dy):
    x, kernel = saved

    def by_views(dy):
        rest = zip(kernel.shape[:2], pads, strict=True)
        around = tuple((side - 1 - before, side - 1 - after) for side, (before, after) in rest)
        return (
            _shifted_sum(dy, kernel[::-1, ::-1], around),
            _depthwise_kernel_gradient(x, dy, kernel, pads),
        )

    def by_xla(dy):
        return jax.vjp(lambda x, kernel: _plain_depthwise(x, kernel, pads), x, kernel)[1](dy)

    return jax.lax.platform_dependent(dy, cpu=by_views, default=by_xla)


_depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


def _shifted_sum(x: jax.Array, kernel: jax.Array, pads: _Pads) -> jax.Array:
    """The sum of shifted views, each times its weight of every channel; in float32 at least."""
    rows, columns = kernel.shape[:2]
    padded, exact = jnp.pad(x, ((0, 0), *pads, (0, 0))), jnp.promote_types(x.dtype, jnp.float32)
    height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
    found = jnp.zeros((), exact)
    for i in range(rows):
        for j in range(columns):
            view = padded[:, i : i + height, j : j + width].astype(exact)
            found = found + view * kernel[i, j, 0].astype(exact).reshape(1, 1, 1, -1)
    # Or each of its readers computes it again, fused with what it does.
    return jax.lax.optimization_barrier(found.astype(x.dtype))


def _depthwise_kernel_gradient(
    x: jax.Array, dy: jax.Array, kernel: jax.Array, pads: _Pads
) -> jax.Array:
    """One product of each channel for every row of the kernel: sums along its diagonals.

    It multiplies every column with every other, of which only those near to each other are
    wanted, and is still twice as fast as summing shifted views.
    """
    (batch, height, width, channels), (rows, columns) = dy.shape, kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0))).transpose(3, 0, 1, 2)
    across = x.shape[-1]
    dy = dy.transpose(3, 0, 1, 2).reshape(channels, batch * height, width)
    seen = [x[:, :, i : i + height].reshape(channels, batch * height, across) for i in range(rows)]
    products = jnp.stack([jnp.einsum('crw,crv->cwv', dy, view) for view in seen])
    # In rows longer by one, column w + j of row w stands in column j.
    flat = products.reshape(rows, channels, width * across)
    flat = jnp.pad(flat, ((0, 0), (0, 0), (0, width)))
    taps = flat.reshape(rows, channels, width, across + 1)[..., :columns].sum(2)
    return taps.swapaxes(1, 2).reshape(kernel.shape).astype(kernel.dtype)


# Of maps smaller than the kernel, or with such an output, XLA takes another way on CPU, which is 20
# times slower, or 30 with the gradients: the last stage of a ResNet at 64 px and below.
def _small_conv(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: _Pads, groups: int
) -> jax.Array:
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _patched_conv(x, kernel, strides, pads),
        default=lambda x, kernel: _plain_conv(x, kernel, strides, pads, groups),
    )


def _patched_conv(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: _Pads
) -> jax.Array:
    """The product of all patches and the kernel, but for the taps that see the border alone."""
    sides = zip(x.shape[1:3], kernel.shape[:2], strides, pads, strict=True)
    rows, columns = (_views(*side) for side in sides)
    taps = [(i, j) for i in rows for j in columns]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    patches = jnp.concatenate([x[:, rows[i]][:, :, columns[j]] for i, j in taps], -1)
    return patches @ jnp.concatenate([kernel[i, j] for i, j in taps])


def _views(size: int, kernel: int, stride: int, pad: tuple[int, int]) -> dict[int, slice]:
    """What each tap sees of a padded axis, of those that see more than the border."""
    count = _length(size, kernel, stride, pad)
    seen = {tap: range(tap, tap + stride * (count - 1) + 1, stride) for tap in range(kernel)}
    return {
        tap: slice(places.start, places.stop, stride)
        for tap, places in seen.items()
        if any(pad[0] <= place < pad[0] + size for place in places)
    }
