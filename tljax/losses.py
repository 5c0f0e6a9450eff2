"""Losses: one value per example; the step averages."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(slots=True, kw_only=True)
class CrossEntropy:
    """Softmax cross-entropy with label smoothing.

    Source: Szegedy et al. 2016, section 7: targets become `(1 - label_smoothing)` of themselves
    plus `label_smoothing / K`; torch.nn.CrossEntropyLoss agrees.
    """

    label_smoothing: float = 0.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        fine = 0 <= self.label_smoothing < 1
        return [] if fine else [f'label_smoothing is {self.label_smoothing}, wanted 0 <= x < 1']

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and [B, K] target distributions to [B] losses in nats."""
        num_classes = logits.shape[-1]
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        return -(targets * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1)
