"""A penalty on the spectrum of a batch's features."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tljax.models import layers
from tljax.strategies.penalties import rows
from tljax.types import Needs, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class BSS:
    """Batch spectral shrinkage: directions in which a batch's features hardly vary are given up.

    `strength` times the sum of the squares of the `smallest` least singular values of the matrix
    [B, F] of pooled features that the head reads. Rows that are padding are no rows: a batch of n
    real ones has min(n, F) singular values. Under several devices it is the global batch's.

    Source: Chen et al. 2019, "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral
    Shrinkage for Safe Transfer Learning", with eta = 0.001 and k = 1.
    """

    strength: float = 0.001
    smallest: int = 1

    def problems(self) -> list[str]:
        """What `validate` reports."""
        problems = rows.strength_problems(strength=self.strength)
        if self.smallest < 1:
            problems.append(f'smallest is {self.smallest}, wanted 1 or more')
        return problems

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return rows.stages_obstacle((), setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        return Needs(features=rows.read_stages((), setting))

    def prepare(self, start: Start) -> Any:
        """Nothing."""
        return ()

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        total = jnp.zeros((), jnp.float32)
        for name in rows.read_stages((), inputs.setting):
            features = layers.pool(inputs.features[name])
            total += self.strength * _least(features, inputs.mask, self.smallest)
        return total


def _least(features: jax.Array, mask: jax.Array, count: int) -> jax.Array:
    """The sum of the squares of the `count` least singular values of the real rows of [B, F].

    The left singular vectors are taken as constants: to first order a squared singular value
    changes as `|u^T F|^2` does for a fixed u. The slope of a decomposition is infinite where
    singular values are equal or zero, and this one is not.
    """
    features = rows.only_real(features, mask)
    vectors, _, _ = jnp.linalg.svd(jax.lax.stop_gradient(features), full_matrices=False)
    squares = jnp.square(vectors.T @ features).sum(1)  # in descending order
    # Padding adds zeros at the end, which are not the batch's own.
    own = jnp.minimum(mask.sum(), min(features.shape))
    return jnp.where(jnp.arange(len(squares)) >= own - count, squares, 0.0).sum()
