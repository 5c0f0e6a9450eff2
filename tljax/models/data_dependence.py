"""Data dependences that fix the order of computation, which limits memory.

XLA's CPU compiler drops `lax.optimization_barrier` before it schedules a program. Without a data
dependence all parts of a batch were in memory at once and `jax.checkpoint` saved nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def after(values: Any, done: Any) -> Any:
    """`values`, made to depend on `done`, so that they cannot be used before it is computed.

    Args:
        values: a tree of arrays; to floating-point arrays, 0 times a part of `done` is added.
        done: a tree of arrays. If it is not finite, `values` will not be either.
    """
    parts = [jnp.ravel(leaf)[0].astype(jnp.float32) for leaf in jax.tree.leaves(done)]
    tie = 0.0 * jnp.stack(parts).sum()

    def tied(x: jax.Array) -> jax.Array:
        return x + tie.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(tied, values)


def recomputed(function: Callable[[Any, jax.Array], Any]) -> Callable[[Any, jax.Array], Any]:
    """`function(variables, x)` whose backward pass recomputes its activations.

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
