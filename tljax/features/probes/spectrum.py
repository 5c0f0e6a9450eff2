"""Features in the basis of their principal axes, which ridge and logistic regression use."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tljax.features.probes.linear import Linear


class Basis(NamedTuple):
    """Centred features in an orthonormal basis of the space that they span.

    The basis vectors are eigenvectors only up to rounding, but are orthonormal to the last digits.
    So a fit in this basis is as exact as one to the features.

    Attributes:
        mean: [F].
        rotation: [F, R], where R is the smaller of N and F.
        z: [N, R], the features minus their mean, times the rotation.
        variances: [R], ascending, the means of `z ** 2`.
    """

    mean: jax.Array
    rotation: jax.Array
    z: jax.Array
    variances: jax.Array

    def linear(self, weights: jax.Array, bias: jax.Array) -> Linear:
        """The layers on raw features that have weights [R, L, K] and biases [L, K] in the basis."""
        kernel = jnp.einsum('fr,rlk->lfk', self.rotation, weights)
        return Linear(kernel, bias - jnp.einsum('f,lfk->lk', self.mean, kernel))


@jax.jit
def basis(x: jax.Array) -> Basis:
    """The basis of features [N, F], from the smaller of the F x F and N x N products."""
    with jax.default_matmul_precision('highest'):
        mean = x.mean(0)
        centred = x - mean[None]
        examples, size = x.shape
        outer = None
        if size > examples:  # N points have the same geometry in N coordinates
            outer, triangle = jnp.linalg.qr(centred.T)
            centred = triangle.T
        # Scaled, so that no unit of the features lets the squares overflow or underflow.
        unit = jnp.maximum(jnp.abs(centred).max(), jnp.finfo(jnp.float32).tiny)
        scaled = centred / unit
        _, vectors = jnp.linalg.eigh(scaled.T @ scaled / examples)
        rotation = vectors if outer is None else outer @ vectors
        z = centred @ vectors
        return Basis(mean, rotation, z, jnp.square(z).mean(0))
