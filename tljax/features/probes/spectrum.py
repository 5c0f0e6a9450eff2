"""Features turned to the axes along which they vary: what ridge and logistic regression share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tljax.features.probes.linear import Linear


class Basis(NamedTuple):
    """Centred features in an orthonormal basis of the space they span.

    It is that of the eigenvectors up to rounding, but orthonormal to the last digits, so that what
    is fitted in it is as exact as what is fitted to the features themselves.

    Attributes:
        mean: [F].
        rotation: [F, R], R the smaller of N and F.
        z: [N, R], the features less their mean, times the rotation.
        variances: [R], ascending: the means of the squares of `z`.
    """

    mean: jax.Array
    rotation: jax.Array
    z: jax.Array
    variances: jax.Array

    def linear(self, weights: jax.Array, bias: jax.Array) -> Linear:
        """Layers of plain features, of weights [R, L, K] and a bias [L, K] in the basis."""
        kernel = jnp.einsum('fr,rlk->lfk', self.rotation, weights)
        return Linear(kernel, bias - jnp.einsum('f,lfk->lk', self.mean, kernel))


@jax.jit
def basis(x: jax.Array) -> Basis:
    """The basis of features [N, F], from the smaller of F x F and N x N products."""
    with jax.default_matmul_precision('highest'):
        mean = x.mean(0)
        centred = x - mean[None]
        examples, size = x.shape
        outer = None
        if size > examples:  # the same points in as few coordinates as there are points
            outer, triangle = jnp.linalg.qr(centred.T)
            centred = triangle.T
        # Sums of squares as large as float32 likes them, whatever the features' unit is.
        unit = jnp.maximum(jnp.abs(centred).max(), jnp.finfo(jnp.float32).tiny)
        scaled = centred / unit
        _, vectors = jnp.linalg.eigh(scaled.T @ scaled / examples)
        rotation = vectors if outer is None else outer @ vectors
        z = centred @ vectors
        return Basis(mean, rotation, z, jnp.square(z).mean(0))
