"""Terms that several penalties share: means over rows, sums over leaves, and their stages."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tljax import tree
from tljax.types import Params, Setting


def mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of the values [B] with `mask` [B]; 0 if there are none."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def masked(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Values [B, ...] in float32, with 0 in rows of padding, also in place of NaN."""
    mask = mask.reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.where(mask, values, 0).astype(jnp.float32)


def half_square(params: Params, stages: Sequence[str]) -> jax.Array:
    """Half the sum of squares of the leaves of some stages; None is skipped."""
    total = jnp.zeros((), jnp.float32)
    for name in stages:
        for leaf in jax.tree.leaves(params.get(name, {})):
            total += 0.5 * jnp.square(leaf.astype(jnp.float32)).sum()
    return total


def change(trained: Params, start: Params) -> Params:
    """The difference of trained leaves from their starting values; None for frozen leaves."""
    initial = tree.flatten(start)
    return tree.map_paths(
        lambda path, leaf: None if leaf is None else leaf - initial[path], trained
    )


def new_stages(setting: Setting) -> list[str]:
    """The stages without pretrained weights."""
    return [name for name in setting.stages if name not in setting.shared]


def read_stages(stages: Sequence[str], setting: Setting) -> tuple[str, ...]:
    """Those of `stages`, by default the last one below the head, whose output changes."""
    chosen = stages or setting.stages[-2:-1]
    return tuple(name for name in chosen if name in setting.changed)


def upstream_obstacle(setting: Setting) -> str | None:
    """Why a penalty on the outputs of the upstream head has no effect."""
    if setting.upstream_classes is None:
        return 'the weights have no upstream head'
    return stages_obstacle((), setting)


def stages_obstacle(stages: Sequence[str], setting: Setting) -> str | None:
    """Why a penalty on `stages` has no effect: they are unknown, or their output is fixed."""
    below = setting.stages[:-1]
    unknown = [name for name in stages if name not in below]
    if unknown:
        return f'stages has {unknown}, wanted any of {list(below)}'
    fixed = [name for name in stages or below[-1:] if name not in setting.changed]
    return f'nothing trains in or below {", ".join(fixed)}' if fixed else None


def strength_problems(*, head_strength: float = 0.0, **factors: float) -> list[str]:
    """Messages about factors, which must be more than 0, and a `head_strength`, which can be 0."""
    problems = [
        f'{name} is {value}, wanted more than 0, and finite'
        for name, value in factors.items()
        if not 0 < value < math.inf
    ]
    if not 0 <= head_strength < math.inf:
        problems.append(f'head_strength is {head_strength}, wanted 0 or more, and finite')
    return problems
