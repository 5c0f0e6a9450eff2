"""A penalty on the spectrum of a batch's features."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tljax.models import layers
from tljax.strategies.penalties import terms
from tljax.types import Needs, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class BSS:
    """Batch spectral shrinkage: suppresses directions in which a batch's features hardly vary.

    `strength` times the sum of squares of the `smallest` lowest singular values of the pooled
    features [B, F] that the head reads. Rows of padding do not count: a batch with n real rows has
    min(n, F) singular values. With several devices, the batch is the global one.

    Attributes:
        strength: multiplies the penalty.
        smallest: the number of singular values that are made small.

    Source: Chen et al. 2019, "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral
    Shrinkage for Safe Transfer Learning", with eta = 0.001 and k = 1.
    """

    strength: float = 0.001
    smallest: int = 1

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = terms.strength_problems(strength=self.strength)
        if self.smallest < 1:
            problems.append(f'smallest is {self.smallest}, wanted 1 or more')
        return problems

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return terms.stages_obstacle((), setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(features=terms.read_stages((), setting))

    def prepare(self, start: Start) -> Any:
        """Nothing to compute."""
        return ()

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        total = jnp.zeros((), jnp.float32)
        for name in terms.read_stages((), inputs.setting):
            features = layers.pool(inputs.features[name])
            total += self.strength * _lowest(features, inputs.mask, self.smallest)
        return total


def _lowest(features: jax.Array, mask: jax.Array, count: int) -> jax.Array:
    """The sum of squares of the `count` lowest singular values of the real rows of [B, F].

    The left singular vectors u are treated as constants, because to first order a squared singular
    value changes like `|u^T F|^2` with a fixed u. Unlike the gradient of the decomposition, this
    gradient is finite for equal and zero singular values.
    """
    features = terms.masked(features, mask)
    vectors, _, _ = jnp.linalg.svd(jax.lax.stop_gradient(features), full_matrices=False)
    squares = jnp.square(vectors.T @ features).sum(1)  # in descending order
    # Rows of padding add zeros at the end, which are no singular values of the batch.
    real = jnp.minimum(mask.sum(), min(features.shape))
    return jnp.where(jnp.arange(len(squares)) >= real - count, squares, 0.0).sum()
