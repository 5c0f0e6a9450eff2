"""Helpers of penalties: means over real rows, and sums over leaves."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tljax import tree
from tljax.types import Params, Setting


def mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of values [B] where `mask` [B]; 0 where there is none."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def only_real(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Values [B, ...] in float32, 0 in rows that are padding, whatever is there, NaN too."""
    wide = mask.reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.where(wide, values, 0).astype(jnp.float32)


def half_square(params: Params, stages: Sequence[str]) -> jax.Array:
    """Half the sum of squares of the leaves of some stages; a hole (None) counts nothing."""
    total = jnp.zeros((), jnp.float32)
    for name in stages:
        for leaf in jax.tree.leaves(params.get(name, {})):
            total += 0.5 * jnp.square(leaf.astype(jnp.float32)).sum()
    return total


def apart(trained: Params, start: Params) -> Params:
    """What trained leaves have moved, with holes where they are frozen."""
    origins = tree.flatten(start)
    return tree.map_paths(
        lambda path, leaf: None if leaf is None else leaf - origins[path], trained
    )


def new_stages(setting: Setting) -> list[str]:
    """Stages whose starting values did not come with the weights."""
    return [name for name in setting.stages if name not in setting.shared]


def read_stages(stages: Sequence[str], setting: Setting) -> tuple[str, ...]:
    """The given stages whose output changes; by default the last stage below the head."""
    wanted = stages or setting.stages[-2:-1]
    return tuple(name for name in wanted if name in setting.changed)


def stages_obstacle(stages: Sequence[str], setting: Setting) -> str | None:
    """Why the given stages cannot be penalised: unknown, or their output does not change."""
    below = setting.stages[:-1]
    unknown = [name for name in stages if name not in below]
    if unknown:
        return f'stages has {unknown}, wanted any of {list(below)}'
    still = [name for name in stages or below[-1:] if name not in setting.changed]
    return f'nothing trains in or below {", ".join(still)}' if still else None


def strength_problems(**values: float) -> list[str]:
    """Of factors that must be more than 0, or nothing would come of them."""
    return [
        f'{name} is {value}, wanted more than 0, and finite'
        for name, value in values.items()
        if not 0 < value < math.inf
    ]
