"""A step's rows of a source: their loss, its gradient, and what becomes of their weights."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tljax import augment, tree
from tljax.metrics import totals
from tljax.models import data_dependence, layers, stages
from tljax.models.stages import HEAD
from tljax.models.stochastic_norm import StochNorm
from tljax.sample_transfer import UnlabelledPool
from tljax.strategies.cut import Compute, Cut, make_prefix, matching
from tljax.training import batch_inputs
from tljax.training.source_data import STREAM, Sourced
from tljax.training.states import SourceState, TrainState
from tljax.types import Augmentation, Batch, Loss, Params, Seen


class Rows(NamedTuple):
    """Rows of a source, ready for the network."""

    images: jax.Array  # [B, size, size, 3]
    weak: jax.Array  # [B, ...] weakly changed ones, of a pool; the same else
    targets: jax.Array  # [B, K]
    truth: jax.Array  # [B]
    mask: jax.Array  # [B]
    rows: jax.Array  # [B] which examples they are


class Held(NamedTuple):
    """What is the same for all parts of a step."""

    state: TrainState
    slope: jax.Array | None
    offset: jax.Array | None
    real: jax.Array  # [] rows of the step that are not padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class BesideStep:
    """See `step.Beside`.

    The rows go through the network as a batch of their own: where BatchNorm follows the batch, it
    follows theirs, and the running statistics, with which the network is evaluated on the
    target, stay the target's.

    Attributes:
        sourced: the source.
        cut: what of the network trains.
        loss: per example.
        augmentations: of the experiment.
        compute: of the experiment.
        stochastic_norm: likewise.
        optimizer: of the source's own head, where it has one.
    """

    sourced: Sourced
    cut: Cut
    loss: Loss
    augmentations: Sequence[Augmentation]
    compute: Compute
    stochastic_norm: StochNorm | None
    optimizer: optax.GradientTransformation | None

    def __call__(
        self, key: jax.Array, state: TrainState, batch: Batch, trained: Params, grads: Params
    ) -> tuple[Params, totals.Sums, SourceState]:
        """The gradient of both, the sums of the source's rows, and the source's state after."""
        assert state.source is not None
        assert 'source' in batch
        source, key = state.source, jax.random.fold_in(key, STREAM)
        whole = self._rows(key, state.step, batch['source'])
        key = jax.random.fold_in(key, state.step)
        slope, offset = self._slope(grads, state.params)
        held = Held(state, slope, offset, jnp.maximum(whole.mask.sum(), 1))
        gradient = jax.value_and_grad(self._objective, has_aux=True)
        both, total, sums = (trained, source.head), (grads, None), None
        weights, memory = source.weights, source.memory
        count = self._parts(len(whole.mask))
        for index, part in enumerate(batch_inputs.parts(whole, count)):  # type: ignore[arg-type]
            part = data_dependence.after(
                part, total[0]
            )  # the target's rows are out of memory by then
            part_key = jax.random.fold_in(key, index)
            (_, (found, weights, memory)), slopes = gradient(
                both, held, part, part_key, weights, memory, last=index + 1 == count
            )
            own = slopes[1] if total[1] is None else jax.tree.map(jnp.add, total[1], slopes[1])
            total = (jax.tree.map(jnp.add, total[0], slopes[0]), own)
            sums = found if sums is None else jax.tree.map(jnp.add, sums, found)
        head, opt = source.head, source.opt
        if self.optimizer is not None:
            updates: Any
            updates, opt = self.optimizer.update(total[1], opt, head)  # type: ignore[arg-type]
            head = optax.apply_updates(head, updates)
        after = SourceState(head=head, opt=opt, weights=weights, memory=memory)  # type: ignore[arg-type]
        return total[0], sums, after  # type: ignore[return-value]

    def _parts(self, rows: int) -> int:
        """As many as the target's rows are worked on in, or the next number that divides these."""
        return next(n for n in range(min(self.compute.accumulate, rows), rows + 1) if rows % n == 0)

    def _rows(self, key: jax.Array, at: jax.Array, batch: Batch) -> Rows:
        model, pool = self.sourced.model, self.sourced.config
        weakly, strongly = self.augmentations, self.augmentations
        if isinstance(pool, UnlabelledPool):
            weakly = self.augmentations if pool.weak is None else pool.weak
            strongly = (*weakly, *pool.strong)
        part = batch_inputs.augmented(model, strongly, key, at, batch)
        weak = part.images
        if isinstance(pool, UnlabelledPool):
            weak = batch_inputs.augmented(model, weakly, key, at, batch).images
        views = len(part.mask) // len(batch['id'])
        rows = augment.repeat(jnp.asarray(batch['id']), views)
        return Rows(part.images, weak, part.targets, part.truth, part.mask, rows)

    def _slope(self, grads: Params, params: Params) -> tuple[jax.Array | None, jax.Array | None]:
        """The target's gradient by the last layer that both domains go through."""
        if not (self.sourced.reweighing and self.sourced.reweighing.needs_slope):
            return None, None
        by_head = grads[HEAD]['linear']
        if not self.sourced.head:
            return by_head['kernel'], by_head['bias']
        back = params[HEAD]['linear']['kernel'].T
        return by_head['kernel'] @ back, by_head['bias'] @ back

    def _objective(
        self,
        both: tuple[Params, Params],
        held: Held,
        part: Rows,
        key: jax.Array,
        weights: jax.Array,
        memory: Any,
        *,
        last: bool,
    ) -> tuple[jax.Array, tuple[totals.Sums, jax.Array, Any]]:
        """A part's share of the weighted loss; its sums, and the weights and memory after it."""
        params = {**tree.fill(both[0], held.state.params), **both[1]}
        targets, truth, taken = part.targets, part.truth, None
        if isinstance(self.sourced.config, UnlabelledPool):
            said = jax.lax.stop_gradient(self._run(params, held.state, part.weak, key)[1])
            targets, truth, taken, memory = pseudo_labels(self.sourced.config, said, part, memory)
        x, logits = self._run(params, held.state, part.images, key)
        losses = self.loss(logits, targets)
        if self.sourced.reweighing:
            seen = self._seen(params, held, part, jax.lax.stop_gradient((x, logits)), last)
            weights, memory = self.sourced.reweighing.update(weights, memory, seen)
        counted = weights[part.rows] if taken is None else taken.astype(jnp.float32)
        counted = jnp.where(part.mask, counted, 0.0)
        share = self.sourced.strength(held.state.step) * (counted * losses).sum() / held.real
        plain = totals.of_batch(logits, truth, losses, part.mask)
        sums = {
            'source_loss': plain['loss'],
            'source_right': plain['correct'].astype(jnp.float32),
            'source_weight': counted.sum(),
            'source_count': plain['count'].astype(jnp.float32),
        }
        return share, (sums, weights, memory)

    def _run(
        self, params: Params, state: TrainState, images: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """What the head reads, and the logits."""
        model, cut = self.sourced.model, self.cut
        own = {HEAD} if self.sourced.head else set()
        x, _ = make_prefix(model, cut, self.compute)(state.params, state.stats, images)
        run = functools.partial(
            stages.run,
            model,
            params,
            state.stats,
            trainable=cut.trainable | own,
            updates_statistics=cut.updates_statistics,
            dropout_key=key,
            dtype=self.compute.dtype,
            remat=matching(self.compute.remat, model.names),
            stochastic_norm=self.stochastic_norm,
        )
        x, _ = run(x, start=cut.first, stop=HEAD)
        return x, run(x, start=HEAD)[0]

    def _seen(
        self,
        params: Params,
        held: Held,
        part: Rows,
        outputs: tuple[jax.Array, jax.Array],
        last: bool,
    ) -> Seen:
        x, logits = outputs
        likely = (part.targets * jax.nn.softmax(logits)).sum(-1)
        features = errors = None
        if held.slope is not None:
            pooling = getattr(self.sourced.model.stages[HEAD], 'pooling', layers.Pooling.AVERAGE)
            features = layers.pool(x.astype(jnp.float32), pooling)
            errors = jax.grad(lambda z: self.loss(z, part.targets).sum())(logits)
            if self.sourced.head:
                errors = errors @ jax.lax.stop_gradient(params[HEAD]['linear']['kernel']).T
        return Seen(
            step=held.state.step,
            last=last,
            rows=part.rows,
            mask=part.mask,
            wrong=1 - likely,
            features=features,
            errors=errors,
            slope=held.slope,
            offset=held.offset,
        )


def pseudo_labels(
    pool: UnlabelledPool, logits: jax.Array, part: Rows, memory: dict[str, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]:
    """What the network says of weakly changed images, and of which it is sure.

    Args:
        pool: the thresholds.
        logits: [B, K] of the weak views.
        part: the rows.
        memory: `label` [N] int32, what was last said surely of each image; -1 for nothing.

    Returns:
        Targets [B, K], labels [B], which are taken [B], and the memory after them.
    """
    classes = logits.shape[-1]
    probabilities = jax.nn.softmax(logits)
    label, sure = probabilities.argmax(-1).astype(jnp.int32), probabilities.max(-1)
    known = memory['label']
    least = thresholds(pool, known, classes)
    taken = part.mask & (sure >= least[label])
    settled = part.mask & (sure >= pool.threshold)
    known = known.at[part.rows].set(jnp.where(settled, label, known[part.rows]))
    return jax.nn.one_hot(label, classes), label, taken, {'label': known}


def thresholds(pool: UnlabelledPool, known: jax.Array, classes: int) -> jax.Array:
    """[K] probabilities from which a label is taken; see `UnlabelledPool`.

    None falls below half of `threshold`: FlexMatch's begin at 0, where a new head says the same of
    every image.
    """
    if not pool.balanced:
        return jnp.full(classes, pool.threshold)
    counts = jnp.zeros(classes).at[known].add(jnp.where(known >= 0, 1.0, 0.0))
    most = jnp.maximum(counts.max(), len(known) - counts.sum())
    learned = counts / jnp.maximum(most, 1)
    return pool.threshold * (1 + learned / (2 - learned)) / 2
