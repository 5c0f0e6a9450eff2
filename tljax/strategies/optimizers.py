"""Optimizers, which make the optax transformation that updates the trained parameters."""

import dataclasses
import math

import optax


@dataclasses.dataclass(slots=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with momentum, as torch.optim.SGD computes it.

    Weight decay is added to the gradient before momentum (L2 regularisation). The learning rate
    multiplies the momentum buffer, as in torch and unlike Sutskever et al. 2013.

    Attributes:
        learning_rate: of the head and of every stage that has no scale of its own.
        momentum: share of the earlier update that a step keeps.
        nesterov: whether the gradient is taken after the momentum step.
        weight_decay: pulls trained parameters towards 0, as a part of the gradient.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = _rate_problems(self.learning_rate, self.weight_decay)
        if not 0 <= self.momentum < 1:
            problems.append(f'momentum is {self.momentum}, wanted 0 <= x < 1')
        if self.nesterov and self.momentum == 0:
            problems.append('nesterov is on and momentum is 0, wanted momentum more than 0')
        return problems

    def transform(
        self, learning_rate: optax.Schedule, weight_decay_scale: float
    ) -> optax.GradientTransformation:
        """See `types.Optimizer`."""
        decay = self.weight_decay * weight_decay_scale
        none = isinstance(decay, float) and not decay  # in a grid search it is a traced array
        return optax.chain(
            optax.identity() if none else optax.add_decayed_weights(decay),
            optax.sgd(learning_rate, momentum=self.momentum or None, nesterov=self.nesterov),
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay. Source: Loshchilov & Hutter 2019.

    Attributes:
        learning_rate: of the head and of every stage that has no scale of its own.
        b1: share of the mean gradient that a step keeps.
        b2: share of the mean squared gradient that a step keeps.
        epsilon: is added to the root of the mean squared gradient.
        weight_decay: pulls trained parameters towards 0, apart from the gradient.
    """

    learning_rate: float = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = _rate_problems(self.learning_rate, self.weight_decay)
        for name in ('b1', 'b2'):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f'{name} is {getattr(self, name)}, wanted 0 <= x < 1')
        if not 0 < self.epsilon < math.inf:
            problems.append(f'epsilon is {self.epsilon}, wanted more than 0, and finite')
        return problems

    def transform(
        self, learning_rate: optax.Schedule, weight_decay_scale: float
    ) -> optax.GradientTransformation:
        """See `types.Optimizer`."""
        decay = self.weight_decay * weight_decay_scale
        return optax.adamw(learning_rate, self.b1, self.b2, self.epsilon, weight_decay=decay)


def _rate_problems(learning_rate: float, weight_decay: float) -> list[str]:
    problems = []
    if not 0 < learning_rate < math.inf:
        problems.append(f'learning_rate is {learning_rate}, wanted more than 0, and finite')
    if not 0 <= weight_decay < math.inf:
        problems.append(f'weight_decay is {weight_decay}, wanted 0 or more, and finite')
    return problems
