"""Convolutions whose forms on CPU are faster than XLA's: grouped, depthwise, 1 x 1 and small maps.

Each takes an input [B, H, W, C], a kernel [h, w, C / groups, F] and a window, and gives
[B, H', W', F]. `benchmarks/convolution_gradients.py` measures them.
"""

import contextlib
import contextvars
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Pads = tuple[tuple[int, int], ...]
_xla_alone = contextvars.ContextVar('_xla_alone', default=False)
SMALL_SIDE = 5  # of a depthwise kernel whose gradient is sums of views
ROWS = 8  # at most; of a view that are added one by one
DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


class Window(NamedTuple):
    """The geometry of a convolution."""

    strides: tuple[int, ...]
    pads: Pads
    groups: int
    precision: Any  # as `lax` takes it


@contextlib.contextmanager
def xla_alone() -> Iterator[None]:
    """In this context convolutions are traced in XLA's form, for converters to other formats."""
    token = _xla_alone.set(True)
    try:
        yield
    finally:
        _xla_alone.reset(token)


def _by_platform(*operands: jax.Array, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """`cpu(*operands)` in programs for CPU, `default(*operands)` in others."""
    if _xla_alone.get():
        return default(*operands)
    return jax.lax.platform_dependent(*operands, cpu=cpu, default=default)


def length(size: int, kernel: int, stride: int, pad: tuple[int, int]) -> int:
    """The output's size along an axis."""
    return (size + sum(pad) - kernel) // stride + 1


def plain(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
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
grouped = jax.custom_vjp(plain, nondiff_argnums=(2,))


def _forward(x, kernel, window):
    return plain(x, kernel, window), (x, kernel)


def _grouped_backward(window, saved, dy):
    x, kernel = saved

    def by_input(x):
        return plain(x, kernel, window)

    def by_kernel(kernel):
        return plain(x, kernel, window)

    dkernel = _by_platform(
        dy,
        cpu=lambda dy: _kernel_gradient(x, dy, kernel.shape, window),
        default=lambda dy: jax.vjp(by_kernel, kernel)[1](dy)[0],
    )
    return jax.vjp(by_input, x)[1](dy)[0], dkernel


grouped.defvjp(_forward, _grouped_backward)


# For a 1x1 kernel's gradient XLA transposes the convolution's input and recomputes it in that
# order: a large part of a ResNet-50 step on CPU (docs/performance.md). Matrix products need no
# transposition.
pointwise = jax.custom_vjp(plain, nondiff_argnums=(2,))


def _pointwise_backward(window, saved, dy):
    x, kernel = saved

    def by_xla(dy):
        return jax.vjp(lambda x, k: plain(x, k, window), x, kernel)[1](dy)

    def by_products(dy):
        return _pointwise_gradients(x, kernel, dy, window)

    return _by_platform(dy, cpu=by_products, default=by_xla)


pointwise.defvjp(_forward, _pointwise_backward)


def _pointwise_gradients(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, window: Window
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
    window: Window,
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
# views, and longer on small maps; its gradients are as slow, and those of strided kernels slower.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """[B, H, W, C] by [h, w, 1, C] to [B, H', W', C], each channel by itself."""
    return _by_platform(
        x,
        kernel,
        cpu=lambda x, kernel: _shifted_sum(
            jnp.pad(x, ((0, 0), *window.pads, (0, 0))), kernel, window.strides
        ),
        default=lambda x, kernel: plain(x, kernel, window),
    )


def _depthwise_forward(x, kernel, window):
    return depthwise(x, kernel, window), (x, kernel)


def _depthwise_backward(window, saved, dy):
    x, kernel = saved

    def by_views(dy):
        dy = jax.lax.optimization_barrier(dy)  # otherwise every tap computes it again
        return (
            _shifted_sum(_around(x, dy, kernel, window), kernel[::-1, ::-1], (1, 1)),
            _depthwise_kernel_gradient(x, dy, kernel, window),
        )

    def by_xla(dy):
        return jax.vjp(lambda x, kernel: plain(x, kernel, window), x, kernel)[1](dy)

    return _by_platform(dy, cpu=by_views, default=by_xla)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _around(x: jax.Array, dy: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """`dy` with zeros between and around it: its windows of stride 1 are those of `x`."""
    edges = []
    sides = zip(
        x.shape[1:3], dy.shape[1:3], kernel.shape, window.strides, window.pads, strict=False
    )
    for size, count, side, stride, (before, _) in sides:
        after = size - 1 - (count - 1) * stride + before
        edges.append((side - 1 - before, after, stride - 1))
    return jax.lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _tap(
    padded: jax.Array, tap: tuple[int, int], counts: Sequence[int], strides: Sequence[int]
) -> jax.Array:
    """The pixels [B, H', W', C] that a tap of the kernel reads."""
    (i, j), (height, width), (down, across) = tap, counts, strides
    view = padded[:, i : i + down * (height - 1) + 1 : down]
    return view[:, :, j : j + across * (width - 1) + 1 : across]


def _shifted_sum(padded: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> jax.Array:
    """The sum of shifted views times their weights per channel, in float32 or wider."""
    rows, columns = kernel.shape[:2]
    exact = jnp.promote_types(padded.dtype, jnp.float32)
    sides = zip(padded.shape[1:3], (rows, columns), strides, strict=True)
    counts = [(size - side) // stride + 1 for size, side, stride in sides]
    total = jnp.zeros((), exact)
    for i in range(rows):
        for j in range(columns):
            view = _tap(padded, (i, j), counts, strides).astype(exact)
            total = total + view * kernel[i, j, 0].astype(exact).reshape(1, 1, 1, -1)
    # Without the barrier every reader recomputes the sum, fused into its own computation.
    return jax.lax.optimization_barrier(total.astype(padded.dtype))


def _sum_of_views(x: jax.Array, dy: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The kernel's gradient: for each tap the sum of its pixels times `dy`.

    XLA copies a view before it reduces it. Additions read it where it is, so up to `ROWS` rows are
    added one by one, and only their sums are reduced.
    """
    exact = jnp.promote_types(x.dtype, jnp.float32)
    x, dy = jnp.pad(x, ((0, 0), *window.pads, (0, 0))).astype(exact), dy.astype(exact)
    height, width = dy.shape[1:3]
    rows = max(count for count in range(1, ROWS + 1) if height % count == 0)
    (down, across), groups = window.strides, height // rows
    taps = []
    for tap in itertools.product(*map(range, kernel.shape[:2])):
        total = jnp.zeros((), exact)
        for row in range(rows):
            first = tap[0] + row * down, tap[1]
            view = _tap(x, first, (groups, width), (rows * down, across))
            total = total + view * dy[:, row::rows]
        # The barrier keeps these additions out of the reduction, which would copy again.
        taps.append(jax.lax.optimization_barrier(total).sum((0, 1, 2)))
    return jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


def _depthwise_kernel_gradient(
    x: jax.Array, dy: jax.Array, kernel: jax.Array, window: Window
) -> jax.Array:
    """For each row of the kernel one product per channel, whose diagonals are summed.

    The product pairs every column with every other although only near pairs are used. Small and
    strided kernels sum views instead. For a 7 x 7 kernel that is faster, too, but its 49 taps take
    four times as long to compile.
    """
    if window.strides != (1, 1) or max(kernel.shape[:2]) <= SMALL_SIDE:
        return _sum_of_views(x, dy, kernel, window)
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
def small(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    return _by_platform(
        x,
        kernel,
        cpu=lambda x, kernel: _patched_conv(x, kernel, window),
        default=lambda x, kernel: plain(x, kernel, window),
    )


def _patched_conv(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
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
    count = length(size, kernel, stride, pad)
    positions = {tap: range(tap, tap + stride * (count - 1) + 1, stride) for tap in range(kernel)}
    return {
        tap: slice(read.start, read.stop, stride)
        for tap, read in positions.items()
        if any(pad[0] <= position < pad[0] + size for position in read)
    }
