"""Which network a state dict belongs to: its family, its size and who named its entries."""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tljax import tree
from tljax.models import backbones, port, stages
from tljax.models.stages import Model
from tljax.types import Backbone, InputError, MisfitError

SAMPLED_NAMES = 32
ODD = 6  # entries without a place that one message names
HEAD_BIAS = f'params/{stages.HEAD}/linear/bias'


class UnknownNetworkError(InputError):
    """Entries that belong to no network known here; the message says what came nearest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recognised:
    """A network, the naming of its entries, and where each of them goes.

    Attributes:
        backbone: the member of the family.
        naming: a key of its `port_tables()`, or `port.OWN`.
        matched: the entries' places.
        num_classes: K of the head that is there; None for a network without.
        model: the whole network, with some head where it has none.
    """

    backbone: Any
    naming: str
    matched: port.Match
    num_classes: int | None
    model: Model

    def wanted(self) -> dict[str, Any]:
        """`{path: shape holder}` of what the network consists of; without a head if it has none."""
        leaves = _leaves(_ByText(self.model))
        if self.num_classes is not None:
            return leaves
        return {path: leaf for path, leaf in leaves.items() if path.split('/')[1] != stages.HEAD}


def families() -> tuple[type, ...]:
    """The backbones in the folder of that name, one or more a file."""
    found = []
    for module in pkgutil.iter_modules(backbones.__path__):
        home = importlib.import_module(f'{backbones.__name__}.{module.name}')
        for value in vars(home).values():
            own = isinstance(value, type) and value.__module__ == home.__name__
            if own and dataclasses.is_dataclass(value) and hasattr(value, 'fitted'):
                found.append(value)
    return tuple(found)


def recognise(entries: Mapping[str, np.ndarray]) -> Recognised:
    """The network that entries belong to.

    The table that can place the most names decides; of several as good, the member that lacks
    the fewest leaves. An entry that is missing or too much does not keep a network from being
    recognised: it is `port.placed` that is strict.

    Args:
        entries: `{name: array}`.

    Raises:
        UnknownNetworkError: no table places half of the names.
    """
    found: list[tuple[int, Recognised]] = []
    for family in families():
        for variant in family.variants():
            for naming, matched in _matches(variant, entries):
                placed = len(entries) - len(matched.problems)
                if placed * 2 >= len(entries) > 0:
                    found += [(placed, m) for m in _fitted(variant, naming, matched, entries)]
    if not found:
        raise UnknownNetworkError(_unknown(entries))
    most = max(placed for placed, _ in found)
    best = [member for placed, member in found if placed == most]
    return best[0] if len(best) == 1 else min(best, key=_lacking)


def under(backbone: Backbone, entries: Mapping[str, np.ndarray]) -> Recognised:
    """Entries as those of a given backbone, under the table that places the most names."""
    tables = _matches(backbone, entries)
    if not tables:  # nothing of it fits: the first table's report says so as well as any
        naming, table = next(iter(backbone.port_tables().items()), (port.OWN, ()))
        tables = [(naming, port.match(list(entries), table))]
    naming, matched = min(tables, key=lambda pair: len(pair[1].problems))
    return _recognised(backbone, naming, matched, entries)


def without_own_head(found: Recognised) -> tuple[Recognised, tuple[str, ...]]:
    """The network without a head of another form, as fine-tuned networks have, and a note of it.

    Entries that no rule places are taken for such a head if they lie where the library has its
    own (`fc.1.weight` for `fc.weight`); the family's own head must not be there as well.
    """
    heads = {
        name.split('.')[0]
        for rule in found.backbone.port_tables().get(found.naming, ())
        if rule.ours is not None and rule.ours.startswith(f'params/{stages.HEAD}/')
        for name in rule.names
    }
    odd = [name for name in found.matched.problems if name.split('.')[0] in heads]
    if not odd or HEAD_BIAS in found.matched.leaves:
        return found, ()
    head = f'params/{stages.HEAD}/'
    leaves = {p: leaf for p, leaf in found.matched.leaves.items() if not p.startswith(head)}
    problems = {n: why for n, why in found.matched.problems.items() if n not in odd}
    matched = port.Match(leaves, (*found.matched.dropped, *odd), problems)
    note = f'The head of the weights is of another form and was left out: {", ".join(odd[:6])}.'
    return dataclasses.replace(found, matched=matched, num_classes=None), (note,)


@dataclasses.dataclass(frozen=True)
class _Shapes(Mapping[str, tuple[int, ...]]):
    """Shapes by path, each taken when it is asked for: rearranging VGG's `fc6` copies 400 MB."""

    matched: port.Match
    entries: Mapping[str, np.ndarray]

    def __getitem__(self, path: str) -> tuple[int, ...]:
        if path not in self.matched.leaves:
            raise KeyError(path)
        return self.matched.leaf(path, self.entries).shape

    def __iter__(self) -> Iterator[str]:
        return iter(self.matched.leaves)

    def __len__(self) -> int:
        return len(self.matched.leaves)


def _matches(backbone: Backbone, entries: Mapping[str, np.ndarray]) -> list[tuple[str, port.Match]]:
    """What each naming makes of the names; our own where they begin as our paths do.

    Of libraries that name alike the first is taken, and tables that place none of a few names,
    spread over all, are passed over.
    """
    names, tables = list(entries), []
    if any(name.startswith(('params/', 'batch_stats/')) for name in names):
        return [(port.OWN, port.own(names))]
    sample = names[:: max(1, len(names) // SAMPLED_NAMES)]
    for naming, table in backbone.port_tables().items():
        new = all(table is not before for _, before in tables)
        if new and len(port.match(sample, table).problems) < len(sample):
            tables.append((naming, table))
    return [(naming, port.match(names, table)) for naming, table in tables]


def _fitted(
    variant: Any, naming: str, matched: port.Match, entries: Mapping[str, np.ndarray]
) -> list[Recognised]:
    try:
        member = variant.fitted(_Shapes(matched, entries), naming)
    except MisfitError:  # `_nearest` says why, where no other network fits
        return []
    if member is None:
        return []
    if naming != port.OWN and member != variant:  # where a name goes may depend on the size
        table = member.port_tables()[naming]
        if table is not variant.port_tables()[naming]:
            matched = port.match(list(entries), table)
    return [_recognised(member, naming, matched, entries)]


def _recognised(
    backbone: Backbone, naming: str, matched: port.Match, entries: Mapping[str, np.ndarray]
) -> Recognised:
    num_classes = None
    if any(path.split('/')[1:2] == [stages.HEAD] for path in matched.leaves):
        has_bias = HEAD_BIAS in matched.leaves
        num_classes = int(np.size(matched.leaf(HEAD_BIAS, entries))) if has_bias else 1
    return Recognised(
        backbone=backbone,
        naming=naming,
        matched=matched,
        num_classes=num_classes,
        model=stages.build(backbone, num_classes or 1),
    )


@dataclasses.dataclass(frozen=True)
class _ByText:
    """A model that is equal to another if both are written alike; configs cannot be hashed."""

    model: Model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByText) and repr(self.model) == repr(other.model)

    def __hash__(self) -> int:
        return hash(repr(self.model))


@functools.lru_cache(maxsize=16)
def _leaves(what: _ByText) -> dict[str, Any]:
    """`{path: shape holder}`; tracing a network takes longer than reading its file."""
    params, stats = stages.shapes(what.model)
    return tree.flatten({'params': params, 'batch_stats': stats})


def _lacking(member: Recognised) -> int:
    """How many leaves a network has that are not there, or otherwise shaped."""
    return len(set(member.wanted()) ^ set(member.matched.leaves))


def _unknown(entries: Mapping[str, np.ndarray]) -> str:
    names = ', '.join(list(entries)[:4]) + (', ...' if len(entries) > 4 else '')
    known = ', '.join(family.__name__ for family in families())
    return (
        f'no network known here has these {len(entries)} entries ({names}); known are {known}.'
        f'{_nearest(entries)} Name the backbone, or bring the names to those of a library that '
        'it is ported from'
    )


def _nearest(entries: Mapping[str, np.ndarray]) -> str:
    """A sentence on the family that places most of the names, and what of them it cannot place."""
    tables = [
        (len(matched.problems), variant, naming, matched)
        for family in families()
        for variant in family.variants()
        for naming, matched in _matches(variant, entries)
    ]
    if not tables:
        return ''
    odd, variant, naming, matched = min(tables, key=lambda table: table[0])
    if odd * 2 > len(entries):
        return ''
    parts = [f' The nearest is {type(variant).__name__} under the names of {naming}']
    if odd:
        shown = [f'{name} {list(np.shape(entries[name]))}' for name in list(matched.problems)[:ODD]]
        more = f' and {odd - ODD} more' if odd > ODD else ''
        parts.append(f'it has no place for {", ".join(shown)}{more}')
    try:
        variant.fitted(_Shapes(matched, entries), naming)
    except MisfitError as error:
        parts.append(str(error))
    return '; '.join(parts) + '.'
