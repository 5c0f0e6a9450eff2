"""What every section of a sweep's page is made from."""

import dataclasses
from collections.abc import Sequence

from tljax.records.figures.intervals import Interval
from tljax.sweep import results, variant_names
from tljax.sweep.folder import SweepFolder
from tljax.sweep.report import comparison, summaries
from tljax.sweep.report.comparison import Comparison
from tljax.sweep.report.summaries import Summary
from tljax.sweep.results import Results, Variant
from tljax.sweep.variant_names import ABSENT, VariantNames


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """The results of a sweep and what was computed from them.

    Attributes:
        folder: of the sweep.
        results: of all cells.
        names: of the variants.
        summaries: one of each variant, in order.
        comparison: of the variants with their baselines.
    """

    folder: SweepFolder
    results: Results
    names: VariantNames
    summaries: tuple[Summary, ...]
    comparison: Comparison

    def grouped(self, marks: Sequence[tuple[Variant, Interval]]) -> list[Interval]:
        """The rows of a figure below a heading for each value of the first axis."""
        groups: dict[str, list[tuple[Variant, Interval]]] = {}
        for variant, mark in marks:
            groups.setdefault(self.first_value(variant), []).append((variant, mark))
        if max(map(len, groups.values())) == 1 or len(self.names.axes) < 2:
            return [mark for _, mark in marks]
        rows = []
        for heading, group in groups.items():
            rows.append(Interval(name=heading, heading=True))
            rows += [dataclasses.replace(m, name=self.other_values(v)) for v, m in group]
        return rows

    def first_value(self, variant: Variant) -> str:
        """The value on the first axis; '' if the variant does not have it."""
        others = [axis.name for axis in self.names.axes[1:]]
        return self.names.title(variant.settings, without=others)

    def other_values(self, variant: Variant) -> str:
        """The values on all axes but the first; a dash without any."""
        first = [axis.name for axis in self.names.axes[:1]]
        return self.names.title(variant.settings, without=first) or ABSENT

    @property
    def known(self) -> list[Summary]:
        """The summaries with a score."""
        return [summary for summary in self.summaries if summary.mean is not None]


def read(folder: SweepFolder, name: str = '', baseline: str | None = None) -> Content:
    """Reads a sweep.

    Args:
        folder: of the sweep.
        name: of the sweep.
        baseline: see `comparison.compare`.

    Raises:
        SweepError: there is no such sweep or baseline, or the record is damaged.
    """
    content = results.read(folder, name)
    names = variant_names.names_of(content)
    return Content(
        folder=folder,
        results=content,
        names=names,
        summaries=summaries.summarise(content, names),
        comparison=comparison.compare(content, folder, baseline),
    )
