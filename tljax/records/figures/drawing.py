"""The shapes of a figure; `svg` and `png` render them."""

import dataclasses
import unicodedata
from collections.abc import Sequence

import numpy as np

FONT_PX = 12
NARROW, WIDE = " .,:;'|!()[]ijlftrI-", 'mwMW@%'
SIGNS = '<>=+~^#'
Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Path:
    """A line through points; with `fill`, the area inside them.

    Colors are names in `colors.LIGHT`.
    """

    points: Points
    color: str | None = 'ink'
    width: float = 1.0
    dashed: bool = False
    fill: str | None = None
    opacity: float = 1.0  # of the area


@dataclasses.dataclass(frozen=True)
class Circle:
    """A disc, or a ring if `fill` differs from `color`; the script of a page reads `index`."""

    x: float
    y: float
    radius: float
    color: str
    fill: str | None = None  # None for `color`
    opacity: float = 1.0
    width: float = 1.5
    index: int | None = None


@dataclasses.dataclass(frozen=True)
class Box:
    """A filled rectangle from its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    color: str
    opacity: float = 1.0


@dataclasses.dataclass(frozen=True)
class Text:
    """A line of text; `y` is its baseline."""

    x: float
    y: float
    text: str
    anchor: str = 'start'  # start, middle or end
    color: str = 'quiet'
    bold: bool = False
    size: float = FONT_PX
    halo: bool = False  # in the color of the paper, over other shapes


@dataclasses.dataclass(frozen=True)
class Shading:
    """A grid of cells in one color; `shares` [rows, columns] in [0, 1] are their opacities."""

    x: float
    y: float
    width: float
    height: float
    color: str
    shares: np.ndarray


Shape = Path | Circle | Box | Text | Shading


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Shapes in the order they are drawn; the size is in pixels of a screen."""

    width: float
    height: float
    shapes: Sequence[Shape]


def line(x1: float, y1: float, x2: float, y2: float, color: str = 'rule', **more) -> Path:
    """A straight line."""
    return Path(((x1, y1), (x2, y2)), color, **more)


def text_width(text: str, size: float = FONT_PX) -> float:
    """The approximate width of a line of text, as a wide font such as DejaVu Sans has it."""
    return size * sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    """The width of a letter as a share of the size of the font."""
    if not letter.isascii():
        return 1.0 if unicodedata.east_asian_width(letter) in 'WF' else 0.64
    if letter in SIGNS:
        return 0.84
    return 0.34 if letter in NARROW else 1.0 if letter in WIDE else 0.64


def shortened(text: str, width: float) -> str:
    """Shortens a text to a width; an ellipsis replaces its middle."""
    if text_width(text) <= width:
        return text
    for kept in range(len(text) - 1, 3, -1):
        half = kept // 2
        short = f'{text[: kept - half]}…{text[len(text) - half :]}'
        if text_width(short) <= width:
            return short
    return f'{text[:2]}…{text[-1:]}'


def printable(text: str) -> str:
    """Replaces the control characters that XML does not allow."""
    return ''.join(c if c.isprintable() or c == '\u00a0' else '�' for c in text)
