"""Blocks of a page as an object that a notebook displays and a terminal prints."""

import dataclasses
from collections.abc import Sequence

from tljax.records.pages import page, table_texts
from tljax.records.pages.blocks import Block, Facts, Figures, Gallery, Heading, Listing, Table, Text


@dataclasses.dataclass(frozen=True, repr=False)
class Shown:
    """Blocks that a notebook shows as HTML; their text is the object's `repr`."""

    blocks: Sequence[Block]

    def _repr_html_(self) -> str:
        return page.fragment(self.blocks)

    def __repr__(self) -> str:
        """The texts and tables of the blocks, and a sentence for each figure."""
        return '\n'.join(line for block in self.blocks for line in _lines(block))


def _lines(block: Block) -> list[str]:
    """A block as lines of text."""
    match block:
        case Text() | Heading():
            return [block.text]
        case Listing():
            return [f'- {item}' for item in block.items]
        case Facts():
            return [f'{name}: {value}' for name, value in block.pairs]
        case Table():
            return table_texts.terminal(block).splitlines()
        case Figures():
            return [f'{figure.title} {figure.alt}' for figure in block.figures]
        case Gallery():
            return [', '.join([*card.lines, *filter(None, [card.path])]) for card in block.cards]
    return [block.text]
