"""Ridge regression, for all weight decays from one eigendecomposition."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.features.probes.linear import Linear, checked, checked_decays
from tljax.features.probes.spectrum import Basis, basis
from tljax.types import Array, InputError

REFINEMENTS = 3  # each reduces the error by some digits, down to the rounding of float32


def ridge(x: Array, targets: Array, decays: Any) -> Linear:
    """Minimises `mean squared error + decay * sum(kernel ** 2)`; the bias has no decay.

    scikit-learn's `alpha` is `N decay`. The smaller of the N x N and F x F products is decomposed.
    Iterative refinement makes the float32 solution as exact as a rounded float64 one, if the decay
    is at least 1e-6 of the features' largest variance.

    Args:
        x: [N, F].
        targets: [N, K] float.
        decays: [L], more than 0.

    Returns:
        Kernels [L, F, K] and biases [L, K].

    Raises:
        InputError: a shape does not fit, values are not finite, or a decay is not more than 0.

    Source: Hastie et al. 2009, "The Elements of Statistical Learning", sections 3.4 and 18.3.
    """
    targets = jnp.asarray(targets, jnp.float32)
    if targets.ndim != 2 or not bool(jnp.isfinite(targets).all()):
        raise InputError(f'targets are {list(targets.shape)}, wanted [N, K], all of them finite')
    x, _, _ = checked(x, jnp.zeros(len(targets), jnp.int32))
    return _ridge(basis(x), targets, checked_decays(decays))


def ridge_classifier(
    x: Array, labels: Array, decays: Any, *, num_classes: int | None = None
) -> Linear:
    """Ridge regression with targets 1 for the example's class and -1 for the others.

    Args:
        x: [N, F].
        labels: [N] int.
        decays: [L], more than 0.
        num_classes: K; None for one more than the largest label.

    Returns:
        Kernels [L, F, K] and biases [L, K].

    Raises:
        InputError: see `linear.checked` and `ridge`.
    """
    x, labels, classes = checked(x, labels, num_classes)
    targets = 2 * jax.nn.one_hot(labels, classes) - 1
    return _ridge(basis(x), targets, checked_decays(decays))


def ridge_leave_one_out(
    x: Array, labels: Array, decays: Any, *, num_classes: int | None = None
) -> np.ndarray:
    """The outputs of `ridge_classifier` for each example, when it is fitted to all others.

    No classifier is fitted again: the residual of an example is divided by 1 minus its leverage.
    The penalty stays `N decay * sum(kernel ** 2)`. The singular value decomposition is NumPy's in
    float64, so that nothing is compiled and few examples take milliseconds.

    Args:
        x: [N, F].
        labels: [N] int.
        decays: [L], more than 0.
        num_classes: K; None for one more than the largest label.

    Returns:
        [L, N, K] float64.

    Raises:
        InputError: see `linear.checked` and `ridge`.

    Source: Hastie et al. 2009, "The Elements of Statistical Learning", section 7.10.1.
    """
    x, labels, classes = checked(x, labels, num_classes)
    targets = 2 * np.eye(classes)[np.asarray(labels)] - 1
    features = np.asarray(x, np.float64)
    left, singular, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    penalties = len(features) * np.asarray(checked_decays(decays), np.float64)
    kept = singular**2 / (singular**2 + penalties[:, None])  # [L, R]
    mean = targets.mean(0)
    fitted = mean + np.einsum('nr,lr,rk->lnk', left, kept, left.T @ (targets - mean), optimize=True)
    leverages = 1 / len(features) + kept @ left.T**2  # [L, N]
    return targets - (targets - fitted) / (1 - leverages)[..., None]


@jax.jit
def _ridge(turned: Basis, targets: jax.Array, decays: jax.Array) -> Linear:
    with jax.default_matmul_precision('highest'):
        mean = targets.mean(0)
        wanted = (targets - mean[None])[:, None]
        decays = decays[None, :, None]
        variances = turned.variances[:, None, None]
        weights = jnp.zeros((len(variances), decays.shape[1], targets.shape[1]))
        for _ in range(1 + REFINEMENTS):
            rest = (wanted - jnp.tensordot(turned.z, weights, 1)) / len(targets)
            residual = jnp.tensordot(turned.z, rest, ((0,), (0,))) - decays * weights
            weights = weights + residual / (variances + decays)
        return turned.linear(weights, jnp.broadcast_to(mean[None], weights.shape[1:]))
