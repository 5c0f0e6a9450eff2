"""The k nearest neighbours, for several k from one search."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tljax.features.probes.linear import checked
from tljax.features.probes.means import Distance, normalised
from tljax.types import Array, InputError

CHUNK_VALUES = 2**24  # distances that are held at a time


def neighbour_votes(
    x: Array,
    labels: Array,
    queries: Array,
    ks: Sequence[int],
    *,
    num_classes: int | None = None,
    distance: Distance = Distance.COSINE,
    temperature: float | None = None,
    leave_one_out: bool = False,
) -> jax.Array:
    """What share of the votes of the k nearest examples each class has.

    Of classes with as many votes the one whose voters are nearer is ahead, by less than a vote.
    With a temperature, a vote weighs `exp(similarity / temperature)` (Wu et al. 2018, section 3.4;
    0.07 there).

    Args:
        x: [N, F], the examples that vote.
        labels: [N] int.
        queries: [M, F].
        ks: L of them, each at least 1 and at most N, or one less with `leave_one_out`.
        num_classes: K; None for one more than the largest label.
        distance: of which the smallest are near.
        temperature: of the votes, by cosine similarity or minus half the squared distance; None
            for votes that weigh alike.
        leave_one_out: query i is example i, and does not vote on itself.

    Returns:
        [L, M, K], to be taken as logits.

    Raises:
        InputError: see `linear.checked`; a k or a temperature out of range.
    """
    x, labels, classes = checked(x, labels, num_classes)
    queries, _, _ = checked(queries, jnp.zeros(len(queries), jnp.int32), name='queries')
    most = len(x) - leave_one_out
    if not ks or min(ks) < 1 or max(ks) > most:
        raise InputError(f'ks are {list(ks)}, wanted one or more, each 1 to {most}')
    if temperature is not None and not temperature > 0:
        raise InputError(f'temperature is {temperature}, wanted more than 0')
    if queries.shape[1] != x.shape[1] or (leave_one_out and len(queries) != len(x)):
        raise InputError(
            f'queries are {list(queries.shape)} and features {list(x.shape)}: they do not fit'
        )
    if distance is Distance.COSINE:
        x, queries = normalised(x), normalised(queries)
    else:
        centre = x.mean(0)[None]  # smaller numbers have more digits left in their products
        x, queries = x - centre, queries - centre
    parts, size = [], max(1, CHUNK_VALUES // len(x))
    vote = functools.partial(_votes, x, labels, classes, tuple(ks), distance, temperature)
    for start in range(0, len(queries), size):
        chunk = queries[start : start + size]
        own = jnp.arange(start, start + len(chunk)) if leave_one_out else None
        parts.append(vote(chunk, own))
    return jnp.concatenate(parts, 1)


@jax.jit(static_argnums=(2, 3, 4, 5))
def _votes(
    x: jax.Array,
    labels: jax.Array,
    classes: int,
    ks: tuple[int, ...],
    distance: Distance,
    temperature: float | None,
    queries: jax.Array,
    own: jax.Array | None,
) -> jax.Array:
    with jax.default_matmul_precision('highest'):
        near = queries @ x.T
    if distance is Distance.EUCLIDEAN:  # up to what is the same for all examples
        near = near - (jnp.square(x).sum(-1) / 2)[None]
    if own is not None:
        near = near.at[jnp.arange(len(queries)), own].set(-jnp.inf)
    best, places = jax.lax.top_k(near, max(ks))
    if temperature:  # relative to the nearest, so that no exponential overflows
        weights = jnp.exp((best - best[:, :1]) / temperature)
    else:
        order = jnp.arange(max(ks), dtype=jnp.float32)[None] / (4.0 * max(ks) ** 2)
        weights = jnp.broadcast_to(1 - order, best.shape)
    cast = jax.nn.one_hot(labels[places], classes) * weights[..., None]
    sums = jnp.cumsum(cast, 1)
    chosen = jnp.stack([sums[:, k - 1] for k in ks])
    return chosen / chosen.sum(-1, keepdims=True)
