"""Losses: one value per example, averaged by the training step."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from tljax.types import Loss


@dataclasses.dataclass(slots=True, kw_only=True)
class CrossEntropy:
    """Softmax cross-entropy with label smoothing.

    Source: Szegedy et al. 2016, section 7: targets become `(1 - label_smoothing)` of themselves
    plus `label_smoothing / K`; torch.nn.CrossEntropyLoss agrees.
    """

    one_label: ClassVar[bool] = True

    label_smoothing: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 <= self.label_smoothing < 1
        return [] if valid else [f'label_smoothing is {self.label_smoothing}, wanted 0 <= x < 1']

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and [B, K] target distributions to [B] losses in nats."""
        num_classes = logits.shape[-1]
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        return -(targets * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1)


@dataclasses.dataclass(slots=True, kw_only=True)
class TokenCrossEntropy:
    """The cross-entropy of the next tokens of a text, averaged over the tokens of a row."""

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, T, V] logits and the numbers of the next tokens [B, T] to [B] losses in nats."""
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        return -jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0].mean(-1)


@dataclasses.dataclass(slots=True, kw_only=True)
class Focal:
    """Cross-entropy with a lower weight for examples that are already classified well.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4, over a softmax:
    `-sum_k t_k (1 - p_k)^gamma log p_k`; with `gamma=0` it is the cross-entropy.
    """

    one_label: ClassVar[bool] = True

    gamma: float = 2.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 <= self.gamma < float('inf')
        return [] if valid else [f'gamma is {self.gamma}, wanted 0 or more']

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and [B, K] target distributions to [B] losses in nats."""
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        # Away from 0, where the slope of a power below 1 is infinite.
        rest = jnp.maximum(-jnp.expm1(log_p), 1e-7)
        return -(targets * rest**self.gamma * log_p).sum(-1)


@dataclasses.dataclass(slots=True, kw_only=True)
class BinaryCrossEntropy:
    """Binary cross-entropy of each class's sigmoid, averaged over the classes.

    The mean, not the sum, keeps the scale of gradients independent of the number of classes. For
    images with several labels or none; it also works with one label per image (Wightman et al.
    2021, "ResNet strikes back", section 4.2).

    Source: -w t log p - (1 - t) log(1 - p) with p the sigmoid of the logit, as
    torch.nn.BCEWithLogitsLoss documents it; smoothed, t becomes `(1 - label_smoothing) t +
    label_smoothing / 2`.
    """

    label_smoothing: float = 0.0
    positive_weights: tuple[float, ...] = ()  # w, K of them in the order of the classes; () for 1

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = []
        if not 0 <= self.label_smoothing < 1:
            problems.append(f'label_smoothing is {self.label_smoothing}, wanted 0 <= x < 1')
        if not all(0 < weight < float('inf') for weight in self.positive_weights):
            problems.append(f'positive_weights is {self.positive_weights}, wanted more than 0 each')
        return problems

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and [B, K] targets in [0, 1] to [B] losses in nats."""
        logits = logits.astype(jnp.float32)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        positive, negative = targets * jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        if self.positive_weights:
            positive = positive * jnp.asarray(self.positive_weights, jnp.float32)[None]
        return -(positive + (1 - targets) * negative).mean(-1)


@dataclasses.dataclass(slots=True, kw_only=True)
class ClassWeighted:
    """Another loss times the weight of the example's class (mixed targets mix the weights)."""

    one_label: ClassVar[bool] = True

    loss: Loss
    weights: tuple[float, ...]  # K, in the order of the classes

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = self.weights and min(self.weights) >= 0 < max(self.weights) < float('inf')
        return [] if valid else [f'weights is {self.weights}, wanted 0 or more, not all 0']

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and [B, K] target distributions to [B] losses."""
        return self.loss(logits, targets) * (targets @ jnp.asarray(self.weights, jnp.float32))
