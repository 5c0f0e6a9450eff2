"""Names of the variants of a sweep: the values of the axes that tell them apart."""

import dataclasses
from collections.abc import Sequence

from tljax.sweep.folder import AxisRecord
from tljax.sweep.results import Results, Settings, value_of
from tljax.sweep.space import Role

ABSENT = '–'  # a variant does not have the axis


@dataclasses.dataclass(frozen=True)
class VariantNames:
    """Names variants.

    Attributes:
        axes: the compared axes that tell variants apart. An axis with a single value is left out,
            and so is an axis whose value follows from those of earlier axes.
        labels: a short name of every axis of the sweep, by its name.
    """

    axes: tuple[AxisRecord, ...]
    labels: dict[str, str]

    def cells(self, settings: Settings) -> list[str]:
        """The value on each of the axes, as the cells of a table."""
        return [settings.get(axis.name, ABSENT) for axis in self.axes]

    def title(self, settings: Settings, without: Sequence[str] = ()) -> str:
        """`FineTune, per_class=20`.

        Args:
            settings: of the variant.
            without: names of axes that are left out.
        """
        parts = [
            self._part(axis, settings[axis.name])
            for axis in self.axes
            if axis.name in settings and axis.name not in without
        ]
        return ', '.join(parts)

    def value(self, axis: str, name: str) -> str:
        """A value with its axis, unless the value explains itself."""
        record = next(one for one in self.axes if one.name == axis)
        return self._part(record, name)

    def _part(self, axis: AxisRecord, name: str) -> str:
        plain = name in ('True', 'False', 'None', '') or name[0] in '0123456789.-+([\'"'
        others = [one for one in self.axes if one is not axis]
        if plain or any(value_of(one, name) for one in others):
            return f'{self.labels[axis.name]}={name}'
        return name


def names_of(results: Results) -> VariantNames:
    """Makes the names of the variants of a sweep."""
    chosen: list[AxisRecord] = []
    for axis in results.axes(Role.COMPARED):
        if not _follows(axis, chosen, results):
            chosen.append(axis)
    return VariantNames(axes=tuple(chosen), labels=_labels(results.record.axes))


def _follows(axis: AxisRecord, earlier: Sequence[AxisRecord], results: Results) -> bool:
    """Whether the values of earlier axes determine that of an axis, in every variant."""
    values: dict[tuple, set] = {}
    for variant in results.variants:
        key = tuple(variant.settings.get(one.name) for one in earlier)
        values.setdefault(key, set()).add(variant.settings.get(axis.name))
    return all(len(group) == 1 for group in values.values())


def _labels(axes: Sequence[AxisRecord]) -> dict[str, str]:
    """The last part of each path, or the whole path if several have the same last part."""
    short = {axis.name: axis.name.rpartition('.')[2] for axis in axes}
    parts = list(short.values())
    return {name: part if parts.count(part) == 1 else name for name, part in short.items()}
