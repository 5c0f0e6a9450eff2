"""Turns the rules of a phase into labels of leaves, and the labels into `optax.multi_transform`.

Labels alone decide which leaves train. A frozen leaf is None in the optimizer's trees, so it has
no gradient, no optimizer state and no weight decay, and does not count in the norm for clipping.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tljax import tree
from tljax.models.stages import HEAD
from tljax.strategies import norm_policies
from tljax.types import InputError, Norm, Optimizer, Params, Rates, Rule

FROZEN = 'frozen'
TRAINED = 'trained'
SINCE = ', since phase '  # in the labels of leaves that a later phase began to train


class CoverageError(InputError):
    """A leaf without a rule, or a rule without a leaf; the message lists all of them."""


def assign(params: Params, rules: Sequence[Rule], norm: Norm = Norm.AUTO) -> Params:
    """The label of every leaf: `frozen`, or the name of its group.

    The first rule that matches a leaf decides; the policy of normalisation layers can then freeze
    the leaf.

    Args:
        params: the parameters or their shapes.
        rules: in order.
        norm: the policy.

    Returns:
        A tree like `params` of strings.

    Raises:
        CoverageError: no rule covers a leaf, or a rule decides no leaf.
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
    labels |= dict.fromkeys(norm_policies.frozen_leaves(norm, params), FROZEN)
    return tree.unflatten(labels)


def since(labels: Params, previous: Params | None, phase: int) -> Params:
    """Adds the phase in which a leaf began to train to its label.

    Leaves that began in different phases need separate optimizer states, because Adam corrects its
    moments by the number of steps.

    Args:
        labels: the result of `assign`.
        previous: this function's result for the previous phase; None in the first.
        phase: the index of the phase of `labels`.
    """
    earlier = tree.flatten(previous) if previous else {}

    def dated(path: str, name: str) -> str:
        if name == FROZEN or previous is None:
            return name
        if earlier[path] == FROZEN:
            return f'{name}{SINCE}{phase + 1}'
        _, separator, first_phase = earlier[path].partition(SINCE)
        return f'{name}{separator}{first_phase}'

    return tree.map_paths(dated, labels)


def label(rule: Rule) -> str:
    """The name of a rule's group; rules with equal multipliers share a group."""
    if not rule.train:
        return FROZEN
    scales = {'learning rate': rule.learning_rate_scale, 'weight decay': rule.weight_decay_scale}
    return ', '.join(f'{name} × {scale}' for name, scale in scales.items() if scale != 1) or TRAINED


def trained(labels: Params) -> Params:
    """A tree like `labels` of bools: whether a leaf trains."""
    return tree.map_paths(lambda _, name: name != FROZEN, labels)


def make(
    optimizer: Optimizer,
    rules: Sequence[Rule],
    labels: Params,
    learning_rate: optax.Schedule,
    clip_norm: float | None = None,
    rates: Rates = Rates.FIXED,
) -> optax.GradientTransformation:
    """The optax transformation of a phase, for trees with None for frozen leaves (`tree.select`).

    Args:
        optimizer: the update rule.
        rules: of the phase.
        labels: the labels that `assign` computed from the rules.
        learning_rate: the optimizer's learning rate over the steps of the phase.
        clip_norm: the largest global norm of the trained leaves' gradient; None for no limit.
        rates: what scales the stages' learning rates in addition to the rules.
    """
    by_label = {label(rule): rule for rule in reversed(rules)}
    groups: dict[Hashable, optax.GradientTransformation] = {FROZEN: optax.set_to_zero()}
    for name in set(tree.flatten(labels).values()) - {FROZEN}:
        groups[name] = _group(optimizer, by_label[name.partition(SINCE)[0]], learning_rate)
    transform = optax.multi_transform(groups, labels)
    if clip_norm:
        transform = optax.chain(optax.clip_by_global_norm(clip_norm), transform)
    return _scaled_by_gradient(transform) if rates is Rates.GRADIENT else transform


def _group(
    optimizer: Optimizer, rule: Rule, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    scale = rule.learning_rate_scale
    return optimizer.transform(lambda step: scale * learning_rate(step), rule.weight_decay_scale)


class GradientRates(NamedTuple):
    """The state of `_scaled_by_gradient`.

    Attributes:
        means: the running mean of each stage's relative gradient norm, `{stage: []}`. They start at
            0, which does not matter because only their ratios are used.
        inner: the state of the inner transformation.
    """

    means: dict[str, jax.Array]
    inner: Any


def _scaled_by_gradient(
    inner: optax.GradientTransformation, decay: float = 0.9
) -> optax.GradientTransformation:
    """Scales each stage's update by its relative gradient norm, divided by the largest.

    The head keeps its learning rate: the norm of a new head is near 0, so its relative gradient
    norm would be the largest by far and the other stages would hardly train. See
    `strategies.AutoRGN`.
    """

    def init(params: Params) -> GradientRates:
        scaled = [name for name in params if name != HEAD and jax.tree.leaves(params[name])]
        means = {stage: jnp.zeros(()) for stage in scaled}
        return GradientRates(means, inner.init(params))

    def update(grads: Any, state: GradientRates, params: Any = None) -> tuple[Any, GradientRates]:
        ratios = {
            stage: optax.tree.norm(grads[stage]) / (optax.tree.norm(params[stage]) + 1e-12)
            for stage in state.means
        }
        means = {s: decay * state.means[s] + (1 - decay) * ratios[s] for s in ratios}
        largest = jnp.stack([*means.values(), jnp.float32(1e-30)]).max()
        updates: Any
        updates, inner_state = inner.update(grads, state.inner, params)
        scaled = {
            stage: jax.tree.map(lambda x, s=means[stage] / largest: s * x, updates[stage])
            for stage in means
        }
        return updates | scaled, GradientRates(means, inner_state)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def carry(
    old: optax.OptState, new: optax.OptState, old_labels: Params, new_labels: Params
) -> optax.OptState:
    """The optimizer state at the start of a phase.

    Moments and counts of leaves that trained in the previous phase are kept, also if the leaves
    change their group. The other leaves, and the counts of schedules, start anew.

    Args:
        old: the state at the end of the previous phase.
        new: the initial state of the new phase's transformation.
        old_labels: of the previous phase, by `since`.
        new_labels: of the new phase, by `since`.
    """
    before, after = tree.flatten(old_labels), tree.flatten(new_labels)
    old_groups = {name: before[path] for path, name in after.items()}
    old_leaves = {_place(path): leaf for path, leaf in _state_leaves(old)[0]}
    leaves, structure = _state_leaves(new)

    def carried(path: Any, leaf: Any) -> Any:
        group, place = _place(path)
        if group is None or isinstance(leaf, optax.ScaleByScheduleState):
            return leaf
        own_group = next((before[p] for p in after if place.endswith(f'/{p}')), None)
        old_group = own_group or old_groups[group]
        return leaf if old_group == FROZEN else old_leaves.get((old_group, place), leaf)

    return jax.tree.unflatten(structure, [carried(path, leaf) for path, leaf in leaves])


def _state_leaves(state: optax.OptState) -> tuple[list[tuple[Any, Any]], Any]:
    """The leaves with their paths, and the structure; a schedule's state counts as one leaf."""
    return jax.tree_util.tree_flatten_with_path(
        state, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState)
    )


def _place(path: Sequence[Any]) -> tuple[str | None, str]:
    """The group of a leaf of the state, and the leaf's path within the group's state."""
    names = [getattr(k, 'name', getattr(k, 'key', getattr(k, 'idx', None))) for k in path]
    if 'inner_states' not in names:
        return None, ''
    start = names.index('inner_states') + 1
    return names[start], '/'.join(map(str, names[start + 1 :]))
