"""Strict, table-driven translation of foreign state dicts, both ways.

A table is a sequence of rules, from a foreign name to one of our paths. Both sides may hold
integer fields, `{stage}`, with an offset on our side where counting starts elsewhere:

    Rule('layer{s}.{b}.conv{c}.weight', 'params/stage{s}/block{b+1}/conv{c}/kernel', CONV)
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tljax import tree
from tljax.types import InputError

Layout = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of memory layout and its inverse; neither changes a value."""

    to_ours: Layout
    to_foreign: Layout


SAME = Transform(lambda x: x, lambda x: x)
# torch convolutions are [out, in, h, w], ours [h, w, in, out].
CONV = Transform(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
# torch linear layers are [out, in], ours [in, out].
LINEAR = Transform(lambda x: x.T, lambda x: x.T)


def linear_after_flatten(channels: int, height: int, width: int) -> Transform:
    """A linear layer that reads a flattened map: torch flattens [C, H, W], we [H, W, C]."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        maps = x.reshape(x.shape[0], channels, height, width)
        return maps.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])

    def to_foreign(x: np.ndarray) -> np.ndarray:
        maps = x.reshape(height, width, channels, x.shape[1])
        return maps.transpose(3, 2, 0, 1).reshape(x.shape[1], -1)

    return Transform(to_ours, to_foreign)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a table.

    `ours` is None for a foreign entry that has no counterpart here and is dropped.
    """

    foreign: str
    ours: str | None
    transform: Transform = SAME


class PortError(InputError):
    """A state dict that does not fit; the message lists every problem."""


def to_ours(
    state_dict: Mapping[str, np.ndarray], rules: Sequence[Rule], wanted: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Translates a foreign state dict.

    Args:
        state_dict: `{foreign name: array}`.
        rules: the table.
        wanted: `{path: anything with a shape}`, what has to be filled.

    Returns:
        `{path: array}` with exactly the paths and shapes of `wanted`; views where possible.

    Raises:
        PortError: a name that no rule or several rules match, a leaf filled twice, missing, too
            much or misshapen: all of them in one message.
    """
    found: dict[str, np.ndarray] = {}
    filled_by: dict[str, str] = {}
    problems = []
    for name, array in state_dict.items():
        hits = [hit for rule in rules if (hit := _rewrite(rule, name)) is not None]
        if len(hits) != 1:
            problems.append(f'+ {name} {tree.shape_text(array)}   ({len(hits)} rules match)')
            continue
        path, transform = hits[0]
        if path is None:
            continue
        if path in filled_by:
            problems.append(f'+ {name}   (fills {path}, as {filled_by[path]} does)')
            continue
        filled_by[path] = name
        found[path] = _apply(transform, array)
    return _checked(found, wanted, problems)


def own(leaves: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that go by our own paths already, held to the same strictness as `to_ours`."""
    return _checked(leaves, wanted, [])


def _checked(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, Any], problems: list[str]
) -> dict[str, np.ndarray]:
    problems = problems + tree.difference(found, wanted)
    if problems:
        raise PortError(
            f'{len(problems)} problems with these weights (- wanted, + found):\n  '
            + '\n  '.join(problems)
        )
    return {path: found[path] for path in wanted}


def to_foreign(leaves: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> dict[str, np.ndarray]:
    """Translates our leaves back; the inverse of `to_ours` but for what it dropped.

    Args:
        leaves: `{path: array}`.
        rules: the table.

    Raises:
        PortError: a path that no rule or several rules can name.
    """
    result, problems = {}, []
    for path, array in leaves.items():
        names = [name for rule in rules if (name := _rewrite_back(rule, path)) is not None]
        if len(names) != 1:
            problems.append(f'{path}   ({len(names)} rules match)')
        else:
            name, transform = names[0]
            result[name] = transform.to_foreign(np.asarray(array))
    if problems:
        raise PortError('no foreign name for:\n  ' + '\n  '.join(problems))
    return result


_FIELD = re.compile(r'\{(\w+)([+-]\d+)?\}')


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    parts, end = [], 0
    for field in _FIELD.finditer(template):
        parts += [re.escape(template[end : field.start()]), rf'(?P<{field[1]}>\d+)']
        end = field.end()
    return re.compile(''.join(parts) + re.escape(template[end:]))


def _translate(name: str, source: str, target: str) -> str | None:
    """`name`, which `source` must match whole, in the form of `target`; None where it does not."""
    match = _pattern(source).fullmatch(name)
    if match is None:
        return None
    offsets = {field[1]: int(field[2] or 0) for field in _FIELD.finditer(source)}
    values = {key: int(value) - offsets[key] for key, value in match.groupdict().items()}
    return _FIELD.sub(lambda field: str(values[field[1]] + int(field[2] or 0)), target)


def _rewrite(rule: Rule, name: str) -> tuple[str | None, Transform] | None:
    if rule.ours is None:
        return (None, SAME) if _pattern(rule.foreign).fullmatch(name) else None
    path = _translate(name, rule.foreign, rule.ours)
    return None if path is None else (path, rule.transform)


def _rewrite_back(rule: Rule, path: str) -> tuple[str, Transform] | None:
    name = None if rule.ours is None else _translate(path, rule.ours, rule.foreign)
    return None if name is None else (name, rule.transform)


def _apply(transform: Transform, array: np.ndarray) -> np.ndarray:
    try:
        return transform.to_ours(array)
    except ValueError:  # a shape that cannot be rearranged is reported as it came
        return array
