"""A figure: its drawing, the sentence that says what it shows, and its numbers."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from markupsafe import Markup

from tljax.records.cells import cell_text
from tljax.records.figures import drawing
from tljax.records.figures.drawing import Drawing

Cell = str | float | int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of a page.

    Attributes:
        name: of its files.
        title: a few words, in the page its caption's start.
        alt: a sentence with the figure's main numbers, for those who cannot see it.
        drawing: the shapes.
        columns: names of the columns of its numbers.
        rows: its numbers.
        caption: how it is read.
        wide: whether it takes a row of the page.
        overlay: markup that the page has besides, such as what a script fills.
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
        return drawing.svg(self.drawing, self.alt)

    def csv(self) -> str:
        """The numbers; cells that a spreadsheet would run as a formula are neutralised."""
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
