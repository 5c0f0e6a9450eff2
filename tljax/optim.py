"""From a phase of rules to `optax.multi_transform`: labels, groups and their coverage.

The labels of this file are the one source of truth of what trains. A frozen leaf is a hole in
the trees the optimizer sees: it has no gradient, no state and no decay, and nothing of it
enters the norm that clipping compares.
"""

import dataclasses
import math
from collections.abc import Hashable, Sequence

import optax

from tljax import tree
from tljax.types import InputError, Optimizer, Params, Rule

FROZEN = 'frozen'
TRAINED = 'trained'


@dataclasses.dataclass(slots=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with momentum, as torch.optim.SGD computes it.

    Weight decay is added to the gradient before momentum (L2 regularisation). The learning rate
    multiplies the momentum buffer, as in torch and unlike Sutskever et al. 2013.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        found = _rate_problems(self.learning_rate, self.weight_decay)
        if not 0 <= self.momentum < 1:
            found.append(f'momentum is {self.momentum}, wanted 0 <= x < 1')
        if self.nesterov and self.momentum == 0:
            found.append('nesterov is on and momentum is 0: there is nothing to look ahead along')
        return found

    def transform(
        self, learning_rate: optax.Schedule, weight_decay_scale: float
    ) -> optax.GradientTransformation:
        """See `types.Optimizer`."""
        decay = self.weight_decay * weight_decay_scale
        return optax.chain(
            optax.add_decayed_weights(decay) if decay else optax.identity(),
            optax.sgd(learning_rate, momentum=self.momentum or None, nesterov=self.nesterov),
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay. Source: Loshchilov & Hutter 2019."""

    learning_rate: float = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def problems(self) -> list[str]:
        """What `validate` reports."""
        found = _rate_problems(self.learning_rate, self.weight_decay)
        for name in ('b1', 'b2'):
            if not 0 <= getattr(self, name) < 1:
                found.append(f'{name} is {getattr(self, name)}, wanted 0 <= x < 1')
        if not 0 < self.epsilon < math.inf:
            found.append(f'epsilon is {self.epsilon}, wanted more than 0, and finite')
        return found

    def transform(
        self, learning_rate: optax.Schedule, weight_decay_scale: float
    ) -> optax.GradientTransformation:
        """See `types.Optimizer`."""
        decay = self.weight_decay * weight_decay_scale
        return optax.adamw(learning_rate, self.b1, self.b2, self.epsilon, weight_decay=decay)


class CoverageError(InputError):
    """Rules and leaves that do not cover each other; the message lists both."""


def assign(params: Params, rules: Sequence[Rule]) -> Params:
    """The label of every leaf: `frozen`, or its group.

    The first rule that matches a leaf decides.

    Args:
        params: the parameters or their shapes.
        rules: in order.

    Returns:
        A tree like `params` of strings.

    Raises:
        CoverageError: a leaf that no rule covers, or a rule that decides no leaf.
    """
    unused = dict(enumerate(rules))
    labels, uncovered = {}, []
    for path in tree.flatten(params):
        index = next((i for i, rule in enumerate(rules) if tree.matches(rule.pattern, path)), None)
        if index is None:
            uncovered.append(path)
        else:
            labels[path] = label(rules[index])
            unused.pop(index, None)
    problems = [f'no rule covers {path}' for path in uncovered]
    problems += [f'rule {i} ({rule.pattern!r}) decides no leaf' for i, rule in unused.items()]
    if problems:
        raise CoverageError(
            'the strategy does not fit the model:\n  '
            + '\n  '.join(problems)
            + f'\nThe stages are {list(params)}.'
        )
    return tree.unflatten(labels)


def label(rule: Rule) -> str:
    """The name of a rule's group; rules that do the same share one."""
    if not rule.train:
        return FROZEN
    scales = {'learning rate': rule.learning_rate_scale, 'weight decay': rule.weight_decay_scale}
    return ', '.join(f'{name} × {scale}' for name, scale in scales.items() if scale != 1) or TRAINED


def trained(labels: Params) -> Params:
    """A tree like `labels` of bools: what is not frozen."""
    return tree.map_paths(lambda _, name: name != FROZEN, labels)


def make(
    optimizer: Optimizer,
    rules: Sequence[Rule],
    labels: Params,
    learning_rate: optax.Schedule,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """The transformation of a phase.

    It is applied to trees with holes (None) for frozen leaves (`tree.select`).

    Args:
        optimizer: the update rule.
        rules: the phase's.
        labels: what `assign` made of them.
        learning_rate: the optimizer's learning rate over the steps of the phase.
        clip_norm: the largest global norm of the trained leaves' gradient; None for any.
    """
    present = set(tree.flatten(labels).values())
    groups: dict[Hashable, optax.GradientTransformation] = {}
    for rule in rules:
        name = label(rule)
        if name in present and name not in groups:
            groups[name] = _group(optimizer, rule, learning_rate)
    transform = optax.multi_transform(groups, labels)
    return optax.chain(optax.clip_by_global_norm(clip_norm), transform) if clip_norm else transform


def _group(
    optimizer: Optimizer, rule: Rule, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    if not rule.train:
        return optax.set_to_zero()
    scale = rule.learning_rate_scale
    return optimizer.transform(lambda step: scale * learning_rate(step), rule.weight_decay_scale)


def _rate_problems(learning_rate: float, weight_decay: float) -> list[str]:
    found = []
    if not 0 < learning_rate < math.inf:
        found.append(f'learning_rate is {learning_rate}, wanted more than 0, and finite')
    if not 0 <= weight_decay < math.inf:
        found.append(f'weight_decay is {weight_decay}, wanted 0 or more, and finite')
    return found
