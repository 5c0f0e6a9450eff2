"""The training step and the evaluation step: pure functions that do not depend on devices."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from tljax import tree
from tljax.devices import Gather
from tljax.metrics import totals
from tljax.models import stages
from tljax.models.stages import Model
from tljax.models.stochastic_norm import StochNorm
from tljax.models.views import Centre
from tljax.strategies import partition
from tljax.strategies.cut import Compute, find_cut
from tljax.training import batch_inputs, nonfinite_step, objective
from tljax.training.batch_inputs import Inputs
from tljax.training.penalty_terms import PenaltyArrays, PhasePenalties
from tljax.training.states import SamplesState, TrainState
from tljax.types import Augmentation, Batch, Loss, Norm, Params, Stats, Views

TrainStep = Callable[..., tuple[TrainState, totals.Sums]]  # see `make_train_step`
EvalStep = Callable[[Params, Stats, Batch], tuple[totals.Sums, jax.Array]]
# `(key, state, batch, trained, gradient)` to the gradient with that of samples added, the sums of
# the samples, and their state; see `source_step.SamplesStep`.
SamplesStep = Callable[
    [jax.Array, TrainState, Batch, Params, Params], tuple[Params, totals.Sums, SamplesState]
]


class Gradients(NamedTuple):
    """The result of the backward pass of a step, before the update."""

    mean: jax.Array  # [] the objective: the mean loss with penalties and the loss of samples
    sums: totals.Sums
    stats: Stats
    grads: Params  # None for frozen leaves
    samples: SamplesState | None


def make_gradients(
    model: Model,
    labels: Params,
    loss: Loss,
    augmentations: Sequence[Augmentation] = (),
    *,
    norm: Norm = Norm.AUTO,
    compute: Compute | None = None,
    penalties: PhasePenalties | None = None,
    stochastic_norm: StochNorm | None = None,
    samples_step: SamplesStep | None = None,
) -> Callable[[jax.Array, TrainState, Batch, PenaltyArrays | None], Gradients]:
    """Makes the backward pass of a step; arguments as for `make_train_step`."""
    compute = compute or Compute()
    keep = partition.trained(labels)
    cut = find_cut(model, labels, norm)
    made = objective.make_objective(model, cut, loss, compute, penalties, stochastic_norm)
    gradient = objective.in_parts(made, compute.accumulate)

    def backward(
        key: jax.Array, state: TrainState, batch: Batch, arrays: PenaltyArrays | None
    ) -> Gradients:
        inputs = inputs_of(model, augmentations, compute, key, state, batch)
        trained = tree.select(state.params, keep)
        step_key = jax.random.fold_in(key, state.step)
        (mean, (sums, stats)), grads = gradient(trained, state, inputs, step_key, arrays)
        samples = state.source
        if samples_step is not None:
            grads, samples_sums, samples = samples_step(key, state, batch, trained, grads)
            sums |= samples_sums
            mean += samples_sums['source_loss']
        elif samples is not None:  # a batch without samples
            sums |= {name: jnp.zeros(()) for name in totals.SOURCE}
        return Gradients(mean, sums, stats, grads, samples)

    return backward


def inputs_of(
    model: Model,
    augmentations: Sequence[Augmentation],
    compute: Compute,
    key: jax.Array,
    state: TrainState,
    batch: Batch,
) -> Inputs:
    """The inputs of the network in a step: cached features, or augmented images."""
    if compute.cached:
        return batch_inputs.cached(model, batch)
    return batch_inputs.augmented(model, augmentations, key, state.step, batch)


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    labels: Params,
    loss: Loss,
    augmentations: Sequence[Augmentation] = (),
    *,
    norm: Norm = Norm.AUTO,
    compute: Compute | None = None,
    ema_decay: float | None = None,
    penalties: PhasePenalties | None = None,
    stochastic_norm: StochNorm | None = None,
    samples_step: SamplesStep | None = None,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """Makes the function `(key, state, batch) -> (state, sums)`, to be jitted.

    With penalties, it takes their arrays as a fourth argument.

    The key is the same at every step, and an argument, so that another seed needs no new
    compilation. Randomness is `fold_in(key, step)`, and per example `fold_in(..., id)`.

    Gradients are taken with respect to the trained leaves only, so none is computed below the
    first stage that trains. A stage without trained leaves runs as in evaluation: BatchNorm uses
    its running statistics and does not update them (unless `norm` says otherwise), and there is no
    dropout.

    Args:
        model: the network.
        optimizer: the result of `partition.make` for these labels.
        labels: per leaf, `frozen` or its group.
        loss: per example.
        augmentations: applied to the images before they are normalised.
        norm: the policy for BatchNorm's statistics.
        compute: precision, number of parts, and what is computed twice.
        ema_decay: the decay of the running mean of the parameters, if the state has one.
        penalties: the penalties of the phase; they are added to the mean loss.
        stochastic_norm: mixes batch statistics with running ones where BatchNorm uses the batch's.
        samples_step: trains on the samples that each batch then contains.
        skip_nonfinite: whether a step that is not finite changes `state.step` alone; see
            `nonfinite_step`.
    """
    backward = make_gradients(
        model,
        labels,
        loss,
        augmentations,
        norm=norm,
        compute=compute,
        penalties=penalties,
        stochastic_norm=stochastic_norm,
        samples_step=samples_step,
    )
    keep = partition.trained(labels)

    def step(
        key: jax.Array, state: TrainState, batch: Batch, arrays: PenaltyArrays | None = None
    ) -> tuple[TrainState, totals.Sums]:
        assert (penalties is None) == (arrays is None), 'penalties and their arrays go together'
        mean, sums, stats, grads, samples = backward(key, state, batch, arrays)
        after = updated(optimizer, state, tree.select(state.params, keep), grads, ema_decay)
        bad = jnp.where(jnp.isfinite(mean), totals.NO_STEP, state.step + 1)
        sums['first_bad_step'] = bad.astype(jnp.int32)
        after = dataclasses.replace(after, stats=stats, source=samples)
        if skip_nonfinite:
            return nonfinite_step.skipped(state, after, sums, (mean, grads))
        return after, sums

    return step


def updated(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    trained: Params,
    grads: Params,
    ema_decay: float | None,
) -> TrainState:
    """The state after an update of the trained leaves; statistics and samples are as before."""
    updates, opt = optimizer.update(grads, state.opt, trained)
    after: Params = optax.apply_updates(trained, updates)  # type: ignore[assignment]
    params = tree.fill(after, state.params)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        opt=opt,
        ema=_averaged(state, params, ema_decay),
    )


def _averaged(state: TrainState, params: Params, decay: float | None) -> Params | None:
    """The running mean of the parameters after a step.

    The decay is at most `(1 + n) / (10 + n)` after n steps, so early values are forgotten faster.
    Source: Polyak & Juditsky 1992; the warm-up is that of tf.train.ExponentialMovingAverage.
    """
    if state.ema is None or decay is None:
        return state.ema
    weight = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(
        lambda mean, value: None if mean is None else weight * mean + (1 - weight) * value,
        state.ema,
        params,
        is_leaf=lambda leaf: leaf is None,
    )


def make_eval_step(
    model: Model,
    loss: Loss,
    views: Views | None = None,
    first: str | None = None,
    gather: Gather | None = None,
) -> EvalStep:
    """Makes the function `(params, stats, batch) -> (sums, logits)`, to be jitted.

    Padding does not count in the sums; it has rows in the logits [B, O]. If the task reads rows,
    the sums also contain the batch's `row_labels` and `row_mask`.

    Args:
        model: the network.
        loss: per example.
        views: the views of each image; None for its centre.
        first: the first stage to run, if batches contain its input instead of images.
        gather: see `stages.run`.
    """
    views = views or Centre()

    def step(params: Params, stats: Stats, batch: Batch) -> tuple[totals.Sums, jax.Array]:
        images, labels = jnp.asarray(batch['image']), jnp.asarray(batch['label'])
        if first is None:
            crops = views(images, model.preprocessing.size_px)
            logits = stages.classify(model, params, stats, crops, gather=gather)
        else:
            logits, _ = stages.run(model, params, stats, images, start=first, gather=gather)
        losses = loss(logits, model.targets(labels))
        mask = jnp.asarray(batch['mask'])
        sums = model.task.sums(logits, labels, losses, mask)
        rows = {'row_labels': labels, 'row_mask': mask} if model.task.reads_rows else {}
        return sums | rows, logits

    return step
