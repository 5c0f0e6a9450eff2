"""`lax.conv_general_dilated` with fast replacements for cases in which XLA is slow on CPU.

The cases are grouped, depthwise and 1 x 1 kernels, and maps smaller than the kernel, forward or in
their gradients. `benchmarks/convolution_gradients.py` measures them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_Pads = tuple[tuple[int, int], ...]
DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


class _Window(NamedTuple):
    """The geometry of a convolution."""

    strides: tuple[int, ...]
    pads: _Pads
    groups: int
    precision: Any  # as `lax` takes it


def convolve(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = DIMENSIONS,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """A convolution with the arguments of `lax.conv_general_dilated`, for use in a layer.

    Two-dimensional convolutions of `DIMENSIONS` without dilation can take a fast form; all others
    are XLA's own.

    Args:
        lhs: the input, [B, H, W, C] unless `dimension_numbers` says otherwise.
        rhs: the kernel, [h, w, C / feature_group_count, F] unless `dimension_numbers` says
            otherwise.
        window_strides: for each spatial axis.
        padding: before and after, for each spatial axis; or `SAME`, `SAME_LOWER`, `VALID`.
        lhs_dilation: of the input, for each spatial axis; None for 1.
        rhs_dilation: of the kernel, for each spatial axis; None for 1.
        dimension_numbers: the order of axes.
        feature_group_count: the number of groups of channels.
        batch_group_count: the number of groups of the batch.
        precision: of the products.
        preferred_element_type: of the result.

    Returns:
        The output, [B, H', W', F] unless `dimension_numbers` says otherwise.
    """
    window = None
    if batch_group_count == 1 and preferred_element_type in (None, lhs.dtype):
        dilations = (*(lhs_dilation or ()), *(rhs_dilation or ()))
        if set(dilations) <= {1} and _is_usual(lhs, rhs, dimension_numbers):
            if isinstance(padding, str):
                sides = lhs.shape[1:3], rhs.shape[:2]
                padding = jax.lax.padtype_to_pads(*sides, window_strides, padding)
            pads = tuple((int(before), int(after)) for before, after in padding)
            window = _Window(tuple(window_strides), pads, feature_group_count, precision)
    if window is not None and (function := _fast_form(lhs, rhs, window)):
        return function(lhs, rhs, window)
    return jax.lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def _is_usual(x: jax.Array, kernel: jax.Array, dimension_numbers: Any) -> bool:
    """Whether both are floating point of one dtype, with the axes of `DIMENSIONS`."""
    if x.ndim != 4 or kernel.ndim != 4 or x.dtype != kernel.dtype:
        return False
    given, usual = (
        jax.lax.conv_dimension_numbers(x.shape, kernel.shape, numbers)
        for numbers in (dimension_numbers, DIMENSIONS)
    )
    return given == usual and jnp.issubdtype(x.dtype, jnp.floating)


def _fast_form(x: jax.Array, kernel: jax.Array, window: _Window) -> Callable[..., Any] | None:
    """The faster function for these shapes; None if XLA's own is as fast."""
    groups, features = window.groups, kernel.shape[-1]
    sides = list(zip(x.shape[1:3], kernel.shape[:2], window.strides, window.pads, strict=True))
    # With padding below the kernel's size every window covers a pixel. Larger padding, cropping
    # and empty outputs are left to XLA.
    if not all(0 <= min(pad) <= max(pad) < side for _, side, _, pad in sides):
        return None
    if kernel.shape[2] * groups != x.shape[-1] or any(_length(*side) < 1 for side in sides):
        return None
    if 1 < groups == features == x.shape[-1] and window.strides == (1, 1):
        return _depthwise_conv
    if 1 < groups < features:
        return _grouped_conv
    if groups == 1 and kernel.shape[:2] == (1, 1):
        return _pointwise_conv
    if groups == 1 and any(_length(*side) < side[1] for side in sides):
        return _small_conv
    return None


def _length(size: int, kernel: int, stride: int, pad: tuple[int, int]) -> int:
    """The output's size along an axis."""
    return (size + sum(pad) - kernel) // stride + 1


def _plain_conv(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    """[B, H, W, C] by [h, w, C / groups, F] to [B, H', W', F]."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        dimension_numbers=DIMENSIONS,
        feature_group_count=window.groups,
        precision=window.precision,
    )


# XLA has no fast gradient of grouped kernels on CPU: a step of ResNeXt-50 takes 12 times as long as
# with the products of shifted views below (benchmarks/convolution_gradients.py).
_grouped_conv = jax.custom_vjp(_plain_conv, nondiff_argnums=(2,))


def _forward(x, kernel, window):
    return _plain_conv(x, kernel, window), (x, kernel)


def _grouped_backward(window, saved, dy):
    x, kernel = saved

    def by_input(x):
        return _plain_conv(x, kernel, window)

    def by_kernel(kernel):
        return _plain_conv(x, kernel, window)

    dkernel = jax.lax.platform_dependent(
        dy,
        cpu=lambda dy: _kernel_gradient(x, dy, kernel.shape, window),
        default=lambda dy: jax.vjp(by_kernel, kernel)[1](dy)[0],
    )
    return jax.vjp(by_input, x)[1](dy)[0], dkernel


_grouped_conv.defvjp(_forward, _grouped_backward)


# For a 1x1 kernel's gradient XLA transposes the convolution's input and recomputes it in that
# order: a large part of a ResNet-50 step on CPU (docs/performance.md). Matrix products need no
# transposition.
_pointwise_conv = jax.custom_vjp(_plain_conv, nondiff_argnums=(2,))


def _pointwise_backward(window, saved, dy):
    x, kernel = saved

    def by_xla(dy):
        return jax.vjp(lambda x, k: _plain_conv(x, k, window), x, kernel)[1](dy)

    def by_products(dy):
        return _pointwise_gradients(x, kernel, dy, window)

    return jax.lax.platform_dependent(dy, cpu=by_products, default=by_xla)


_pointwise_conv.defvjp(_forward, _pointwise_backward)


def _pointwise_gradients(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, window: _Window
) -> tuple[jax.Array, jax.Array]:
    """Gradients of the input [B, H, W, C] and the kernel [1, 1, C, F] from the output's, `dy`."""
    down, across = window.strides
    read = x[:, ::down, ::across]
    rows, flat = dy.reshape(-1, dy.shape[-1]), read.reshape(-1, x.shape[-1])
    product = functools.partial(jax.lax.dot_general, precision=window.precision)
    dkernel = product(flat, rows, (((0,), (0,)), ((), ())))
    dx = product(rows, kernel[0, 0], (((1,), (1,)), ((), ()))).reshape(read.shape)
    if down > 1 or across > 1:
        ends = [(0, n - (m - 1) * s - 1, s - 1) for n, m, s in _axes(x, read, window.strides)]
        dx = jax.lax.pad(dx, jnp.zeros((), dx.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    return dx, dkernel.reshape(kernel.shape)


def _axes(x: jax.Array, read: jax.Array, strides: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """For height and width: the size, the number of positions read, the stride."""
    return list(zip(x.shape[1:3], read.shape[1:3], strides, strict=True))


def _kernel_gradient(
    x: jax.Array,
    dy: jax.Array,
    shape: tuple[int, ...],
    window: _Window,
) -> jax.Array:
    """The gradient of a kernel of that shape: for each tap a product of a shifted view and `dy`."""
    rows, cols, inner, features = shape
    (batch, height, width, _), (down, across), groups = dy.shape, window.strides, window.groups
    x = jnp.pad(x, ((0, 0), *window.pads, (0, 0)))
    product = functools.partial(jnp.einsum, 'bhwgc,bhwgo->cgo', precision=window.precision)
    dy = dy.reshape(batch, height, width, groups, features // groups)
    taps = []
    for i in range(rows):
        for j in range(cols):
            view = x[:, i : i + down * (height - 1) + 1 : down]
            view = view[:, :, j : j + across * (width - 1) + 1 : across]
            view = view.reshape(batch, height, width, groups, inner)
            taps.append(product(view, dy).reshape(inner, features))
    return jnp.stack(taps).reshape(shape).astype(x.dtype)


# XLA on CPU takes ten times as long for a 7 x 7 depthwise kernel (ConvNeXt) as for sums of shifted
# views, and longer on small maps; its gradients are as slow.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise_conv(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    """[B, H, W, C] by [h, w, 1, C] to [B, H', W', C], each channel by itself."""
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _shifted_sum(x, kernel, window.pads),
        default=lambda x, kernel: _plain_conv(x, kernel, window),
    )


def _depthwise_forward(x, kernel, window):
    return _depthwise_conv(x, kernel, window), (x, kernel)


def _depthwise_backward(window, saved, dy):
    x, kernel = saved

    def by_views(dy):
        sides = zip(kernel.shape[:2], window.pads, strict=True)
        around = tuple((side - 1 - before, side - 1 - after) for side, (before, after) in sides)
        return (
            _shifted_sum(dy, kernel[::-1, ::-1], around),
            _depthwise_kernel_gradient(x, dy, kernel, window),
        )

    def by_xla(dy):
        return jax.vjp(lambda x, kernel: _plain_conv(x, kernel, window), x, kernel)[1](dy)

    return jax.lax.platform_dependent(dy, cpu=by_views, default=by_xla)


_depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


def _shifted_sum(x: jax.Array, kernel: jax.Array, pads: _Pads) -> jax.Array:
    """The sum of shifted views times their weights per channel, in float32 or wider."""
    rows, columns = kernel.shape[:2]
    padded, exact = jnp.pad(x, ((0, 0), *pads, (0, 0))), jnp.promote_types(x.dtype, jnp.float32)
    height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
    total = jnp.zeros((), exact)
    for i in range(rows):
        for j in range(columns):
            view = padded[:, i : i + height, j : j + width].astype(exact)
            total = total + view * kernel[i, j, 0].astype(exact).reshape(1, 1, 1, -1)
    # Without the barrier every reader recomputes the sum, fused into its own computation.
    return jax.lax.optimization_barrier(total.astype(x.dtype))


def _depthwise_kernel_gradient(
    x: jax.Array, dy: jax.Array, kernel: jax.Array, window: _Window
) -> jax.Array:
    """For each row of the kernel one product per channel, whose diagonals are summed.

    The product pairs every column with every other although only near pairs are used, and is still
    twice as fast as summing shifted views.
    """
    (batch, height, width, channels), (rows, columns) = dy.shape, kernel.shape[:2]
    x = jnp.pad(x, ((0, 0), *window.pads, (0, 0))).transpose(3, 0, 1, 2)
    across = x.shape[-1]
    dy = dy.transpose(3, 0, 1, 2).reshape(channels, batch * height, width)
    views = [x[:, :, i : i + height].reshape(channels, batch * height, across) for i in range(rows)]
    product = functools.partial(jnp.einsum, 'crw,crv->cwv', precision=window.precision)
    products = jnp.stack([product(dy, view) for view in views])
    # After padding each row by one, column w + j of row w lies in column j.
    flat = products.reshape(rows, channels, width * across)
    flat = jnp.pad(flat, ((0, 0), (0, 0), (0, width)))
    taps = flat.reshape(rows, channels, width, across + 1)[..., :columns].sum(2)
    return taps.swapaxes(1, 2).reshape(kernel.shape).astype(kernel.dtype)


# XLA on CPU has a path for maps, or outputs, smaller than the kernel that is 20 times slower, 30
# with the gradients: it hits the last stage of a ResNet at 64 px and below.
def _small_conv(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _patched_conv(x, kernel, window),
        default=lambda x, kernel: _plain_conv(x, kernel, window),
    )


def _patched_conv(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    """The product of all patches and the kernel, without taps that see only the border."""
    sides = zip(x.shape[1:3], kernel.shape[:2], window.strides, window.pads, strict=True)
    rows, columns = (_views(*side) for side in sides)
    taps = [(i, j) for i in rows for j in columns]
    x = jnp.pad(x, ((0, 0), *window.pads, (0, 0)))
    patches = jnp.concatenate([x[:, rows[i]][:, :, columns[j]] for i, j in taps], -1)
    weights = jnp.concatenate([kernel[i, j] for i, j in taps])
    return jnp.matmul(patches, weights, precision=window.precision)


def _views(size: int, kernel: int, stride: int, pad: tuple[int, int]) -> dict[int, slice]:
    """The slice of a padded axis that each tap reads, for taps that see more than the border."""
    count = _length(size, kernel, stride, pad)
    positions = {tap: range(tap, tap + stride * (count - 1) + 1, stride) for tap in range(kernel)}
    return {
        tap: slice(read.start, read.stop, stride)
        for tap, read in positions.items()
        if any(pad[0] <= position < pad[0] + size for position in read)
    }
