"""The blocks of a page; their texts are shown as text, never as markup."""

import dataclasses
from collections.abc import Sequence

from tljax.records.figures.figure import Figure


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: the paragraph.
        style: '', 'verdict' (a headline result), 'lead', 'caption' or 'missing'.
    """

    text: str
    style: str = ''


@dataclasses.dataclass(frozen=True)
class Listing:
    """A list of short texts."""

    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Code:
    """A command for a shell, or the content of a file.

    Attributes:
        text: the command.
        folded: what the text is; it is closed until this title is clicked. '' for an open text.
    """

    text: str
    folded: str = ''


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names with their values."""

    pairs: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table; `style` is '', 'chosen' or 'far'."""

    cells: Sequence[str]
    style: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: what the table lists, for readers who cannot see it.
        columns: the names of the columns.
        rows: from top to bottom.
        texts: indices of the columns after the first that have text instead of numbers.
        caption: explains how to read the table.
        folded: whether the table is closed until it is clicked.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Row]
    texts: Sequence[int] = ()
    caption: str = ''
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Figures:
    """Figures next to each other if the page is wide enough."""

    figures: Sequence[Figure]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """An image with a few lines about it.

    Attributes:
        images: a data URI and a description of each image.
        lines: below the images; the first line is bold.
        path: of the file; shown as the last line.
    """

    images: Sequence[tuple[str, str]]
    lines: Sequence[str]
    path: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """Cards next to each other."""

    cards: Sequence[Card]
    wide: bool = False  # for cards with several images


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


Block = Text | Listing | Code | Facts | Table | Figures | Gallery | Heading


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page with a heading."""

    title: str
    blocks: Sequence[Block]

    @property
    def name(self) -> str:
        """The target of links to the section."""
        return '-'.join(''.join(c if c.isalnum() else ' ' for c in self.title.lower()).split())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A page.

    Attributes:
        title: the first heading.
        opening: blocks before the first section.
        sections: in order.
        footer: a line at the end.
        contents: whether the page begins with links to its sections.
        script: the file name of a script among the templates; '' for none.
    """

    title: str
    opening: Sequence[Block] = ()
    sections: Sequence[Section]
    footer: str = ''
    contents: bool = False
    script: str = ''

    def figures(self) -> list[Figure]:
        """Every figure of the page in order."""
        blocks = [*self.opening, *(block for section in self.sections for block in section.blocks)]
        return [one for block in blocks if isinstance(block, Figures) for one in block.figures]
