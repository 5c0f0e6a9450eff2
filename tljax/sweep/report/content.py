"""What every section of a sweep's page is made from."""

import dataclasses

from tljax.sweep import results, variant_names
from tljax.sweep.folder import SweepFolder
from tljax.sweep.report import comparison, summaries
from tljax.sweep.report.comparison import Comparison
from tljax.sweep.report.summaries import Summary
from tljax.sweep.results import Results
from tljax.sweep.variant_names import VariantNames


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
