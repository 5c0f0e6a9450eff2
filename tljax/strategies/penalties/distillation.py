"""Penalties that keep the outputs of the network close to those of the starting network."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tljax.models import layers
from tljax.strategies.penalties import terms
from tljax.types import Needs, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class FeatureDistillation:
    """Keeps features close to those of the starting network on the same images.

    `strength / 2` times the squared difference of the pooled outputs of `stages` (by default the
    last one below the head), a mean over features and rows, a sum over stages.

    Attributes:
        strength: multiplies the penalty.
        stages: whose outputs are compared; () for the last one below the head.

    Source: Jung et al. 2016, "Less-forgetting Learning in Deep Neural Networks", with a sum over
    features instead of the mean.
    """

    strength: float = 1.0
    stages: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return terms.strength_problems(strength=self.strength)

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return terms.stages_obstacle(self.stages, setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(features=terms.read_stages(self.stages, setting), start=True)

    def prepare(self, start: Start) -> Any:
        """Nothing to compute."""
        return ()

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        total = jnp.zeros((), jnp.float32)
        for name in terms.read_stages(self.stages, inputs.setting):
            both = (inputs.features[name], inputs.start_features[name])
            now, before = (terms.masked(layers.pool(x), inputs.mask) for x in both)
            squares = 0.5 * jnp.square(now - before).mean(1)
            total += self.strength * terms.mean(squares, inputs.mask)
        return total


@dataclasses.dataclass(slots=True, kw_only=True)
class LogitDistillation:
    """Keeps the upstream head's predictions close to those of the starting network.

    `strength` times the cross-entropy between the starting network's upstream predictions and the
    upstream head's predictions from the current features, both at `temperature`: `p_i^(1/T)`,
    normalised. The upstream head is frozen; Li & Hoiem train it too. The smallest possible value
    is the entropy of the starting network's predictions, not 0.

    Attributes:
        strength: multiplies the penalty.
        temperature: divides the logits of both networks.

    Source: Li & Hoiem 2016, "Learning without Forgetting": the distillation loss, with T = 2.
    """

    strength: float = 1.0
    temperature: float = 2.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return terms.strength_problems(strength=self.strength, temperature=self.temperature)

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return terms.upstream_obstacle(setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        features = terms.read_stages((), setting)
        return Needs(features=features, start=True, upstream=bool(features))

    def prepare(self, start: Start) -> Any:
        """Nothing to compute."""
        return ()

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        total = jnp.zeros((), jnp.float32)
        for name in terms.read_stages((), inputs.setting):
            assert inputs.upstream is not None
            both = (inputs.features[name], inputs.start_features[name])
            now, before = (inputs.upstream(x).astype(jnp.float32) / self.temperature for x in both)
            targets = jax.lax.stop_gradient(jax.nn.softmax(before))
            entropies = -(targets * jax.nn.log_softmax(now)).sum(-1)
            total += self.strength * terms.mean(entropies, inputs.mask)
        return total
