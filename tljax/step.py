"""The training step and the evaluation step: pure functions that name no device."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from tljax import augment, metrics, optim, tree
from tljax import model as models
from tljax.model import Model
from tljax.state import TrainState
from tljax.types import Augmentation, Batch, InputError, Loss, Params, Stats

TrainStep = Callable[[jax.Array, TrainState, Batch], tuple[TrainState, metrics.Sums]]
EvalStep = Callable[[Params, Stats, Batch], metrics.Sums]


@dataclasses.dataclass(frozen=True)
class Cut:
    """What of a model trains: the first stage that does, and all of them."""

    first: str
    live: frozenset[str]


def find_cut(model: Model, labels: Params) -> Cut:
    """Where a phase's labels split the model into a frozen prefix and a trained suffix.

    Raises:
        InputError: nothing trains.
    """
    wanted = optim.trained(labels)
    live = [name for name in model.names if any(jax.tree.leaves(wanted[name]))]
    if not live:
        raise InputError('every leaf is frozen: there is nothing to train')
    return Cut(first=live[0], live=frozenset(live))


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    labels: Params,
    loss: Loss,
    augmentations: Sequence[Augmentation] = (),
) -> TrainStep:
    """The function `(key, state, batch) -> (state, sums)`, to be jitted.

    The key is an argument, the same at every step, rather than a constant of the program: another
    seed is then not another compilation. Randomness is `fold_in(key, step)`, and per example
    `fold_in(..., id)`.

    Gradients are taken with respect to trained leaves only, so none flows below the first stage
    that trains. A stage with nothing to train runs as in evaluation: BatchNorm by its running
    statistics, which stay as they are, and no dropout.

    Args:
        model: the network.
        optimizer: what `optim.make` built for these labels.
        labels: per leaf, `frozen` or its group.
        loss: per example.
        augmentations: applied to the images before they are normalised.
    """
    cut = find_cut(model, labels)
    keep = optim.trained(labels)

    def step(key: jax.Array, state: TrainState, batch: Batch) -> tuple[TrainState, metrics.Sums]:
        images, targets = _augmented(model, augmentations, key, state.step, batch)
        views = len(images) // len(batch['image'])  # more than one under `augment.Copy`
        truth, mask = (augment.repeat(jnp.asarray(batch[n]), views) for n in ('label', 'mask'))
        key = jax.random.fold_in(key, state.step)
        features, _ = models.run(model, state.params, state.stats, images, stop=cut.first)
        trained = tree.select(state.params, keep)

        def objective(trained: Params):
            logits, stats = models.run(
                model,
                tree.fill(trained, state.params),
                state.stats,
                features,
                start=cut.first,
                live=cut.live,
                dropout_key=jax.random.fold_in(key, 0),
            )
            losses = loss(logits, targets)
            mean = jnp.where(mask, losses, 0.0).sum() / jnp.maximum(mask.sum(), 1)
            return mean, (logits, losses, stats)

        gradient = jax.value_and_grad(objective, has_aux=True)
        (mean, (logits, losses, stats)), grads = gradient(trained)
        updates, opt = optimizer.update(grads, state.opt, trained)
        trained: Params = optax.apply_updates(trained, updates)  # type: ignore[assignment]
        sums = metrics.classification(logits, truth, losses, mask)
        bad = jnp.where(jnp.isfinite(mean), metrics.NO_STEP, state.step + 1)
        sums['first_bad_step'] = bad.astype(jnp.int32)
        params = tree.fill(trained, state.params)
        return TrainState(step=state.step + 1, params=params, stats=stats, opt=opt), sums

    return step


def make_eval_step(model: Model, loss: Loss) -> EvalStep:
    """The function `(params, stats, batch) -> sums`, to be jitted; padding counts nowhere."""

    def step(params: Params, stats: Stats, batch: Batch) -> metrics.Sums:
        images = models.normalise(model.preprocessing, jnp.asarray(batch['image']))
        logits, _ = models.run(model, params, stats, images)
        labels = jnp.asarray(batch['label'])
        losses = loss(logits, jax.nn.one_hot(labels, model.num_classes))
        return metrics.classification(logits, labels, losses, jnp.asarray(batch['mask']))

    return step


def _augmented(
    model: Model,
    augmentations: Sequence[Augmentation],
    key: jax.Array,
    step: jax.Array,
    batch: Batch,
) -> tuple[jax.Array, jax.Array]:
    """Normalised images [B, size, size, 3] and targets [B, K]; m times B with copies."""
    targets = jax.nn.one_hot(jnp.asarray(batch['label']), model.num_classes)
    images = jnp.asarray(batch['image'])
    if augmentations:
        keys = augment.example_keys(key, step, jnp.asarray(batch['id']))
        images, targets = augment.apply(augmentations, keys, images, targets)
    return models.normalise(model.preprocessing, images), targets
