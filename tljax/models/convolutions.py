"""`lax.conv_general_dilated` with fast replacements for cases in which XLA is slow on CPU.

The cases are grouped, depthwise and 1 x 1 kernels, and maps smaller than the kernel, forward or in
their gradients; `fast_convolutions` has them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tljax.models import fast_convolutions as fast
from tljax.models.fast_convolutions import DIMENSIONS, Window, length


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
            window = Window(tuple(window_strides), pads, feature_group_count, precision)
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
    axes, usual = (
        jax.lax.conv_dimension_numbers(x.shape, kernel.shape, numbers)
        for numbers in (dimension_numbers, DIMENSIONS)
    )
    return axes == usual and jnp.issubdtype(x.dtype, jnp.floating)


def _fast_form(x: jax.Array, kernel: jax.Array, window: Window) -> Callable[..., Any] | None:
    """The faster function for these shapes; None if XLA's own is as fast."""
    groups, features = window.groups, kernel.shape[-1]
    sides = list(zip(x.shape[1:3], kernel.shape[:2], window.strides, window.pads, strict=True))
    # With padding below the kernel's size every window covers a pixel. Larger padding, cropping
    # and empty outputs are left to XLA.
    if not all(0 <= min(pad) <= max(pad) < side for _, side, _, pad in sides):
        return None
    if kernel.shape[2] * groups != x.shape[-1] or any(length(*side) < 1 for side in sides):
        return None
    if 1 < groups == features == x.shape[-1]:
        return fast.depthwise
    if 1 < groups < features:
        return fast.grouped
    if groups == 1 and kernel.shape[:2] == (1, 1):
        return fast.pointwise
    if groups == 1 and any(length(*side) < side[1] for side in sides):
        return fast.small
    return None
