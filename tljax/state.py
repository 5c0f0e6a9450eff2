"""What training changes, as arrays only."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import optax

from tljax import optim, tree
from tljax.types import Params, Stats


@flax.struct.dataclass
class TrainState:
    """Everything a step reads and writes; functions and keys live elsewhere.

    `step` counts from the start of the experiment. `opt` has state for trained leaves only.
    """

    step: jax.Array  # [] int32
    params: Params
    stats: Stats
    opt: optax.OptState


def create(
    params: Params, stats: Stats, optimizer: optax.GradientTransformation, labels: Params
) -> TrainState:
    """A state at step 0; the arrays of `params` and `stats` are copied, as steps donate theirs."""
    copies = jax.tree.map(jnp.array, (params, stats))
    params, stats = copies
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt=init_optimizer(optimizer, params, labels),
    )


def next_phase(
    state: TrainState, optimizer: optax.GradientTransformation, labels: Params
) -> TrainState:
    """The state at the start of a further phase: the optimizer starts afresh."""
    return dataclasses.replace(state, opt=init_optimizer(optimizer, state.params, labels))


def init_optimizer(
    optimizer: optax.GradientTransformation, params: Params, labels: Params
) -> optax.OptState:
    """The optimizer's state for the trained leaves."""
    return jax.jit(optimizer.init)(tree.select(params, optim.trained(labels)))
