"""The part of a training step that trains on samples: their loss, its gradient, their weights."""

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
from tljax.sample_transfer.source import SampleLabels
from tljax.strategies.cut import Compute, Cut, make_prefix, matching
from tljax.training import batch_inputs
from tljax.training.source_data import STREAM, Samples
from tljax.training.states import SamplesState, TrainState
from tljax.types import Augmentation, Batch, Loss, Params, Seen


class SampleInputs(NamedTuple):
    """Samples, ready for the network."""

    images: jax.Array  # [B, size, size, 3] float32, normalised
    weak: jax.Array | None  # weakly augmented images, if the samples' labels come from them
    targets: jax.Array  # [B, K]
    truth: jax.Array  # [B] int32
    mask: jax.Array  # [B] bool
    rows: jax.Array  # [B] the places of the samples in their set


class StepContext(NamedTuple):
    """The values that all parts of a step share."""

    state: TrainState
    slope: jax.Array | None  # see `Seen`
    offset: jax.Array | None
    images: jax.Array  # [] samples in the batch that are not padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplesStep:
    """Trains on the samples of a batch; see `step.SamplesStep`.

    Samples go through the network as a batch of their own. If BatchNorm uses batch statistics, it
    uses theirs for them. The running statistics are updated by the target's images only, because
    the network is evaluated on the target.

    Attributes:
        samples: the samples.
        cut: the stages of the network that train.
        loss: per example.
        augmentations: those of the experiment.
        compute: how a step is computed.
        stochastic_norm: that of the experiment.
        optimizer: updates the samples' own head, if they have one.
    """

    samples: Samples
    cut: Cut
    loss: Loss
    augmentations: Sequence[Augmentation]
    compute: Compute
    stochastic_norm: StochNorm | None
    optimizer: optax.GradientTransformation | None

    def __call__(
        self, key: jax.Array, state: TrainState, batch: Batch, trained: Params, grads: Params
    ) -> tuple[Params, totals.Sums, SamplesState]:
        """The sum of both gradients, the sums of the samples, and their state after the step."""
        assert state.source is not None
        assert 'source' in batch
        before, key = state.source, jax.random.fold_in(key, STREAM)
        inputs = self._inputs(key, state.step, batch['source'])
        key = jax.random.fold_in(key, state.step)
        slope, offset = self._slope(grads, state.params)
        context = StepContext(state, slope, offset, jnp.maximum(inputs.mask.sum(), 1))
        gradient = jax.value_and_grad(self._objective, has_aux=True)
        head_grads, sums = None, None
        weights, memory = before.weights, before.memory
        count = self._parts(len(inputs.mask))
        for index, part in enumerate(batch_inputs.parts(inputs, count)):
            # With this dependence the activations of the parts before are out of memory.
            part = data_dependence.after(part, grads)
            part_key = jax.random.fold_in(key, index)
            (_, (part_sums, weights, memory)), part_grads = gradient(
                (trained, before.head),
                context,
                part,
                part_key,
                weights,
                memory,
                last=index + 1 == count,
            )
            grads = jax.tree.map(jnp.add, grads, part_grads[0])
            head_grads = _sum(head_grads, part_grads[1])
            sums = _sum(sums, part_sums)
        head, opt = before.head, before.opt
        if self.optimizer is not None:
            updates: Any
            updates, opt = self.optimizer.update(head_grads, opt, head)  # type: ignore[arg-type]
            head = optax.apply_updates(head, updates)
        after = SamplesState(head=head, opt=opt, weights=weights, memory=memory)  # type: ignore[arg-type]
        return grads, sums, after  # type: ignore[return-value]

    def _parts(self, rows: int) -> int:
        """The smallest number of parts, from that of the target on, that divides the samples."""
        return next(n for n in range(min(self.compute.accumulate, rows), rows + 1) if rows % n == 0)

    def _inputs(self, key: jax.Array, step: jax.Array, batch: Batch) -> SampleInputs:
        model = self.samples.model
        strongly, weakly = self.samples.config.augmentations(self.augmentations)
        inputs, weak = batch_inputs.augmented(model, strongly, key, step, batch), None
        if weakly is not None:
            weak = batch_inputs.augmented(model, weakly, key, step, batch).images
        views = len(inputs.mask) // len(batch['id'])
        rows = augment.repeat(jnp.asarray(batch['id']), views)
        return SampleInputs(inputs.images, weak, inputs.targets, inputs.truth, inputs.mask, rows)

    def _slope(self, grads: Params, params: Params) -> tuple[jax.Array | None, jax.Array | None]:
        """The target's gradient with respect to the last layer that both domains share."""
        if not (self.samples.reweighing and self.samples.reweighing.needs_slope):
            return None, None
        by_head = grads[HEAD]['linear']
        if not self.samples.head:
            return by_head['kernel'], by_head['bias']
        back = params[HEAD]['linear']['kernel'].T
        return by_head['kernel'] @ back, by_head['bias'] @ back

    def _objective(
        self,
        trained: tuple[Params, Params],
        context: StepContext,
        part: SampleInputs,
        key: jax.Array,
        weights: jax.Array,
        memory: Any,
        *,
        last: bool,
    ) -> tuple[jax.Array, tuple[totals.Sums, jax.Array, Any]]:
        """A part's share of the weighted loss; its sums, and the weights and memory after it.

        `trained` are the trained leaves of the network and the samples' own head.
        """
        params = {**tree.fill(trained[0], context.state.params), **trained[1]}

        def weak_logits() -> jax.Array:
            assert part.weak is not None
            return jax.lax.stop_gradient(self._run(params, context.state, part.weak, key)[1])

        labels, memory = self.samples.config.step_labels(
            SampleLabels(part.targets, part.truth, part.mask), part.rows, weak_logits, memory
        )
        x, logits = self._run(params, context.state, part.images, key)
        losses = self.loss(logits, labels.targets)
        if self.samples.reweighing:
            outputs = jax.lax.stop_gradient((x, logits))
            seen = self._seen(params, context, part, outputs, last)
            weights, memory = self.samples.reweighing.update(weights, memory, seen)
        part_weights = jnp.where(labels.mask, weights[part.rows], 0.0)
        strength = self.samples.strength(context.state.step)
        share = strength * (part_weights * losses).sum() / context.images
        unweighted = self.samples.model.task.sums(logits, labels.labels, losses, part.mask)
        sums = {
            'source_loss': unweighted['loss'],
            'source_right': unweighted['correct'].astype(jnp.float32),
            'source_weight': part_weights.sum(),
            'source_count': unweighted['count'].astype(jnp.float32),
        }
        return share, (sums, weights, memory)

    def _run(
        self, params: Params, state: TrainState, images: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The input of the head, and the logits."""
        model, cut = self.samples.model, self.cut
        own_head = {HEAD} if self.samples.head else set()
        x, _ = make_prefix(model, cut, self.compute)(state.params, state.stats, images)
        run = functools.partial(
            stages.run,
            model,
            params,
            state.stats,
            trainable=cut.trainable | own_head,
            updates_statistics=cut.updates_statistics,
            dropout_key=key,
            dtype=self.compute.dtype,
            remat=matching(self.compute.remat, model.names),
            stochastic_norm=self.stochastic_norm,
            gather=self.compute.gather,
        )
        x, _ = run(x, start=cut.first, stop=HEAD)
        return x, run(x, start=HEAD)[0]

    def _seen(
        self,
        params: Params,
        context: StepContext,
        part: SampleInputs,
        outputs: tuple[jax.Array, jax.Array],
        last: bool,
    ) -> Seen:
        """What a reweighing method reads of a part."""
        x, logits = outputs
        likely = (part.targets * jax.nn.softmax(logits)).sum(-1)
        features = errors = None
        if context.slope is not None:
            pooling = getattr(self.samples.model.stages[HEAD], 'pooling', layers.Pooling.AVERAGE)
            features = layers.pool(x.astype(jnp.float32), pooling)
            errors = jax.grad(lambda z: self.loss(z, part.targets).sum())(logits)
            if self.samples.head:
                errors = errors @ jax.lax.stop_gradient(params[HEAD]['linear']['kernel']).T
        return Seen(
            step=context.state.step,
            last=last,
            rows=part.rows,
            mask=part.mask,
            wrong=1 - likely,
            features=features,
            errors=errors,
            slope=context.slope,
            offset=context.offset,
        )


def _sum(total: Any, more: Any) -> Any:
    return more if total is None else jax.tree.map(jnp.add, total, more)
