"""Similarity of two representations of the same images."""

import numpy as np

from tljax.types import Array


def linear_cka(one: Array, other: Array) -> float:
    """Linear centred kernel alignment, from 0 to 1.

    It does not change when features are rotated or scaled, and 1 means equal up to that.

    Source: Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited",
    section 3, with centred features: |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms.

    Args:
        one: [N, F] features.
        other: [N, G] features of the same images.

    Returns:
        NaN if a representation is constant.
    """
    x, y = (np.asarray(a, np.float64) for a in (one, other))
    x, y = x - x.mean(0, keepdims=True), y - y.mean(0, keepdims=True)
    # Of N images the N x N kernels give the same, and are smaller than F x G.
    kernels = [a @ a.T for a in (x, y)]
    norms = [np.linalg.norm(kernel) for kernel in kernels]
    if min(norms) == 0:
        return float('nan')
    return float((kernels[0] * kernels[1]).sum() / (norms[0] * norms[1]))
