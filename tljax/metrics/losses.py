"""Losses: one value per example, averaged by the training step.

`one_label` marks losses that need exactly one class for each example, and `numbers` those of
numbers. The latter compare standardised numbers: see `tasks.values.Values`.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from tljax.metrics.ordinal import log_probabilities
from tljax.types import Loss


@dataclasses.dataclass(slots=True, kw_only=True)
class CrossEntropy:
    """Softmax cross-entropy with label smoothing.

    Attributes:
        label_smoothing: moves targets towards equal shares of all classes.

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

    Attributes:
        gamma: how much examples that are classified well count less; 0 for cross-entropy.

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

    Attributes:
        label_smoothing: moves targets towards one half.
        positive_weights: weight of the positives of each class; () for 1.

    Source: -w t log p - (1 - t) log(1 - p) with p the sigmoid of the logit, as
    torch.nn.BCEWithLogitsLoss documents it; smoothed, t becomes `(1 - label_smoothing) t +
    label_smoothing / 2`.
    """

    label_smoothing: float = 0.0
    positive_weights: tuple[float, ...] = ()

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
class CORN:
    """The loss of ordered classes: the binary cross-entropies of conditional probabilities.

    Task k asks whether the class is above k, and counts the examples whose class is at least k. The
    terms of an example add up to the negative log-likelihood of its class; the paper divides each
    task by its own number of examples instead, of which a batch may have none.

    Source: Shi et al. 2023, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based On
    Conditional Probabilities", section 3.3.
    """

    one_label: ClassVar[bool] = True
    ordinal: ClassVar[bool] = True

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K - 1] conditional logits and [B, K] target distributions to [B] losses in nats."""
        return -(targets * log_probabilities(logits)).sum(-1)


@dataclasses.dataclass(slots=True, kw_only=True)
class ClassWeighted:
    """Another loss times the weight of the example's class (mixed targets mix the weights).

    Attributes:
        loss: the other loss.
        weights: of each class, in the order of the classes.
    """

    one_label: ClassVar[bool] = True

    loss: Loss
    weights: tuple[float, ...]

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = self.weights and min(self.weights) >= 0 < max(self.weights) < float('inf')
        return [] if valid else [f'weights is {self.weights}, wanted 0 or more, not all 0']

    @property
    def ordinal(self) -> bool:
        """Whether the other loss is one of ordered classes."""
        return getattr(self.loss, 'ordinal', False)

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and [B, K] target distributions to [B] losses."""
        return self.loss(logits, targets) * (targets @ jnp.asarray(self.weights, jnp.float32))


@dataclasses.dataclass(slots=True, kw_only=True)
class SquaredError:
    """The squared error of standardised numbers, averaged over the K numbers of an example.

    The minimum of a linear layer has a closed form (`quadratic`), which solvers of heads use.
    """

    numbers: ClassVar[bool] = True
    quadratic: ClassVar[bool] = True

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] predicted and [B, K] true numbers to [B] losses."""
        return jnp.square(logits.astype(jnp.float32) - targets).mean(-1)


@dataclasses.dataclass(slots=True, kw_only=True)
class AbsoluteError:
    """The absolute error of standardised numbers, averaged over the K numbers of an example."""

    numbers: ClassVar[bool] = True

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] predicted and [B, K] true numbers to [B] losses."""
        return jnp.abs(logits.astype(jnp.float32) - targets).mean(-1)


@dataclasses.dataclass(slots=True, kw_only=True)
class Huber:
    """Half the squared error up to `delta` standard deviations, and linear above.

    Attributes:
        delta: standard deviations up to which the error is squared.

    Source: Huber 1964, "Robust estimation of a location parameter"; torch.nn.HuberLoss agrees.
    """

    numbers: ClassVar[bool] = True

    delta: float = 1.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 < self.delta < float('inf')
        return [] if valid else [f'delta is {self.delta}, wanted more than 0']

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] predicted and [B, K] true numbers to [B] losses."""
        error = jnp.abs(logits.astype(jnp.float32) - targets)
        near = jnp.minimum(error, self.delta)
        return (near**2 / 2 + self.delta * (error - near)).mean(-1)


LOG_VARIANCES = (-12.0, 12.0)  # limits, so that one exact prediction has no infinite likelihood


@dataclasses.dataclass(slots=True, kw_only=True)
class GaussianLikelihood:
    """The negative log-likelihood of normal distributions whose variances are predicted, too.

    Source: Nix & Weigend 1994, "Estimating the mean and variance of the target probability
    distribution"; torch.nn.GaussianNLLLoss(full=True) agrees.
    """

    numbers: ClassVar[bool] = True
    predicts_variance: ClassVar[bool] = True

    @staticmethod
    def variances(logits: jax.Array) -> jax.Array:
        """The variances of outputs that are their logarithms."""
        return jnp.exp(jnp.clip(logits.astype(jnp.float32), *LOG_VARIANCES))

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, 2 K] numbers and logarithms of variances, and [B, K] targets, to [B] in nats."""
        means, outputs = jnp.split(logits.astype(jnp.float32), 2, -1)
        variances = self.variances(outputs)
        terms = jnp.log(2 * jnp.pi * variances) + jnp.square(means - targets) / variances
        return terms.mean(-1) / 2
