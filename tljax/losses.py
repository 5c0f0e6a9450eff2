"""Losses: one value per example; the step averages."""

import dataclasses

import jax
import jax.numpy as jnp

from tljax.types import Loss


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


@dataclasses.dataclass(slots=True, kw_only=True)
class Focal:
    """Cross-entropy that turns away from examples which are right already.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4, over a softmax:
    `-sum_k t_k (1 - p_k)^gamma log p_k`; with `gamma=0` it is the cross-entropy.
    """

    gamma: float = 2.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        fine = 0 <= self.gamma < float('inf')
        return [] if fine else [f'gamma is {self.gamma}, wanted 0 or more']

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and [B, K] target distributions to [B] losses in nats."""
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        # Away from 0, where the slope of a power below 1 is infinite.
        rest = jnp.maximum(-jnp.expm1(log_p), 1e-7)
        return -(targets * rest**self.gamma * log_p).sum(-1)


@dataclasses.dataclass(slots=True, kw_only=True)
class ClassWeighted:
    """Another loss, times the weight of the example's class (of mixed targets, the mixture's)."""

    loss: Loss
    weights: tuple[float, ...]  # K, in the order of the classes

    def problems(self) -> list[str]:
        """What `validate` reports."""
        fine = self.weights and min(self.weights) >= 0 < max(self.weights) < float('inf')
        return [] if fine else [f'weights is {self.weights}, wanted 0 or more, not all 0']

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and [B, K] target distributions to [B] losses."""
        return self.loss(logits, targets) * (targets @ jnp.asarray(self.weights, jnp.float32))
