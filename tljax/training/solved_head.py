"""A head that is solved on frozen features, in the place of steps on batches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from tljax import inputs, layers, optim, sharding, tree
from tljax import job as jobs
from tljax import model as models
from tljax.batches import eval_batches
from tljax.job import Job
from tljax.plan import PhasePlan
from tljax.state import TrainState
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
        head = {models.HEAD: tree.fill(trained, state.params[models.HEAD])}
        logits, _ = models.run(job.model, head, state.stats, features, start=models.HEAD)
        return jnp.where(mask, loss(logits, targets), 0.0).sum() / mask.sum()

    keep = optim.trained(phase.labels)[models.HEAD]
    start = tree.select(state.params[models.HEAD], keep)
    found = phase.phase.solver(objective, start, _inputs(job, state))
    head = sharding.put_replicated(job.mesh, tree.fill(found.params, state.params[models.HEAD]))
    ema = state.ema
    if ema is not None:
        ema = {**ema, models.HEAD: jax.tree.map(jnp.copy, tree.select(head, keep))}
    params = {**state.params, models.HEAD: head}
    return dataclasses.replace(state, params=params, ema=ema), found


def _inputs(job: Job, state: TrainState) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the head is given [N, ...], pooled if it pools; targets [N, K]; mask [N]."""
    pooling = getattr(job.model.stages[models.HEAD], 'pooling', None)
    whole, rows = sharding.replicated(job.mesh), sharding.split(job.mesh)

    @functools.partial(jax.jit, in_shardings=(whole, whole, rows), out_shardings=whole)
    def features(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
        x = models.normalise(job.model.preprocessing, images)
        x, _ = models.run(job.model, params, stats, x, stop=models.HEAD)
        return x if pooling is None else layers.pool(x, pooling)

    found, labels, masks = [], [], []
    for batch in eval_batches(job, 'train'):
        placed = sharding.put_batch(job.mesh, batch)
        found.append(np.asarray(features(state.params, state.stats, placed['image'])))
        gathered = jax.jit(lambda b: (b['label'], b['mask']), out_shardings=whole)(placed)
        labels.append(np.asarray(gathered[0]))
        masks.append(np.asarray(gathered[1]))
    targets = inputs.targets_of(jnp.asarray(np.concatenate(labels)), job.model.num_classes)
    return jnp.asarray(np.concatenate(found)), targets, jnp.asarray(np.concatenate(masks))
