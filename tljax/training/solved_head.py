"""Fits the head on frozen features with a solver, instead of training it in steps."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tljax import devices, tree
from tljax.config.phases import PhasePlan
from tljax.features import probes
from tljax.models import layers, stages
from tljax.strategies import partition
from tljax.strategies.solvers import LBFGS
from tljax.training import jobs
from tljax.training.batches import eval_batches
from tljax.training.jobs import Job
from tljax.training.states import TrainState
from tljax.types import Balance, Loss, Params, Solution, Solver, Stats


def solve(job: Job, state: TrainState, phase: PhasePlan) -> tuple[TrainState, Solution]:
    """Fits the trained parameters of the head with the phase's solver.

    The training images are preprocessed as in evaluation, without augmentation. The loss is the
    training loss. With `Balance.SAMPLE`, class weights replace the sampling of balanced batches.
    The minimum of a quadratic loss of one linear layer is computed in closed form.

    Args:
        job: the experiment.
        state: the state at the start of the phase.
        phase: a phase with a solver.

    Returns:
        The state with the fitted head, and the solution with its convergence record.
    """
    assert phase.phase.solver is not None
    loss = jobs.training_loss(job, (Balance.WEIGH, Balance.SAMPLE))

    def objective(trained: Params, data: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        features, targets, mask = data
        head = {stages.HEAD: tree.fill(trained, state.params[stages.HEAD])}
        logits, _ = stages.run(job.model, head, state.stats, features, start=stages.HEAD)
        return jnp.where(mask, loss(logits, targets), 0.0).sum() / mask.sum()

    is_trained = partition.trained(phase.labels)[stages.HEAD]
    start = tree.select(state.params[stages.HEAD], is_trained)
    data = _head_inputs(job, state)
    solver = phase.phase.solver
    if _is_ridge(solver, loss, state.params[stages.HEAD], start, data[0]):
        solution = _ridge(solver, objective, data)  # type: ignore[arg-type]
    else:
        solution = solver(objective, start, data)
    head = devices.put_sharded(job.mesh, tree.fill(solution.params, state.params[stages.HEAD]))
    ema = state.ema
    if ema is not None:
        ema = {**ema, stages.HEAD: jax.tree.map(jnp.copy, tree.select(head, is_trained))}
    params = {**state.params, stages.HEAD: head}
    return dataclasses.replace(state, params=params, ema=ema), solution


def _is_ridge(solver: Solver, loss: Loss, head: Params, start: Params, features: jax.Array) -> bool:
    """Whether the objective is that of a ridge regression: a quadratic loss of a linear layer."""
    linear = {path: leaf.shape for path, leaf in tree.flatten(head).items()}
    trained = {path for path, leaf in tree.flatten(start).items() if leaf is not None}
    return (
        isinstance(solver, LBFGS)
        and solver.weight_decay > 0
        and getattr(loss, 'quadratic', False)
        and linear.keys() == trained == {'linear/kernel', 'linear/bias'}
        and features.ndim == 2
    )


def _ridge(
    solver: LBFGS,
    objective: Callable[[Params, Any], jax.Array],
    data: tuple[jax.Array, jax.Array, jax.Array],
) -> Solution:
    """The minimum of the solver's objective in closed form.

    The loss is a mean over K numbers and the decay is halved; `probes.ridge` has neither factor.
    """
    features, targets, mask = data
    rows = np.flatnonzero(np.asarray(mask))
    decay = targets.shape[-1] * solver.weight_decay / 2
    fitted = probes.ridge(features[rows], targets[rows], [decay])
    params: Params = {'linear': {'kernel': fitted.kernel[0], 'bias': fitted.bias[0]}}

    def regularised(params: Params, data: Any) -> jax.Array:
        penalty = jnp.square(params['linear']['kernel']).sum() * solver.weight_decay / 2
        return objective(params, data) + penalty

    value, gradient = jax.jit(jax.value_and_grad(regularised))(params, data)
    return Solution(params, value, optax.tree.norm(gradient), jnp.int32(1))


def _head_inputs(job: Job, state: TrainState) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The inputs of the head [N, ...], targets [N, K] and mask [N] of the training split.

    If the head pools its inputs, they are pooled here already.
    """
    pooling = getattr(job.model.stages[stages.HEAD], 'pooling', None)
    replicated, rows = devices.replicated(job.mesh), devices.split(job.mesh)

    @functools.partial(
        jax.jit, in_shardings=(replicated, replicated, rows), out_shardings=replicated
    )
    def features(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
        x = stages.normalise(job.model.preprocessing, images)
        x, _ = stages.run(job.model, params, stats, x, stop=stages.HEAD)
        return x if pooling is None else layers.pool(x, pooling)

    params = devices.put_replicated(job.mesh, state.params)
    inputs, labels, masks = [], [], []
    for batch in eval_batches(job, 'train'):
        placed = devices.put_batch(job.mesh, batch)
        inputs.append(np.asarray(features(params, state.stats, placed['image'])))
        gathered = jax.jit(lambda b: (b['label'], b['mask']), out_shardings=replicated)(placed)
        labels.append(np.asarray(gathered[0]))
        masks.append(np.asarray(gathered[1]))
    targets = job.model.targets(jnp.asarray(np.concatenate(labels)))
    return jnp.asarray(np.concatenate(inputs)), targets, jnp.asarray(np.concatenate(masks))
