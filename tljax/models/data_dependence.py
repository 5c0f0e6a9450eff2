"""What is computed after what, where only memory depends on it.

XLA's CPU compiler drops `lax.optimization_barrier` before it orders a program, so that parts of a
batch were all in memory at once and `jax.checkpoint` saved nothing. A dependence of data holds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def after(values: Any, done: Any) -> Any:
    """`values`, which nothing can use before `done` has been computed.

    Args:
        values: a tree of arrays; those of floats are tied, by adding 0 times a part of `done`.
        done: a tree of arrays. Where it is not finite, neither will be `values`.
    """
    parts = [jnp.ravel(leaf)[0].astype(jnp.float32) for leaf in jax.tree.leaves(done)]
    tie = 0.0 * jnp.stack(parts).sum()

    def tied(x: jax.Array) -> jax.Array:
        return x + tie.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(tied, values)


def recomputed(function: Callable[[Any, jax.Array], Any]) -> Callable[[Any, jax.Array], Any]:
    """`function(variables, x)`, whose inner values the backward pass computes again.

    Source: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """

    @jax.custom_vjp
    def plain(variables: Any, x: jax.Array) -> Any:
        return function(variables, x)

    def forward(variables: Any, x: jax.Array) -> tuple[Any, Any]:
        return function(variables, x), (variables, x)

    def backward(saved: Any, cotangents: Any) -> Any:
        variables, x = saved
        x = after(x, jax.tree.leaves(cotangents)[0])
        return jax.vjp(function, variables, x)[1](cotangents)

    plain.defvjp(forward, backward)
    return plain
