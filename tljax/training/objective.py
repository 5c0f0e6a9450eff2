"""The objective of a training step, and its gradient over the parts of a batch."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tljax import tree
from tljax.metrics import totals
from tljax.models import data_dependence, stages
from tljax.models.stages import Model
from tljax.models.stochastic_norm import StochNorm
from tljax.strategies.cut import Compute, Cut, make_prefix, matching
from tljax.training import batch_inputs
from tljax.training.batch_inputs import Inputs
from tljax.training.penalty_terms import PenaltyArrays, PhasePenalties
from tljax.training.states import TrainState
from tljax.types import Loss, Params, Stats


def make_objective(
    model: Model,
    cut: Cut,
    loss: Loss,
    compute: Compute,
    penalties: PhasePenalties | None,
    stochastic_norm: StochNorm | None,
) -> Callable[..., tuple[jax.Array, tuple[totals.Sums, Stats]]]:
    """Makes the objective of one part of a batch: its share of the mean loss, plus penalties.

    Returns:
        The function `(trained, params, stats, inputs, key, count, arrays)` to the objective, and
        the sums and the statistics of the part. `count` is the number of rows in all parts.
    """
    prefix = make_prefix(model, cut, compute)
    suffix = functools.partial(
        stages.run,
        model,
        trainable=cut.trainable,
        updates_statistics=cut.updates_statistics,
        dtype=compute.dtype,
        remat=matching(compute.remat, model.names),
        stochastic_norm=stochastic_norm,
        gather=compute.gather,
    )

    def objective(
        trained: Params,
        params: Params,
        stats: Stats,
        inputs: Inputs,
        key: jax.Array,
        count: jax.Array,
        arrays: PenaltyArrays | None,
    ):
        prefix_output, stats = prefix(params, stats, inputs.images)
        all_params = tree.fill(trained, params)
        run = functools.partial(suffix, dropout_key=key)
        x, start, features = prefix_output, cut.first, {}
        if penalties:
            x, start, stats, features = penalties.features(run, all_params, stats, x, start)
        logits, stats = run(all_params, stats, x, start=start)
        losses = loss(logits, inputs.targets)
        sums = model.task.sums(logits, inputs.truth, losses, inputs.mask)
        mean = jnp.where(inputs.mask, losses, 0.0).sum() / count
        if penalties and arrays is not None:
            start_features = penalties.start_features(
                arrays, params, stats, inputs.images, prefix_output, dtype=compute.dtype
            )
            values = penalties.values(
                arrays,
                trained,
                features,
                start_features,
                inputs.targets,
                inputs.mask,
                dtype=compute.dtype,
            )
            sums |= {name: value * inputs.mask.sum() for name, value in values.items()}
            mean += sum(values.values()) * inputs.mask.sum() / count
        return mean, (sums, stats)

    return objective


def in_parts(objective: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Makes the value and gradient of the objective over a batch, computed in `count` parts.

    Returns:
        The function `(trained, state, inputs, key, arrays)` to `((mean, (sums, stats)), gradient)`.
    """
    gradient = jax.value_and_grad(objective, has_aux=True)

    def of_batch(
        trained: Params,
        state: TrainState,
        inputs: Inputs,
        key: jax.Array,
        arrays: PenaltyArrays | None,
    ):
        rows = jnp.maximum(inputs.mask.sum(), 1)
        total, stats = None, state.stats
        for index, part in enumerate(batch_inputs.parts(inputs, count)):
            if total is not None:  # without this dependence all parts would be in memory at once
                part = data_dependence.after(part, total)
            part_key = jax.random.fold_in(key, index)
            (mean, (sums, stats)), grads = gradient(
                trained, state.params, stats, part, part_key, rows, arrays
            )
            result = (mean, sums, grads)
            total = result if total is None else jax.tree.map(jnp.add, total, result)
        mean, sums, grads = total  # type: ignore[misc]  (there is at least one part)
        return (mean, (sums, stats)), grads

    return of_batch
