"""A figure: its drawing, a sentence that describes it, and its numbers."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from markupsafe import Markup

from tljax.records.csv_text import cell_text
from tljax.records.figures import svg
from tljax.records.figures.drawing import Drawing

Cell = str | float | int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of a page.

    Attributes:
        name: of its files.
        title: a few words; they start the caption of the figure.
        alt: a sentence with the main numbers, for readers who cannot see the figure.
        drawing: the shapes.
        columns: names of the columns of the CSV file.
        rows: the numbers of the CSV file.
        caption: explains how to read the figure.
        wide: whether the figure takes the full width of the page.
        overlay: additional markup, for example elements that the script of the page fills.
    """

    name: str
    title: str
    alt: str
    drawing: Drawing
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ''
    wide: bool = False
    overlay: Markup | str = ''

    @property
    def svg(self) -> Markup:
        """The drawing for a page, whose style sheet sets the colors."""
        return svg.render(self.drawing, self.alt)

    def _repr_html_(self) -> str:
        from tljax.records.pages import blocks, page  # pages are made of figures

        return page.fragment([blocks.Figures([self])])

    def csv(self) -> str:
        """The numbers as CSV; a cell that a spreadsheet would run as a formula is neutralised."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator='\n')
        rows.writerow([_csv_cell(column) for column in self.columns])
        rows.writerows([_csv_cell(cell) for cell in row] for row in self.rows)
        return text.getvalue()


def _csv_cell(cell: Cell) -> str:
    if cell is None:
        return ''
    if isinstance(cell, str):
        return cell_text(cell)
    return str(cell) if isinstance(cell, int) else f'{cell:.7g}'
