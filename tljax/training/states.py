"""What training changes, as arrays only."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from tljax import tree
from tljax.strategies import partition
from tljax.types import Params, Stats


@flax.struct.dataclass
class SourceState:
    """What training changes of a source of samples; none of it is part of the network."""

    head: Params  # `{'head': {...}}`; {} where it shares the target's
    opt: optax.OptState  # of the head
    weights: jax.Array  # [N] float32, of its examples
    memory: Any  # what its weighing keeps besides


@flax.struct.dataclass
class TrainState:
    """Everything a step reads and writes; functions and keys live elsewhere.

    `step` counts from the start of the experiment. `opt` has state for trained leaves only, and
    `ema`, the running mean of the parameters, where it is kept, for what has trained so far.
    `source` is there where samples of a source are trained beside the target's.
    """

    step: jax.Array  # [] int32
    params: Params
    stats: Stats
    opt: optax.OptState
    ema: Params | None = None
    source: SourceState | None = None


def create(
    params: Params,
    stats: Stats,
    optimizer: optax.GradientTransformation,
    labels: Params,
    averaged: Params | None = None,
    source: SourceState | None = None,
) -> TrainState:
    """A state at step 0; arrays are copied, as steps donate theirs.

    Args:
        params: where training starts.
        stats: likewise.
        optimizer: of the first phase.
        labels: of the first phase.
        averaged: a bool per leaf, whether its running mean is kept; None for no running means.
        source: of a source of samples.
    """
    params, stats, source = jax.tree.map(jnp.array, (params, stats, source))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt=init_optimizer(optimizer, params, labels),
        ema=None if averaged is None else _copied(params, averaged),
        source=source,
    )


def next_phase(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    labels: Params,
    labels_before: Params,
    averaged: Params | None = None,
) -> TrainState:
    """The state at the start of a further phase; arguments as for `create`.

    Optimizer state and running means of what goes on training are carried over.
    """
    fresh = init_optimizer(optimizer, state.params, labels)
    opt = partition.carry(state.opt, fresh, labels_before, labels)
    ema = None
    if averaged is not None:
        started = _copied(state.params, averaged)
        ema = jax.tree.map(
            lambda _, old, new: new if old is None else old, averaged, state.ema, started
        )
    return dataclasses.replace(state, opt=opt, ema=ema)


def evaluated(state: TrainState) -> Params:
    """The parameters to evaluate and to keep: their running means, where there are any."""
    return state.params if state.ema is None else tree.fill(state.ema, state.params)


def _copied(params: Params, keep: Params) -> Params:
    """Copies of the leaves to keep; a step donates both trees, which must not share arrays."""
    return jax.tree.map(jnp.copy, tree.select(params, keep))


def init_optimizer(
    optimizer: optax.GradientTransformation, params: Params, labels: Params
) -> optax.OptState:
    """The optimizer's state for the trained leaves."""
    return jax.jit(optimizer.init)(tree.select(params, partition.trained(labels)))
