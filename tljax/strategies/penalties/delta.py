"""A penalty on feature maps, channel by channel, by what each channel is worth to the new task."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tljax.models import layers
from tljax.strategies.penalties import rows
from tljax.strategies.solvers import LBFGS
from tljax.types import Needs, Params, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class DELTA:
    """Feature maps stay near those of the starting network, useful channels the nearest.

    For each of `stages` (none for all that move) with maps of C channels:
    `strength / 2 sum_c C W_c mean_positions (FM_c - FM0_c)^2`, a mean over rows and a sum over
    stages; and `head_strength / 2 |w|^2` over the trained leaves of stages that are new. W sums
    to 1: the softmax over channels of the increase of the loss when the channel is dropped from
    the starting network, which a linear classifier of its pooled features, fitted to the new
    task, turns into predictions; a mean over `examples` training images. That costs a forward
    pass from its stage on for each channel, once; without `attention` W is 1 / C and costs
    nothing. The factor C / positions makes maps of any size weigh alike, as in the authors' code,
    which sums over the rows of a batch.

    Source: Li et al. 2019, "DELTA: Deep Learning Transfer using Feature Map with Attention for
    Convolutional Networks".
    """

    one_label: ClassVar[bool] = True

    strength: float = 0.1
    head_strength: float = 0.01
    stages: tuple[str, ...] = ()
    attention: bool = True
    examples: int = 64

    def problems(self) -> list[str]:
        """What `validate` reports."""
        problems = rows.strength_problems(strength=self.strength)
        if not 0 <= self.head_strength < float('inf'):
            problems.append(f'head_strength is {self.head_strength}, wanted 0 or more, and finite')
        if self.examples < 1:
            problems.append(f'examples is {self.examples}, wanted 1 or more')
        return problems

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return rows.stages_obstacle(self.stages, setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(features=self._read(setting), start=True)

    def prepare(self, start: Start) -> Any:
        """The weights of channels, `{stage: [C]}`, where they are not alike."""
        if not self.attention:
            return {}
        batches = [(x[mask], label[mask]) for x, label, mask in start.batches(self.examples)]
        x, labels = (jnp.concatenate(parts) for parts in zip(*batches, strict=True))
        last = start.setting.stages[-1]
        run = jax.jit(start.run, static_argnums=(2, 3))
        features = layers.pool(run(start.params, x, None, last))
        targets = jax.nn.one_hot(labels, start.num_classes)
        classify = fit_softmax(features, targets)
        weights = {}
        for name in self._read(start.setting):
            following = start.setting.stages[start.setting.stages.index(name) + 1]

            def loss(maps: jax.Array, params: Params, after: str = following) -> jax.Array:
                deep = start.run(params, maps, after, last) if after != last else maps
                return optax.softmax_cross_entropy(classify(layers.pool(deep)), targets).mean()

            maps = run(start.params, x, None, following)
            weights[name] = jax.nn.softmax(importance(loss, maps, start.params))
        return weights

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        new = rows.half_square(inputs.trained, rows.new_stages(inputs.setting))
        total = self.head_strength * new
        for name in self._read(inputs.setting):
            both = (inputs.features[name], inputs.start_features[name])
            now, before = (rows.only_real(x, inputs.mask) for x in both)
            squares = jnp.square(now - before).mean(tuple(range(1, now.ndim - 1)))  # [B, C]
            channels = squares.shape[1]
            weights = prepared.get(name, jnp.full(channels, 1 / channels))
            total += self.strength * rows.mean(0.5 * channels * (squares @ weights), inputs.mask)
        return total

    def _read(self, setting: Setting) -> tuple[str, ...]:
        return rows.read_stages(self.stages or setting.changed, setting) if setting.changed else ()


def importance(
    loss: Callable[[jax.Array, Params], jax.Array], maps: jax.Array, params: Params
) -> jax.Array:
    """What is lost with each channel: `loss(maps without it) - loss(maps)`.

    Args:
        loss: of maps, and of the parameters of what follows.
        maps: [N, ..., C].
        params: of what follows.

    Returns:
        [C].
    """

    @jax.jit
    def without(maps: jax.Array, params: Params, channel: int) -> jax.Array:
        kept = jnp.arange(maps.shape[-1]) != channel
        return loss(jnp.where(kept.reshape(*(1,) * (maps.ndim - 1), -1), maps, 0), params)

    whole = without(maps, params, -1)
    return jnp.stack([without(maps, params, c) - whole for c in np.arange(maps.shape[-1])])


def fit_softmax(
    features: jax.Array, targets: jax.Array, *, decay: float = 1e-3
) -> Callable[[jax.Array], jax.Array]:
    """A linear classifier of standardised features: the least mean cross-entropy.

    Args:
        features: [N, F].
        targets: [N, K] distributions.
        decay: of the kernel, `decay / 2 |w|^2`, without which separable classes have no least.

    Returns:
        The function from features [M, F] to logits [M, K].
    """
    centre = features.mean(0, keepdims=True)
    scale = features.std(0, keepdims=True) + 1e-6
    standard = (features - centre) / scale

    def logits(params: Params, standard: jax.Array) -> jax.Array:
        return standard @ params['kernel'] + params['bias'].reshape(1, -1)

    def objective(params: Params, data: tuple[jax.Array, jax.Array]) -> jax.Array:
        standard, targets = data
        return optax.softmax_cross_entropy(logits(params, standard), targets).mean()

    shape = (features.shape[1], targets.shape[1])
    begun = {'kernel': jnp.zeros(shape), 'bias': jnp.zeros(shape[1])}
    found = LBFGS(weight_decay=decay)(objective, begun, (standard, targets)).params
    return lambda x: logits(found, (x - centre) / scale)
