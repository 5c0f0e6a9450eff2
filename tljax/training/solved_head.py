"""A head that is solved on frozen features, in the place of steps on batches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from tljax import devices, tree
from tljax.config.phases import PhasePlan
from tljax.models import layers, stages
from tljax.strategies import partition
from tljax.training import batch_inputs, jobs
from tljax.training.batches import eval_batches
from tljax.training.jobs import Job
from tljax.training.states import TrainState
from tljax.types import Balance, Params, Solution, Stats


def solve(job: Job, state: TrainState, phase: PhasePlan) -> tuple[TrainState, Solution]:
    """The state with what trains of the head fitted by the phase's solver.

    The images are those of the training split as evaluation sees them. The loss is that of
    training; with `Balance.SAMPLE`, where there are no batches to fill, classes are weighed.
    """
    assert phase.phase.solver is not None
    loss = jobs.training_loss(job, (Balance.WEIGH, Balance.SAMPLE))

    def objective(trained: Params, data: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        features, targets, mask = data
        head = {stages.HEAD: tree.fill(trained, state.params[stages.HEAD])}
        logits, _ = stages.run(job.model, head, state.stats, features, start=stages.HEAD)
        return jnp.where(mask, loss(logits, targets), 0.0).sum() / mask.sum()

    keep = partition.trained(phase.labels)[stages.HEAD]
    start = tree.select(state.params[stages.HEAD], keep)
    found = phase.phase.solver(objective, start, _inputs(job, state))
    head = devices.put_replicated(job.mesh, tree.fill(found.params, state.params[stages.HEAD]))
    ema = state.ema
    if ema is not None:
        ema = {**ema, stages.HEAD: jax.tree.map(jnp.copy, tree.select(head, keep))}
    params = {**state.params, stages.HEAD: head}
    return dataclasses.replace(state, params=params, ema=ema), found


def _inputs(job: Job, state: TrainState) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the head is given [N, ...], pooled if it pools; targets [N, K]; mask [N]."""
    pooling = getattr(job.model.stages[stages.HEAD], 'pooling', None)
    whole, rows = devices.replicated(job.mesh), devices.split(job.mesh)

    @functools.partial(jax.jit, in_shardings=(whole, whole, rows), out_shardings=whole)
    def features(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
        x = stages.normalise(job.model.preprocessing, images)
        x, _ = stages.run(job.model, params, stats, x, stop=stages.HEAD)
        return x if pooling is None else layers.pool(x, pooling)

    found, labels, masks = [], [], []
    for batch in eval_batches(job, 'train'):
        placed = devices.put_batch(job.mesh, batch)
        found.append(np.asarray(features(state.params, state.stats, placed['image'])))
        gathered = jax.jit(lambda b: (b['label'], b['mask']), out_shardings=whole)(placed)
        labels.append(np.asarray(gathered[0]))
        masks.append(np.asarray(gathered[1]))
    targets = batch_inputs.targets_of(jnp.asarray(np.concatenate(labels)), job.model.num_classes)
    return jnp.asarray(np.concatenate(found)), targets, jnp.asarray(np.concatenate(masks))
