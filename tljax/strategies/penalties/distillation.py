"""Penalties on outputs: the network goes on saying what it said when it started."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tljax.models import layers
from tljax.strategies.penalties import rows
from tljax.types import Needs, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class FeatureDistillation:
    """Features stay near those of the starting network on the same images.

    `strength / 2` times the squared difference of the pooled outputs of `stages` (none for the
    last one below the head), a mean over features and rows, a sum over stages.

    Source: Jung et al. 2016, "Less-forgetting Learning in Deep Neural Networks"; in the place of
    the mean over features they have the sum.
    """

    strength: float = 1.0
    stages: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return rows.strength_problems(strength=self.strength)

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return rows.stages_obstacle(self.stages, setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(features=rows.read_stages(self.stages, setting), start=True)

    def prepare(self, start: Start) -> Any:
        """Nothing."""
        return ()

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        total = jnp.zeros((), jnp.float32)
        for name in rows.read_stages(self.stages, inputs.setting):
            both = (inputs.features[name], inputs.start_features[name])
            now, before = (rows.only_real(layers.pool(x), inputs.mask) for x in both)
            squares = 0.5 * jnp.square(now - before).mean(1)
            total += self.strength * rows.mean(squares, inputs.mask)
        return total


@dataclasses.dataclass(slots=True, kw_only=True)
class LogitDistillation:
    """The head of the source task goes on saying what it said, on the new images.

    `strength` times the cross-entropy between what the starting network says of the source task,
    and what its head says of today's features, both at `temperature`: `p_i^(1/T)`, normalised.
    The old head is held as it was; Li & Hoiem train it too. The value does not go to zero: its
    least is the entropy of what was said.

    Source: Li & Hoiem 2016, "Learning without Forgetting": the distillation loss, with T = 2.
    """

    strength: float = 1.0
    temperature: float = 2.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return rows.strength_problems(strength=self.strength, temperature=self.temperature)

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        if setting.upstream_classes is None:
            return 'the weights have no head of the source task'
        return rows.stages_obstacle((), setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        features = rows.read_stages((), setting)
        return Needs(features=features, start=True, upstream=bool(features))

    def prepare(self, start: Start) -> Any:
        """Nothing."""
        return ()

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        total = jnp.zeros((), jnp.float32)
        for name in rows.read_stages((), inputs.setting):
            assert inputs.upstream is not None
            both = (inputs.features[name], inputs.start_features[name])
            now, before = (inputs.upstream(x).astype(jnp.float32) / self.temperature for x in both)
            wanted = jax.lax.stop_gradient(jax.nn.softmax(before))
            entropies = -(wanted * jax.nn.log_softmax(now)).sum(-1)
            total += self.strength * rows.mean(entropies, inputs.mask)
        return total
