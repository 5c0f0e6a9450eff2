"""k-nearest-neighbour classification, for several k from one search."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tljax.features.probes.linear import checked
from tljax.features.probes.means import Distance, normalised
from tljax.types import Array, InputError

CHUNK_VALUES = 2**24  # distances in memory at a time


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
    """Each class's share of the votes of the k nearest examples.

    If classes have equally many votes, the one with nearer voters gets slightly more, by less than
    one vote. With a temperature, the weight of a vote is `exp(similarity / temperature)`.

    Args:
        x: [N, F], the examples that vote.
        labels: [N] int.
        queries: [M, F].
        ks: [L], each 1 to N, or to N - 1 with `leave_one_out`.
        num_classes: K; None for one more than the largest label.
        distance: between queries and examples.
        temperature: of the votes. The similarity is the cosine, or minus half the squared Euclidean
            distance. None for votes of equal weight.
        leave_one_out: query i is example i, which does not vote on itself.

    Returns:
        [L, M, K], usable as logits.

    Raises:
        InputError: see `linear.checked`; a k or the temperature is out of range.

    Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination", section 3.4, for the temperature, 0.07 there.
    """
    x, labels, classes = checked(x, labels, num_classes)
    queries, _, _ = checked(queries, jnp.zeros(len(queries), jnp.int32), name='queries')
    limit = len(x) - leave_one_out
    if not ks or min(ks) < 1 or max(ks) > limit:
        raise InputError(f'ks are {list(ks)}, wanted one or more, each 1 to {limit}')
    if temperature is not None and not temperature > 0:
        raise InputError(f'temperature is {temperature}, wanted more than 0')
    if queries.shape[1] != x.shape[1] or (leave_one_out and len(queries) != len(x)):
        raise InputError(
            f'queries are {list(queries.shape)} and features {list(x.shape)}: they do not fit'
        )
    if distance is Distance.COSINE:
        x, queries = normalised(x), normalised(queries)
    else:
        centre = x.mean(0)[None]  # products of smaller numbers lose fewer digits
        x, queries = x - centre, queries - centre
    parts, size = [], max(1, CHUNK_VALUES // len(x))
    vote = functools.partial(_votes, x, labels, classes, tuple(ks), distance, temperature)
    for start in range(0, len(queries), size):
        chunk = queries[start : start + size]
        excluded = jnp.arange(start, start + len(chunk)) if leave_one_out else None
        parts.append(vote(chunk, excluded))
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
    excluded: jax.Array | None,
) -> jax.Array:
    with jax.default_matmul_precision('highest'):
        similarity = queries @ x.T
    if distance is Distance.EUCLIDEAN:  # without the query's norm, the same for all examples
        similarity = similarity - (jnp.square(x).sum(-1) / 2)[None]
    if excluded is not None:
        similarity = similarity.at[jnp.arange(len(queries)), excluded].set(-jnp.inf)
    best, places = jax.lax.top_k(similarity, max(ks))
    if temperature:  # relative to the nearest, so no exponential overflows
        weights = jnp.exp((best - best[:, :1]) / temperature)
    else:
        order = jnp.arange(max(ks), dtype=jnp.float32)[None] / (4.0 * max(ks) ** 2)
        weights = jnp.broadcast_to(1 - order, best.shape)
    sums = jnp.cumsum(jax.nn.one_hot(labels[places], classes) * weights[..., None], 1)
    votes = jnp.stack([sums[:, k - 1] for k in ks])
    return votes / votes.sum(-1, keepdims=True)
