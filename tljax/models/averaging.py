"""Averages of trained networks: interpolation, means, and greedy soups.

All networks have the same leaves.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tljax.types import Params, Stats


class NetworkValues(NamedTuple):
    """The parameters and statistics of a trained or merged network."""

    params: Params
    stats: Stats


def interpolate(start: Any, end: Any, alpha: jax.Array | float) -> Any:
    """`(1 - alpha) start + alpha end`; bit-identical to the ends at 0 and 1.

    Args:
        start: a tree of arrays: a zero-shot or probed network.
        end: the same structure: the fine-tuned network.
        alpha: [], any number. `jax.vmap` over it gives a curve.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
    """

    def mixed(a: jax.Array, b: jax.Array) -> jax.Array:
        between = (1 - alpha) * a + alpha * b
        return jnp.where(alpha == 0, a, jnp.where(alpha == 1, b, between))  # exact for -0 and inf

    return jax.tree.map(mixed, start, end)


def curve(function: Callable[[Any], Any], start: Any, end: Any, alphas: Any) -> Any:
    """`function` of the interpolation at every alpha [A], in one `vmap`.

    Args:
        function: a pure function of a tree like `start`, such as an evaluation step's sums.
        start: the network at alpha 0.
        end: the network at alpha 1.
        alphas: [A].

    Returns:
        The function's result, every array with a leading axis A.
    """
    return jax.vmap(lambda alpha: function(interpolate(start, end, alpha)))(jnp.asarray(alphas))


def average(networks: Sequence[Any]) -> Any:
    """The mean of every leaf, as host arrays; bit-identical if all networks are equal.

    Source: Wortsman et al. 2022, "Model soups", the uniform soup.
    """

    def mean(*leaves: Any) -> np.ndarray:
        # A float64 sum of equal float32 values is an exact multiple, so their mean is exact.
        total = sum(np.asarray(leaf, np.float64) for leaf in leaves)
        return np.asarray(total / len(leaves), np.asarray(leaves[0]).dtype)

    return jax.tree.map(mean, *networks)


class Soup(NamedTuple):
    """A greedy soup."""

    values: NetworkValues
    members: tuple[int, ...]  # indices of the networks in it, in the order they were added
    score: Any  # on the validation split


def greedy(
    networks: Sequence[NetworkValues],
    score: Callable[[NetworkValues], Any],
    finish: Callable[[NetworkValues, Sequence[int]], NetworkValues] = lambda values, members: (
        values
    ),
) -> Soup:
    """Adds each network to the soup if that does not lower its score.

    It starts from the best network alone, so the soup is never worse than that.

    Args:
        networks: the candidates.
        score: higher is better, a number or a tuple of numbers; from validation images, never from
            test images.
        finish: maps a mean and the indices of its members to the values to score and keep, for
            example with re-estimated BatchNorm statistics.

    Source: Wortsman et al. 2022, "Model soups", algorithm 1.
    """
    scores = [score(values) for values in networks]
    order = sorted(range(len(networks)), key=scores.__getitem__, reverse=True)
    best = Soup(networks[order[0]], (order[0],), scores[order[0]])
    for index in order[1:]:
        members = (*best.members, index)
        candidate = finish(average([networks[i] for i in members]), members)
        if (value := score(candidate)) >= best.score:
            best = Soup(candidate, members, value)
    return best
