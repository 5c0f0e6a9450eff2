"""The training step and the evaluation step: pure functions that name no device."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from tljax import augment, fold, metrics, optim, ordering, tree
from tljax import model as models
from tljax.model import Model
from tljax.penalised import Given, Plan
from tljax.state import SourceState, TrainState
from tljax.stochastic_norm import StochNorm
from tljax.types import Augmentation, Batch, Dtype, InputError, Loss, Norm, Params, Stats, Views
from tljax.views import Centre

TrainStep = Callable[..., tuple[TrainState, metrics.Sums]]  # see `make_train_step`
EvalStep = Callable[[Params, Stats, Batch], tuple[metrics.Sums, jax.Array]]
# Rows of a source: `(key, state, batch, trained, gradient)` to what replaces the last, sums, and
# the source's state; see `sourced`.
Beside = Callable[
    [jax.Array, TrainState, Batch, Params, Params], tuple[Params, metrics.Sums, SourceState]
]


@dataclasses.dataclass(frozen=True)
class Cut:
    """What of a model trains: the first stage that does, all of them, and what BatchNorm follows.

    `moving` are the stages whose running statistics follow the batch.
    """

    first: str
    live: frozenset[str]
    moving: frozenset[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """How a step is computed; only rounding, and with `accumulate` BatchNorm, depend on it.

    Attributes:
        dtype: of the stages from the first that trains.
        prefix_dtype: of the frozen stages below it.
        fold_prefix: folds their BatchNorm into the layers before it.
        remat: patterns of stages whose activations are computed again rather than kept.
        accumulate: the parts a batch is worked on in, one after another.
        cached: whether batches have the output of the frozen stages in the place of images.
    """

    dtype: Dtype = Dtype.FLOAT32
    prefix_dtype: Dtype = Dtype.FLOAT32
    fold_prefix: bool = False
    remat: tuple[str, ...] = ()
    accumulate: int = 1
    cached: bool = False


def find_cut(model: Model, labels: Params, norm: Norm = Norm.AUTO) -> Cut:
    """Where a phase's labels split the model into a frozen prefix and a trained suffix.

    Raises:
        InputError: nothing trains.
    """
    wanted = optim.trained(labels)
    live = [name for name in model.names if any(jax.tree.leaves(wanted[name]))]
    if not live:
        raise InputError('every leaf is frozen: there is nothing to train')
    moving = {
        Norm.AUTO: live,
        Norm.LIVE: model.names,
        Norm.STATISTICS_ONLY: model.names,
    }.get(norm, ())
    return Cut(first=live[0], live=frozenset(live), moving=frozenset(moving))


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    labels: Params,
    loss: Loss,
    augmentations: Sequence[Augmentation] = (),
    *,
    norm: Norm = Norm.AUTO,
    compute: Compute = Compute(),
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
    cut = find_cut(model, labels, norm)
    keep = optim.trained(labels)
    objective = _make_objective(model, cut, loss, compute, penalties, stochastic_norm)
    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(
        key: jax.Array, state: TrainState, batch: Batch, given: Given | None = None
    ) -> tuple[TrainState, metrics.Sums]:
        assert (penalties is None) == (given is None), 'penalties and their arrays go together'
        if compute.cached:
            whole = _as_given(model, batch)
        else:
            whole = augmented(model, augmentations, key, state.step, batch)
        run_key, key = key, jax.random.fold_in(key, state.step)
        trained = tree.select(state.params, keep)
        count = jnp.maximum(whole.mask.sum(), 1)
        total, stats = None, state.stats
        for index, part in enumerate(parts(whole, compute.accumulate)):
            if total is not None:  # one after another, or all would be in memory at once
                part = ordering.after(part, total)
            part_key = jax.random.fold_in(key, index)
            (mean, (sums, stats)), grads = gradient(
                trained, state.params, stats, part, part_key, count, given
            )
            found = (mean, sums, grads)
            total = found if total is None else jax.tree.map(jnp.add, total, found)
        mean, sums, grads = total  # type: ignore[misc]  (there is at least one part)
        source = state.source
        if beside is not None:
            grads, more, source = beside(run_key, state, batch, trained, grads)
            sums |= more
            mean += more['source_loss']
        elif source is not None:  # a step without its rows
            sums |= {name: jnp.zeros(()) for name in metrics.SOURCE}
        updates, opt = optimizer.update(grads, state.opt, trained)
        trained: Params = optax.apply_updates(trained, updates)  # type: ignore[assignment]
        bad = jnp.where(jnp.isfinite(mean), metrics.NO_STEP, state.step + 1)
        sums['first_bad_step'] = bad.astype(jnp.int32)
        params = tree.fill(trained, state.params)
        after = TrainState(
            step=state.step + 1,
            params=params,
            stats=stats,
            opt=opt,
            ema=_averaged(state, params, ema_decay),
            source=source,
        )
        return after, sums

    return step


def _make_objective(
    model: Model,
    cut: Cut,
    loss: Loss,
    compute: Compute,
    penalties: Plan | None,
    stochastic_norm: StochNorm | None,
) -> Callable[..., tuple[jax.Array, tuple[metrics.Sums, Stats]]]:
    """What training makes small: a part's share of the mean loss of a batch, and penalties.

    Returns:
        The function `(trained, params, stats, part, key, count, given)` to the share, and the
        part's sums and the statistics after it; `count` is of the rows in all parts.
    """
    prefix = make_prefix(model, cut, compute)
    suffix = functools.partial(
        models.run,
        model,
        live=cut.live,
        moving=cut.moving,
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
        sums = metrics.of_batch(logits, part.truth, losses, part.mask)
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


def matching(patterns: Sequence[str], stages: Sequence[str]) -> tuple[str, ...]:
    """The stages that any of the patterns covers.

    Raises:
        InputError: a pattern covers none.
    """
    idle = [p for p in patterns if not any(tree.matches(p, stage) for stage in stages)]
    if idle:
        raise InputError(f'remat {idle} covers none of the stages {list(stages)}')
    return tuple(s for s in stages if any(tree.matches(p, s) for p in patterns))


def make_prefix(
    model: Model, cut: Cut, compute: Compute
) -> Callable[[Params, Stats, jax.Array], tuple[jax.Array, Stats]]:
    """The frozen stages: `(params, stats, images) -> (features, stats)`."""
    below = model.names[: model.names.index(cut.first)]
    moving = cut.moving & set(below)
    if compute.cached:
        return lambda params, stats, features: (features, stats)
    if compute.fold_prefix and moving:
        raise InputError(
            'fold_prefix: the statistics of frozen stages follow the batch under this norm policy, '
            'and what changes cannot be folded'
        )

    def prefix(params: Params, stats: Stats, images: jax.Array) -> tuple[jax.Array, Stats]:
        used = fold.folded(model, params, stats, below) if compute.fold_prefix else (params, stats)
        x, after = models.run(
            model, *used, images, stop=cut.first, moving=moving, dtype=compute.prefix_dtype
        )
        return x, after if moving else stats

    return prefix


class Part(NamedTuple):
    """Rows of a batch, ready for the network."""

    images: jax.Array  # [B, size, size, 3] float32, normalised; or features
    targets: jax.Array  # [B, K]
    truth: jax.Array  # [B] int32, or [B, K] uint8
    mask: jax.Array  # [B] bool


def parts(whole: Part, count: int) -> list[Part]:
    """Every `count`-th row from each start, so that a row stays on its device.

    Raises:
        InputError: the rows cannot be shared out evenly.
    """
    if count == 1:
        return [whole]
    rows = len(whole.mask)
    if rows % count:
        raise InputError(f'accumulate is {count}, wanted a divisor of the {rows} rows of a batch')
    grouped = jax.tree.map(lambda x: x.reshape(rows // count, count, *x.shape[1:]), whole)
    return [jax.tree.map(lambda x, i=index: x[:, i], grouped) for index in range(count)]


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

    def step(params: Params, stats: Stats, batch: Batch) -> tuple[metrics.Sums, jax.Array]:
        images, labels = jnp.asarray(batch['image']), jnp.asarray(batch['label'])
        multi_label = labels.ndim == 2
        if first is None:
            shown = views(images, model.preprocessing.size_px)
            logits = models.classify(model, params, stats, shown, multi_label=multi_label)
        else:
            logits, _ = models.run(model, params, stats, images, start=first)
        losses = loss(logits, targets_of(labels, model.num_classes))
        mask = jnp.asarray(batch['mask'])
        sums = metrics.of_batch(logits, labels, losses, mask)
        rows = {'row_labels': labels, 'row_mask': mask} if multi_label else {}
        return sums | rows, logits

    return step


def targets_of(labels: jax.Array, num_classes: int) -> jax.Array:
    """[B, K] float32 of labels [B], or of multi-hot ones [B, K]."""
    if labels.ndim == 2:
        return labels.astype(jnp.float32)
    return jax.nn.one_hot(labels, num_classes)


def _as_given(model: Model, batch: Batch) -> Part:
    """A batch with features in the place of images."""
    features, truth, mask = (jnp.asarray(batch[name]) for name in ('image', 'label', 'mask'))
    return Part(features, targets_of(truth, model.num_classes), truth, mask)


def augmented(
    model: Model,
    augmentations: Sequence[Augmentation],
    key: jax.Array,
    step: jax.Array,
    batch: Batch,
) -> Part:
    """The batch as the network takes it; m times its rows with m copies."""
    targets = targets_of(jnp.asarray(batch['label']), model.num_classes)
    images = jnp.asarray(batch['image'])
    if augmentations:
        keys = augment.example_keys(key, step, jnp.asarray(batch['id']))
        images, targets = augment.apply(augmentations, keys, images, targets)
    views = len(images) // len(batch['image'])  # more than one under `augment.Copy`
    truth, mask = (augment.repeat(jnp.asarray(batch[n]), views) for n in ('label', 'mask'))
    return Part(models.normalise(model.preprocessing, images), targets, truth, mask)
