"""A penalty on changes of feature maps, weighted by each channel's value for the new task."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.models import layers
from tljax.strategies.penalties import terms
from tljax.strategies.solvers import LBFGS
from tljax.types import Loss, Needs, Params, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class DELTA:
    """Keeps feature maps close to those of the starting network, useful channels the most.

    For each of `stages` (by default all that change) with maps of C channels:
    `strength / 2 sum_c C W_c mean_positions (FM_c - FM0_c)^2`, a mean over rows and a sum over
    stages. `head_strength / 2 |w|^2` over the trained leaves of new stages is added.

    The weights W sum to 1: they are the softmax over channels of the increase of the loss when one
    channel is set to 0. The loss, the usual one of the task, is a mean over `examples` training
    images; a linear layer, fitted to the new task, predicts the labels from the pooled features of
    the starting network.
    This takes one forward pass for each channel, from its stage on, once. Without `attention` W is
    1 / C.

    The factor C / positions gives maps of every size the same weight, as in the authors' code,
    which sums over the rows of a batch instead of averaging.

    Attributes:
        strength: multiplies the penalty of pretrained stages.
        head_strength: multiplies the penalty of new stages.
        stages: whose feature maps are compared; () for all that change.
        attention: whether channels are weighted by their importance for the new task.
        examples: training images from which the importance is computed.

    Source: Li et al. 2019, "DELTA: Deep Learning Transfer using Feature Map with Attention for
    Convolutional Networks".
    """

    strength: float = 0.1
    head_strength: float = 0.01
    stages: tuple[str, ...] = ()
    attention: bool = True
    examples: int = 64

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = terms.strength_problems(strength=self.strength, head_strength=self.head_strength)
        if self.examples < 1:
            problems.append(f'examples is {self.examples}, wanted 1 or more')
        return problems

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return terms.stages_obstacle(self.stages, setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(features=self._read(setting), start=True)

    def prepare(self, start: Start) -> Any:
        """The weights of channels, `{stage: [C]}`; `{}` without `attention`."""
        if not self.attention:
            return {}
        batches = [(x[mask], label[mask]) for x, label, mask in start.batches(self.examples)]
        x, labels = (jnp.concatenate(parts) for parts in zip(*batches, strict=True))
        last = start.setting.stages[-1]
        run = jax.jit(start.run, static_argnums=(2, 3))
        features = layers.pool(run(start.params, x, None, last))
        targets = start.task.targets(labels, start.num_classes)
        measure = start.task.default_loss()
        predict = fit_linear(features, targets, measure, start.task.outputs(start.num_classes))
        weights = {}
        for name in self._read(start.setting):
            following = start.setting.stages[start.setting.stages.index(name) + 1]

            def loss(maps: jax.Array, params: Params, after: str = following) -> jax.Array:
                deep = start.run(params, maps, after, last) if after != last else maps
                return measure(predict(layers.pool(deep)), targets).mean()

            maps = run(start.params, x, None, following)
            weights[name] = jax.nn.softmax(importance(loss, maps, start.params))
        return weights

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        new = terms.half_square(inputs.trained, terms.new_stages(inputs.setting))
        total = self.head_strength * new
        for name in self._read(inputs.setting):
            both = (inputs.features[name], inputs.start_features[name])
            now, before = (terms.masked(x, inputs.mask) for x in both)
            squares = jnp.square(now - before).mean(tuple(range(1, now.ndim - 1)))  # [B, C]
            channels = squares.shape[1]
            weights = prepared.get(name, jnp.full(channels, 1 / channels))
            total += self.strength * terms.mean(0.5 * channels * (squares @ weights), inputs.mask)
        return total

    def _read(self, setting: Setting) -> tuple[str, ...]:
        return terms.read_stages(self.stages or setting.changed, setting) if setting.changed else ()


def importance(
    loss: Callable[[jax.Array, Params], jax.Array], maps: jax.Array, params: Params
) -> jax.Array:
    """The increase of the loss when a channel is set to 0, for each channel.

    Args:
        loss: a function of maps and of the parameters of the stages above.
        maps: [N, ..., C].
        params: of the stages above.

    Returns:
        [C].
    """

    @jax.jit
    def without(maps: jax.Array, params: Params, channel: int) -> jax.Array:
        kept = jnp.arange(maps.shape[-1]) != channel
        return loss(jnp.where(kept.reshape(*(1,) * (maps.ndim - 1), -1), maps, 0), params)

    unchanged = without(maps, params, -1)
    return jnp.stack([without(maps, params, c) - unchanged for c in np.arange(maps.shape[-1])])


def fit_linear(
    features: jax.Array, targets: jax.Array, measure: Loss, outputs: int, *, decay: float = 1e-3
) -> Callable[[jax.Array], jax.Array]:
    """Fits a linear layer on standardised features by the mean of a loss.

    Args:
        features: [N, F].
        targets: [N, K], as for the loss.
        measure: the loss.
        outputs: O of the layer.
        decay: weight decay of the kernel, `decay / 2 |w|^2`; without it, the loss of separable
            classes has no minimum.

    Returns:
        A function from features [M, F] to outputs [M, O].
    """
    mean = features.mean(0, keepdims=True)
    scale = features.std(0, keepdims=True) + 1e-6
    standard = (features - mean) / scale

    def logits(params: Params, standard: jax.Array) -> jax.Array:
        return standard @ params['kernel'] + params['bias'].reshape(1, -1)

    def objective(params: Params, data: tuple[jax.Array, jax.Array]) -> jax.Array:
        standard, targets = data
        return measure(logits(params, standard), targets).mean()

    shape = (features.shape[1], outputs)
    zeros = {'kernel': jnp.zeros(shape), 'bias': jnp.zeros(shape[1])}
    params = LBFGS(weight_decay=decay)(objective, zeros, (standard, targets)).params
    return lambda x: logits(params, (x - mean) / scale)
