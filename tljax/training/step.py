"""The training step and the evaluation step: pure functions that name no device."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tljax import tree
from tljax.metrics import totals
from tljax.models import data_dependence, stages
from tljax.models.stages import Model
from tljax.models.stochastic_norm import StochNorm
from tljax.models.views import Centre
from tljax.strategies import partition
from tljax.strategies.cut import Compute, Cut, find_cut, make_prefix, matching
from tljax.training import batch_inputs
from tljax.training.batch_inputs import Part
from tljax.training.penalty_terms import Given, Plan
from tljax.training.states import SourceState, TrainState
from tljax.types import Augmentation, Batch, Loss, Norm, Params, Stats, Views

TrainStep = Callable[..., tuple[TrainState, totals.Sums]]  # see `make_train_step`
EvalStep = Callable[[Params, Stats, Batch], tuple[totals.Sums, jax.Array]]
# Rows of a source: `(key, state, batch, trained, gradient)` to what replaces the last, sums, and
# the source's state; see `sourced`.
Beside = Callable[
    [jax.Array, TrainState, Batch, Params, Params], tuple[Params, totals.Sums, SourceState]
]


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
    penalties: Plan | None = None,
    stochastic_norm: StochNorm | None = None,
    beside: Beside | None = None,
) -> TrainStep:
    """The function `(key, state, batch) -> (state, sums)`, to be jitted.

    With penalties it takes their arrays as a fourth argument.

    The key is an argument, the same at every step, rather than a constant of the program: another
    seed is then not another compilation. Randomness is `fold_in(key, step)`, and per example
    `fold_in(..., id)`.

    Gradients are taken with respect to trained leaves only, so none flows below the first stage
    that trains. A stage with nothing to train runs as in evaluation: BatchNorm by its running
    statistics, which stay as they are (`norm` can say otherwise), and no dropout.

    Args:
        model: the network.
        optimizer: what `optim.make` built for these labels.
        labels: per leaf, `frozen` or its group.
        loss: per example.
        augmentations: applied to the images before they are normalised.
        norm: what becomes of BatchNorm's statistics.
        compute: in which precision, in how many parts, and what is computed twice.
        ema_decay: of the running mean of the parameters, where the state has one.
        penalties: of the phase; they are added to the mean loss.
        stochastic_norm: what BatchNorm does where its statistics follow the batch.
        beside: of the rows of a source, which batches then have; its gradient is added.
    """
    compute = compute or Compute()
    keep = partition.trained(labels)
    cut = find_cut(model, labels, norm)
    objective = _make_objective(model, cut, loss, compute, penalties, stochastic_norm)
    gradient = _in_parts(objective, compute.accumulate)

    def step(
        key: jax.Array, state: TrainState, batch: Batch, given: Given | None = None
    ) -> tuple[TrainState, totals.Sums]:
        assert (penalties is None) == (given is None), 'penalties and their arrays go together'
        if compute.cached:
            whole = batch_inputs.as_given(model, batch)
        else:
            whole = batch_inputs.augmented(model, augmentations, key, state.step, batch)
        trained = tree.select(state.params, keep)
        step_key = jax.random.fold_in(key, state.step)
        (mean, (sums, stats)), grads = gradient(trained, state, whole, step_key, given)
        source = state.source
        if beside is not None:
            grads, more, source = beside(key, state, batch, trained, grads)
            sums |= more
            mean += more['source_loss']
        elif source is not None:  # a step without its rows
            sums |= {name: jnp.zeros(()) for name in totals.SOURCE}
        after = _updated(optimizer, state, trained, grads, ema_decay)
        bad = jnp.where(jnp.isfinite(mean), totals.NO_STEP, state.step + 1)
        sums['first_bad_step'] = bad.astype(jnp.int32)
        return dataclasses.replace(after, stats=stats, source=source), sums

    return step


def _make_objective(
    model: Model,
    cut: Cut,
    loss: Loss,
    compute: Compute,
    penalties: Plan | None,
    stochastic_norm: StochNorm | None,
) -> Callable[..., tuple[jax.Array, tuple[totals.Sums, Stats]]]:
    """What training makes small: a part's share of the mean loss of a batch, and penalties.

    Returns:
        The function `(trained, params, stats, part, key, count, given)` to the share, and the
        part's sums and the statistics after it; `count` is of the rows in all parts.
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
    )

    def objective(
        trained: Params,
        params: Params,
        stats: Stats,
        part: Part,
        key: jax.Array,
        count: jax.Array,
        given: Given | None,
    ):
        features, stats = prefix(params, stats, part.images)
        whole = tree.fill(trained, params)
        run = functools.partial(suffix, dropout_key=key)
        x, start, seen = features, cut.first, {}
        if penalties:
            x, start, stats, seen = penalties.through(run, whole, stats, x, start)
        logits, stats = run(whole, stats, x, start=start)
        losses = loss(logits, part.targets)
        sums = totals.of_batch(logits, part.truth, losses, part.mask)
        mean = jnp.where(part.mask, losses, 0.0).sum() / count
        if penalties and given is not None:
            begun = penalties.start_features(
                given, params, stats, part.images, features, dtype=compute.dtype
            )
            values = penalties.values(
                given, trained, seen, begun, part.targets, part.mask, dtype=compute.dtype
            )
            sums |= {name: value * part.mask.sum() for name, value in values.items()}
            mean += sum(values.values()) * part.mask.sum() / count
        return mean, (sums, stats)

    return objective


def _in_parts(objective: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The value and gradient of the objective over a batch, in so many parts.

    Returns:
        The function `(trained, state, whole, key, given)` to `((mean, (sums, stats)), gradient)`.
    """
    gradient = jax.value_and_grad(objective, has_aux=True)

    def of_batch(
        trained: Params, state: TrainState, whole: Part, key: jax.Array, given: Given | None
    ):
        rows = jnp.maximum(whole.mask.sum(), 1)
        total, stats = None, state.stats
        for index, part in enumerate(batch_inputs.parts(whole, count)):
            if total is not None:  # one after another, or all would be in memory at once
                part = data_dependence.after(part, total)
            part_key = jax.random.fold_in(key, index)
            (mean, (sums, stats)), grads = gradient(
                trained, state.params, stats, part, part_key, rows, given
            )
            found = (mean, sums, grads)
            total = found if total is None else jax.tree.map(jnp.add, total, found)
        mean, sums, grads = total  # type: ignore[misc]  (there is at least one part)
        return (mean, (sums, stats)), grads

    return of_batch


def _updated(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    trained: Params,
    grads: Params,
    ema_decay: float | None,
) -> TrainState:
    """The state after an update of what trains."""
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

    Early on it forgets faster: the share kept of it is at most `(1 + n) / (10 + n)` after n steps.
    Source: Polyak & Juditsky 1992; the warm-up is that of tf.train.ExponentialMovingAverage.
    """
    if state.ema is None or decay is None:
        return state.ema
    kept = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(
        lambda mean, value: None if mean is None else kept * mean + (1 - kept) * value,
        state.ema,
        params,
        is_leaf=lambda leaf: leaf is None,
    )


def make_eval_step(
    model: Model, loss: Loss, views: Views | None = None, first: str | None = None
) -> EvalStep:
    """The function `(params, stats, batch) -> (sums, logits)`, to be jitted.

    Padding counts nowhere in the sums, and has its row in the logits [B, K]. Where images have
    several labels, `row_labels` and `row_mask` of the batch are among the sums besides.

    Args:
        model: the network.
        loss: per example.
        views: of each image; None for its centre.
        first: the stage that reads what batches have in the place of images; None for images.
    """
    views = views or Centre()

    def step(params: Params, stats: Stats, batch: Batch) -> tuple[totals.Sums, jax.Array]:
        images, labels = jnp.asarray(batch['image']), jnp.asarray(batch['label'])
        multi_label = labels.ndim == 2
        if first is None:
            shown = views(images, model.preprocessing.size_px)
            logits = stages.classify(model, params, stats, shown, multi_label=multi_label)
        else:
            logits, _ = stages.run(model, params, stats, images, start=first)
        losses = loss(logits, batch_inputs.targets_of(labels, model.num_classes))
        mask = jnp.asarray(batch['mask'])
        sums = totals.of_batch(logits, labels, losses, mask)
        rows = {'row_labels': labels, 'row_mask': mask} if multi_label else {}
        return sums | rows, logits

    return step
