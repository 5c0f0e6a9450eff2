"""The state of training: arrays only."""

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
class SamplesState:
    """The state of samples that are trained too; none of it is part of the network."""

    head: Params  # their own head, `{'head': {...}}`; {} if they share the target's
    opt: optax.OptState  # the optimizer state of that head
    weights: jax.Array  # [N] float32, a weight per sample
    memory: Any  # other values that change their weights or labels


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes. Checkpoints are restored by the names of these fields."""

    step: jax.Array  # [] int32, from the start of the experiment
    params: Params
    stats: Stats
    opt: optax.OptState  # for trained leaves only
    ema: Params | None = None  # running means of the leaves that have trained so far
    source: SamplesState | None = None  # of the samples of a source domain
    carried: Stats | None = None  # of a language model, after the window before


def create(
    params: Params,
    stats: Stats,
    optimizer: optax.GradientTransformation,
    labels: Params,
    averaged: Params | None = None,
    samples: SamplesState | None = None,
    carried: Stats | None = None,
) -> TrainState:
    """A state at step 0. Arrays are copied, because a step donates those of its state.

    Args:
        params: the starting parameters.
        stats: the starting statistics.
        optimizer: the optimizer of the first phase.
        labels: the labels of the first phase.
        averaged: a bool per leaf, whether its running mean is kept; None for no running means.
        samples: the state of samples of a source domain.
        carried: see `models.language_model.start_states`.
    """
    params, stats, samples = jax.tree.map(jnp.array, (params, stats, samples))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt=init_optimizer(optimizer, params, labels),
        ema=None if averaged is None else _copied(params, averaged),
        source=samples,
        carried=carried,
    )


def next_phase(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    labels: Params,
    labels_before: Params,
    averaged: Params | None = None,
) -> TrainState:
    """The state at the start of a further phase; arguments as for `create`.

    Leaves that still train keep their optimizer state and their running means.
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
    """The parameters to evaluate: running means if there are any, else the current values."""
    return state.params if state.ema is None else tree.fill(state.ema, state.params)


def _copied(params: Params, keep: Params) -> Params:
    """Copies of the selected leaves; a step donates both trees, so they must not share arrays."""
    return jax.tree.map(jnp.copy, tree.select(params, keep))


def init_optimizer(
    optimizer: optax.GradientTransformation, params: Params, labels: Params
) -> optax.OptState:
    """The optimizer's state for the trained leaves."""
    return jax.jit(optimizer.init)(tree.select(params, partition.trained(labels)))
