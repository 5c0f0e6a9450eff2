"""From a phase of rules to `optax.multi_transform`: labels, groups and their coverage.

The labels of this file are the one source of truth of what trains. A frozen leaf is a hole in
the trees the optimizer sees: it has no gradient, no state and no decay, and nothing of it
enters the norm that clipping compares.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tljax import tree
from tljax.models.stages import HEAD
from tljax.strategies import stage_rules
from tljax.types import InputError, Norm, Optimizer, Params, Rates, Rule

FROZEN = 'frozen'
TRAINED = 'trained'
SINCE = ', since phase '  # in the label of what a later phase than the first began to train


class CoverageError(InputError):
    """Rules and leaves that do not cover each other; the message lists both."""


def assign(params: Params, rules: Sequence[Rule], norm: Norm = Norm.AUTO) -> Params:
    """The label of every leaf: `frozen`, or its group.

    The first rule that matches a leaf decides, then the policy of normalisation layers.

    Args:
        params: the parameters or their shapes.
        rules: in order.
        norm: freezes scale and bias of normalisation layers, or does not.

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
    if norm in (Norm.FROZEN, Norm.STATISTICS_ONLY):
        for layer in stage_rules.norm_layers(params):
            labels[f'{layer}/scale'] = labels[f'{layer}/bias'] = FROZEN
    return tree.unflatten(labels)


def since(labels: Params, before: Params | None, phase: int) -> Params:
    """`labels` that tell apart what a phase begins to train from what trained before it.

    Both need optimizer state of another age: Adam's first steps are corrected by their number.

    Args:
        labels: of `assign`.
        before: of the phase before, by this function; None for the first.
        phase: the index of this one.
    """
    earlier = tree.flatten(before) if before else {}

    def named(path: str, name: str) -> str:
        if name == FROZEN or before is None:
            return name
        if earlier[path] == FROZEN:
            return f'{name}{SINCE}{phase + 1}'
        _, separator, age = earlier[path].partition(SINCE)
        return f'{name}{separator}{age}'

    return tree.map_paths(named, labels)


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
    rates: Rates = Rates.FIXED,
) -> optax.GradientTransformation:
    """The transformation of a phase.

    It is applied to trees with holes (None) for frozen leaves (`tree.select`).

    Args:
        optimizer: the update rule.
        rules: the phase's.
        labels: what `assign` made of them.
        learning_rate: the optimizer's learning rate over the steps of the phase.
        clip_norm: the largest global norm of the trained leaves' gradient; None for any.
        rates: what the stages' rates follow besides.
    """
    by_label = {label(rule): rule for rule in reversed(rules)}
    groups: dict[Hashable, optax.GradientTransformation] = {FROZEN: optax.set_to_zero()}
    for name in set(tree.flatten(labels).values()) - {FROZEN}:
        groups[name] = _group(optimizer, by_label[name.partition(SINCE)[0]], learning_rate)
    transform = optax.multi_transform(groups, labels)
    if clip_norm:
        transform = optax.chain(optax.clip_by_global_norm(clip_norm), transform)
    return _follow_gradient(transform) if rates is Rates.GRADIENT else transform


def _group(
    optimizer: Optimizer, rule: Rule, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    scale = rule.learning_rate_scale
    return optimizer.transform(lambda step: scale * learning_rate(step), rule.weight_decay_scale)


class GradientRates(NamedTuple):
    """The running mean of each stage's relative gradient norm, and the state within."""

    means: dict[str, jax.Array]  # {stage: []}, from 0: only their shares of the largest count
    inner: Any


def _follow_gradient(
    inner: optax.GradientTransformation, decay: float = 0.9
) -> optax.GradientTransformation:
    """Scales each stage's update by its relative gradient norm, as a share of the largest.

    The head, the last stage, keeps its rate: a new one has no norm yet to hold its gradient
    against, and would take the rates of all others. See `strategies.AutoRGN`.
    """

    def init(params: Params) -> GradientRates:
        below = [name for name in params if name != HEAD and jax.tree.leaves(params[name])]
        means = {stage: jnp.zeros(()) for stage in below}
        return GradientRates(means, inner.init(params))

    def update(grads: Any, state: GradientRates, params: Any = None) -> tuple[Any, GradientRates]:
        ratios = {
            stage: optax.tree.norm(grads[stage]) / (optax.tree.norm(params[stage]) + 1e-12)
            for stage in state.means
        }
        means = {s: decay * state.means[s] + (1 - decay) * ratios[s] for s in ratios}
        largest = jnp.stack([*means.values(), jnp.float32(1e-30)]).max()
        updates: Any
        updates, within = inner.update(grads, state.inner, params)
        scaled = {
            stage: jax.tree.map(lambda x, s=means[stage] / largest: s * x, updates[stage])
            if stage in means
            else updates[stage]
            for stage in updates
        }
        return scaled, GradientRates(means, within)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def carry(
    old: optax.OptState, new: optax.OptState, old_labels: Params, new_labels: Params
) -> optax.OptState:
    """The state at the start of a phase: of leaves that go on training, what they had.

    Moments and counts follow their leaves from group to group; the count of a schedule starts
    anew with its phase, and the state of leaves that did not train before is the initial one.

    Args:
        old: at the end of the phase before.
        new: what the phase's transformation starts from.
        old_labels: of the phase before, by `since`.
        new_labels: of this one.
    """
    before, after = tree.flatten(old_labels), tree.flatten(new_labels)
    came_from = {name: before[path] for path, name in after.items()}
    held = {_place(path): leaf for path, leaf in _state_leaves(old)[0]}
    leaves, structure = _state_leaves(new)

    def carried(path: Any, leaf: Any) -> Any:
        group, within = _place(path)
        if group is None or isinstance(leaf, optax.ScaleByScheduleState):
            return leaf
        of_leaf = next((before[p] for p in after if within.endswith(f'/{p}')), None)
        earlier = of_leaf or came_from[group]
        return leaf if earlier == FROZEN else held.get((earlier, within), leaf)

    return jax.tree.unflatten(structure, [carried(path, leaf) for path, leaf in leaves])


def _state_leaves(state: optax.OptState) -> tuple[list[tuple[Any, Any]], Any]:
    """Leaves with their paths, and the structure; the state of a schedule is one leaf."""
    return jax.tree_util.tree_flatten_with_path(
        state, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState)
    )


def _place(path: Sequence[Any]) -> tuple[str | None, str]:
    """The group that a leaf of the state belongs to, and where it is in the group's state."""
    names = [getattr(k, 'name', getattr(k, 'key', getattr(k, 'idx', None))) for k in path]
    if 'inner_states' not in names:
        return None, ''
    start = names.index('inner_states') + 1
    return names[start], '/'.join(map(str, names[start + 1 :]))
