"""Strict translation of foreign state dicts by tables of `port_rules`, in both directions."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tljax import tree
from tljax.models.port_rules import PortRule
from tljax.types import InputError

OWN = 'tljax'  # the naming of our own paths


class PortError(InputError):
    """A state dict does not fit; the message lists every problem."""


@dataclasses.dataclass(frozen=True)
class Match:
    """The result of applying a table to names.

    Attributes:
        leaves: `{path: (rule, its foreign names)}`.
        dropped: names without a counterpart here.
        problems: `{name: reason}` for names without a place.
        noted: the dropped names that a note lists.
        copies: the dropped names whose entries must equal another's, and that one's name.
    """

    leaves: dict[str, tuple[PortRule, tuple[str, ...]]]
    dropped: tuple[str, ...]
    problems: dict[str, str]
    noted: tuple[str, ...] = ()
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def leaf(self, path: str, entries: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array for `path` in our layout; a view unless several entries are joined."""
        rule, names = self.leaves[path]
        parts = [entries[name] for name in names]
        try:
            return rule.transform.to_ours(parts[0] if len(parts) == 1 else np.concatenate(parts))
        except ValueError:  # a wrong shape is reported in the foreign layout
            return parts[0]


def match(names: Sequence[str], rules: Sequence[PortRule]) -> Match:
    """Assigns foreign names to paths by a table; reads no array."""
    places: dict[str, tuple[PortRule, dict[int, str]]] = {}
    dropped, noted, problems, copies = [], [], {}, {}
    whole, lines = _lines(tuple(rules))
    for name in names:
        likely = [*whole.get(name, ()), *lines.get(name[:1], ()), *lines.get('', ())]
        hits = [hit for line in likely if (hit := _hit(line, name)) is not None]
        if len(hits) != 1:
            problems[name] = f'({len(hits)} rules match)'
            continue
        rule, part, path = hits[0]
        if path is None:
            dropped.append(name)
            noted += [name] if rule.noted else []
            if rule.copy_of is not None:
                copies[name] = _translate(name, rule.names[part], rule.copy_of)
            continue
        parts = places.setdefault(path, (rule, {}))[1]
        if part in parts or places[path][0] != rule:
            before = ', '.join(places[path][1].values())
            problems[name] = f'(fills {path}, as {before} does)'
            continue
        parts[part] = name
    leaves = {}
    for path, (rule, parts) in places.items():
        if len(parts) == len(rule.names):
            leaves[path] = (rule, tuple(parts[i] for i in range(len(parts))))
        else:
            lacking = ', '.join(n for i, n in enumerate(rule.names) if i not in parts)
            problems |= dict.fromkeys(parts.values(), f'({path} needs {lacking} too)')
    return Match(leaves, tuple(dropped), problems, tuple(noted), copies)


def is_own(names: Sequence[str]) -> bool:
    """Whether names are our own paths; big_vision's networks of two towers begin alike."""
    return any(
        name.startswith(('params/', 'batch_stats/')) and not name.startswith('params/img/')
        for name in names
    )


def own(names: Sequence[str]) -> Match:
    """A match of names that are our own paths already."""
    return Match({name: (PortRule(name, name), (name,)) for name in names}, (), {})


def to_ours(
    state_dict: Mapping[str, np.ndarray], rules: Sequence[PortRule], wanted: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Translates a foreign state dict.

    Args:
        state_dict: `{foreign name: array}`.
        rules: the table.
        wanted: `{path: anything with a shape}`, the leaves to fill.

    Returns:
        `{path: array}` with exactly the paths and shapes of `wanted`; views where possible.

    Raises:
        PortError: a name matches no rule or several; a leaf is filled twice, missing, extra or of
            the wrong shape. The message lists all of them.
    """
    return placed(match(list(state_dict), rules), state_dict, wanted)


def placed(
    matched: Match, entries: Mapping[str, np.ndarray], wanted: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The leaves of a match, checked against `wanted`; the second half of `to_ours`."""
    problems = [
        f'+ {name} {tree.shape_text(entries[name])}   {reason}'
        for name, reason in matched.problems.items()
    ]
    problems += [
        f'+ {name} {tree.shape_text(entries[name])}   (differs from {other}, of which it is a copy)'
        for name, other in matched.copies.items()
        if other in entries and not np.array_equal(entries[name], entries[other])
    ]
    leaves = {path: matched.leaf(path, entries) for path in matched.leaves}
    problems += tree.difference(leaves, wanted)
    if problems:
        raise PortError(
            f'{len(problems)} problems with these weights (- wanted, + found):\n  '
            + '\n  '.join(problems)
        )
    return {path: leaves[path] for path in wanted}


def to_foreign(
    leaves: Mapping[str, np.ndarray], rules: Sequence[PortRule]
) -> dict[str, np.ndarray]:
    """Translates our leaves back; the inverse of `to_ours`, with values for dropped entries.

    Args:
        leaves: `{path: array}`.
        rules: the table.

    Raises:
        PortError: no rule or several rules name a path.
    """
    result, problems = {}, []
    for path, array in leaves.items():
        hits = [(rule, names) for rule in rules if (names := _names(rule, path))]
        if len(hits) != 1:
            problems.append(f'{path}   ({len(hits)} rules match)')
            continue
        (rule, names) = hits[0]
        foreign = rule.transform.to_foreign(np.asarray(array))
        parts = np.split(foreign, _ends(rule, len(foreign))) if len(names) > 1 else [foreign]
        result |= dict(zip(names, parts, strict=True))
        for rule in rules:
            made = rule.exported_as or (lambda _: np.zeros((), np.int64))
            result |= {name: made(np.asarray(array)) for name in _exported(rule, path)}
    if problems:
        raise PortError('no foreign name for:\n  ' + '\n  '.join(problems))
    return result


def _ends(rule: PortRule, length: int) -> list[int]:
    """Where the entries of a joined array of some length end, without the last."""
    shares = rule.shares or (1,) * len(rule.names)
    return [length * sum(shares[:i]) // sum(shares) for i in range(1, len(shares))]


_FIELD = re.compile(r'\{(\w+)([+-]\d+)?\}')


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    parts, end = [], 0
    for field in _FIELD.finditer(template):
        parts += [re.escape(template[end : field.start()]), rf'(?P<{field[1]}>\d+)']
        end = field.end()
    return re.compile(''.join(parts) + re.escape(template[end:]))


def _translate(name: str, source: str, target: str) -> str | None:
    """`name`, which must match `source` completely, in the form of `target`; else None."""
    fields = _pattern(source).fullmatch(name)
    if fields is None:
        return None
    offsets = {field[1]: int(field[2] or 0) for field in _FIELD.finditer(source)}
    values = {key: int(value) - offsets[key] for key, value in fields.groupdict().items()}
    return _FIELD.sub(lambda field: str(values[field[1]] + int(field[2] or 0)), target)


_Line = tuple[str, PortRule, int]  # a foreign name up to its first field, its rule, its index there


@functools.lru_cache(maxsize=256)
def _lines(
    rules: tuple[PortRule, ...],
) -> tuple[Mapping[str, Sequence[_Line]], Mapping[str, Sequence[_Line]]]:
    """A table's foreign names: those without fields, and the others by their first letter.

    Those that begin with a field are under ''.
    """
    whole: dict[str, list[_Line]] = {}
    lines: dict[str, list[_Line]] = {}
    for rule in rules:
        for part, template in enumerate(rule.names):
            beginning = template.partition('{')[0]
            group = (lines, beginning[:1]) if '{' in template else (whole, template)
            group[0].setdefault(group[1], []).append((beginning, rule, part))
    return whole, lines


def _hit(line: _Line, name: str) -> tuple[PortRule, int, str | None] | None:
    """The rule, which of its names `name` is, and the path it goes to."""
    beginning, rule, part = line
    if not name.startswith(beginning):  # cheaper than a pattern, and enough for most names
        return None
    template = rule.names[part]
    if rule.ours is None:
        return (rule, part, None) if _pattern(template).fullmatch(name) else None
    path = _translate(name, template, rule.ours)
    return None if path is None else (rule, part, path)


def _names(rule: PortRule, path: str) -> tuple[str, ...]:
    """The names under which a rule writes the leaf at `path`; none if it does not match."""
    if rule.ours is None or rule.alias:
        return ()
    names = [_translate(path, rule.ours, template) for template in rule.names]
    return tuple(name for name in names if name is not None)


def _exported(rule: PortRule, path: str) -> tuple[str, ...]:
    """The names of dropped entries that are written along with the leaf at `path`."""
    if rule.exported_with is None or rule.alias:
        return ()
    names = [_translate(path, rule.exported_with, template) for template in rule.names]
    return tuple(name for name in names if name is not None)
