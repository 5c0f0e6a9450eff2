"""Recognises the network of a state dict: its family, its size and the naming of its entries."""

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
LISTED = 6  # names in a message


class UnknownNetworkError(InputError):
    """Entries of an unknown network; the message names the nearest known one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recognised:
    """A network, the naming of its entries, and the path of each entry.

    Attributes:
        backbone: the member of the family.
        naming: a key of its `port_tables()`, or `port.OWN`.
        matched: the paths of the entries.
        num_classes: K of the head; None for a network without a head.
        model: the network; with an arbitrary head if the entries have none.
    """

    backbone: Any
    naming: str
    matched: port.Match
    num_classes: int | None
    model: Model

    def wanted(self) -> dict[str, Any]:
        """The shapes of all leaves by path; without those of a head that the entries lack."""
        leaves = _leaves(_ByRepr(self.model))
        if self.num_classes is not None:
            return leaves
        return {path: leaf for path, leaf in leaves.items() if path.split('/')[1] != stages.HEAD}


def families() -> tuple[type, ...]:
    """All recognisable backbones in `models.backbones`."""
    names = [module.name for module in pkgutil.iter_modules(backbones.__path__)]
    modules = [importlib.import_module(f'{backbones.__name__}.{name}') for name in names]
    return tuple(
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and dataclasses.is_dataclass(value)
        and hasattr(value, 'fitted')
    )


def recognise(entries: Mapping[str, np.ndarray]) -> Recognised:
    """The network that entries belong to.

    The table that matches the most names decides; if several match equally many, the member that
    lacks the fewest leaves. Missing and extra entries are accepted here, because `port.placed`
    reports them.

    Args:
        entries: `{name: array}`.

    Raises:
        UnknownNetworkError: no table matches half of the names.
    """
    candidates: list[tuple[int, Recognised]] = []
    refused = 0  # the most names of a network that does not support the sizes of the entries
    for family in families():
        for variant in family.variants():
            for naming, matched in _matches(variant, entries):
                count = len(entries) - len(matched.problems)
                if count * 2 >= len(entries) > 0:
                    try:
                        members = _fitted(variant, naming, matched, entries)
                    except MisfitError:
                        members, refused = [], max(refused, count)
                    candidates += [(count, member) for member in members]
    most = max((count for count, _ in candidates), default=0)
    if not candidates or most < refused:  # `_nearest` gives the reason
        raise UnknownNetworkError(_unknown(entries))
    best = [member for count, member in candidates if count == most]
    return best[0] if len(best) == 1 else min(best, key=_lacking)


def under(backbone: Backbone, entries: Mapping[str, np.ndarray]) -> Recognised:
    """Entries of a given backbone, matched by the table that matches the most names."""
    tables = _matches(backbone, entries)
    if not tables:  # no name matches; the report by the first table is as good as any
        naming, table = next(iter(backbone.port_tables().items()), (port.OWN, ()))
        tables = [(naming, port.match(list(entries), table))]
    naming, matched = min(tables, key=lambda pair: len(pair[1].problems))
    return _recognised(backbone, naming, matched, entries)


def rematched(network: Recognised, backbone: Any, entries: Mapping[str, np.ndarray]) -> Recognised:
    """The network with other fields of its backbone, which can have other paths."""
    matched, naming = network.matched, network.naming
    if naming != port.OWN:
        table = backbone.port_tables()[naming]
        if table is not network.backbone.port_tables()[naming]:
            matched = port.match(list(entries), table)
    return _recognised(backbone, naming, matched, entries)


def notes_on_dropped(network: Recognised) -> tuple[str, ...]:
    """The note on entries that only pretraining uses."""
    names = network.matched.noted
    if not names:
        return ()
    more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
    return (f'Left out, as only pretraining uses them: {", ".join(names[:LISTED])}{more}.',)


def without_other_head(network: Recognised) -> tuple[Recognised, tuple[str, ...]]:
    """The network without a head of another form, which fine-tuned networks have, and a note on it.

    Entries that match no rule belong to such a head if their names begin like the library's head
    (`fc.1.weight` instead of `fc.weight`), and if the family's own head is absent.
    """
    heads = {
        _beginning(name)
        for rule in network.backbone.port_tables().get(network.naming, ())
        if rule.ours is not None and rule.ours.startswith(f'params/{stages.HEAD}/')
        for name in rule.names
    }
    extra = [n for n in network.matched.problems if any(n.startswith(f'{h}.') for h in heads)]
    if not extra or any(path in network.matched.leaves for path in stages.HEAD_OUTPUTS):
        return network, ()
    head = f'params/{stages.HEAD}/'
    leaves = {p: leaf for p, leaf in network.matched.leaves.items() if not p.startswith(head)}
    problems = {n: reason for n, reason in network.matched.problems.items() if n not in extra}
    dropped = (*network.matched.dropped, *extra)
    matched = dataclasses.replace(
        network.matched, leaves=leaves, dropped=dropped, problems=problems
    )
    names = ', '.join(extra[:LISTED])
    note = f'The head of the weights has another form and was left out: {names}.'
    return dataclasses.replace(network, matched=matched, num_classes=None), (note,)


def _beginning(name: str) -> str:
    """The first segment of a head's name; of one inside an image tower, its layer."""
    first = name.split('.')[0]
    return name.rpartition('.')[0] if first in ('visual', 'vision_model') else first


@dataclasses.dataclass(frozen=True)
class _Shapes(Mapping[str, tuple[int, ...]]):
    """Shapes by path, computed on demand, because rearranging VGG's `fc6` copies 400 MB."""

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
    """The result of each naming, or of tljax's own if names begin like its paths.

    Equal tables of several libraries are tried once. Tables that match none of some sampled names
    are skipped.
    """
    names, tables = list(entries), []
    if port.is_own(names):
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
    member = variant.fitted(_Shapes(matched, entries), naming)
    if member is None:
        return []
    if naming != port.OWN and member != variant:  # the path of a name can depend on the size
        table = member.port_tables()[naming]
        if table is not variant.port_tables()[naming]:
            matched = port.match(list(entries), table)
    return [_recognised(member, naming, matched, entries)]


def _recognised(
    backbone: Backbone, naming: str, matched: port.Match, entries: Mapping[str, np.ndarray]
) -> Recognised:
    num_classes = None
    if any(path.split('/')[1:2] == [stages.HEAD] for path in matched.leaves):
        paths = [path for path in stages.HEAD_OUTPUTS if path in matched.leaves]
        shapes = {path: matched.leaf(path, entries).shape for path in paths}
        num_classes = stages.outputs_of_head(shapes) or 1
    return Recognised(
        backbone=backbone,
        naming=naming,
        matched=matched,
        num_classes=num_classes,
        model=stages.build(backbone, num_classes or 1),
    )


@dataclasses.dataclass(frozen=True)
class _ByRepr:
    """A model compared and hashed by its `repr`, because config dataclasses have no hash."""

    model: Model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByRepr) and repr(self.model) == repr(other.model)

    def __hash__(self) -> int:
        return hash(repr(self.model))


@functools.lru_cache(maxsize=16)
def _leaves(key: _ByRepr) -> dict[str, Any]:
    """Shapes by path, cached because tracing a network takes longer than reading its file."""
    params, stats = stages.shapes(key.model)
    return tree.flatten({'params': params, 'batch_stats': stats})


def _lacking(member: Recognised) -> int:
    """The number of missing and extra leaves."""
    return len(set(member.wanted()) ^ set(member.matched.leaves))


def _unknown(entries: Mapping[str, np.ndarray]) -> str:
    names = ', '.join(list(entries)[:4]) + (', ...' if len(entries) > 4 else '')
    known = ', '.join(family.__name__ for family in families())
    return (
        f'no known network has these {len(entries)} entries ({names}); known are {known}.'
        f'{_nearest(entries)} Pass the backbone, or rename the entries as in a library that has it'
    )


def _nearest(entries: Mapping[str, np.ndarray]) -> str:
    """A sentence on the table that matches the most names, and the names that it does not match."""
    tables = [
        (_misfit(variant, naming, matched, entries), variant, naming, matched)
        for family in families()
        for variant in family.variants()
        for naming, matched in _matches(variant, entries)
    ]
    if not tables:
        return ''
    misfit, variant, naming, matched = min(
        tables, key=lambda table: (len(table[3].problems), table[0] is None)
    )
    count = len(matched.problems)
    if count * 2 > len(entries):
        return ''
    parts = [f' The nearest is {type(variant).__name__} with the names of {naming}']
    if count:
        names = [f'{n} {list(np.shape(entries[n]))}' for n in list(matched.problems)[:LISTED]]
        more = f' and {count - LISTED} more' if count > LISTED else ''
        parts.append(f'it has no place for {", ".join(names)}{more}')
    if misfit:
        parts.append(misfit)
    return '; '.join(parts) + '.'


def _misfit(
    variant: Any, naming: str, matched: port.Match, entries: Mapping[str, np.ndarray]
) -> str | None:
    """Why the shapes are of no network of the family, if it can say so."""
    try:
        variant.fitted(_Shapes(matched, entries), naming)
    except MisfitError as error:
        return str(error)
    return None
