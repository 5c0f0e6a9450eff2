"""Networks after training: interpolated, averaged, and soups of them.

A network's values are `Values`, parameters and statistics; what is merged has the same leaves.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tljax.types import Params, Stats


class Values(NamedTuple):
    """What a network's run trained, or a merge made of several."""

    params: Params
    stats: Stats


def interpolate(start: Any, end: Any, alpha: jax.Array | float) -> Any:
    """`(1 - alpha) start + alpha end`; the ends are there bit by bit at 0 and 1.

    Args:
        start: a tree of arrays: a zero-shot or a probed network.
        end: the same structure: the fine-tuned one.
        alpha: [], any number. `jax.vmap` over it gives a whole curve.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
    """

    def mixed(a: jax.Array, b: jax.Array) -> jax.Array:
        between = (1 - alpha) * a + alpha * b
        return jnp.where(alpha == 0, a, jnp.where(alpha == 1, b, between))  # also of -0 and inf

    return jax.tree.map(mixed, start, end)


def curve(function: Callable[[Any], Any], start: Any, end: Any, alphas: Any) -> Any:
    """`function` of the interpolation at every alpha [A], in one `vmap`.

    Args:
        function: pure, of a tree like `start`: the sums of an evaluation step.
        start: where alpha is 0.
        end: where it is 1.
        alphas: [A].

    Returns:
        What the function gives, every array with a leading axis A.
    """
    return jax.vmap(lambda alpha: function(interpolate(start, end, alpha)))(jnp.asarray(alphas))


def average(networks: Sequence[Any]) -> Any:
    """The mean of every leaf, as host arrays; of equal networks it is them, bit by bit.

    Source: Wortsman et al. 2022, "Model soups", the uniform soup.
    """

    def mean(*leaves: Any) -> np.ndarray:
        # In float64 a sum of float32 equals is a multiple of them, and their mean is exact.
        total = sum(np.asarray(leaf, np.float64) for leaf in leaves)
        return np.asarray(total / len(leaves), np.asarray(leaves[0]).dtype)

    return jax.tree.map(mean, *networks)


class Soup(NamedTuple):
    """A greedy soup."""

    values: Values
    members: tuple[int, ...]  # indices of the networks in it, in the order they joined
    score: Any  # on validation


def greedy(
    networks: Sequence[Values],
    score: Callable[[Values], Any],
    finish: Callable[[Values, Sequence[int]], Values] = lambda values, members: values,
) -> Soup:
    """The soup that takes a network in when that makes it no worse.

    The best network comes first, as it is, so that the soup is never worse than it.

    Args:
        networks: the ingredients.
        score: more is better, a number or a tuple of them; of validation images, never of test
            images.
        finish: is given a mean and the indices of its members, and gives what is scored and kept:
            statistics taken anew.

    Source: Wortsman et al. 2022, "Model soups", algorithm 1.
    """
    scores = [score(values) for values in networks]
    order = sorted(range(len(networks)), key=scores.__getitem__, reverse=True)
    best = Soup(networks[order[0]], (order[0],), scores[order[0]])
    for index in order[1:]:
        members = (*best.members, index)
        candidate = finish(average([networks[i] for i in members]), members)
        if (found := score(candidate)) >= best.score:
            best = Soup(candidate, members, found)
    return best
