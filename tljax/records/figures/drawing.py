"""Shapes of a figure, and the two forms they are written in: SVG and PNG."""

import base64
import dataclasses
import functools
import io
import itertools
import zlib
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from tljax.records.figures import colors

FONT_PX = 12
LETTER_PX = 6.2  # the mean width of a letter
SCALE = 2  # pixels of a PNG per unit of a drawing
OVERSAMPLING = 2  # in each direction, for smooth edges
Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Path:
    """A line through points; with `fill` an area within them.

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
    """A disc, or a ring where `fill` is another color; a script finds it by its index."""

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


@dataclasses.dataclass(frozen=True)
class Shading:
    """A grid of cells in one color, opaque by their shares [rows, columns] in [0, 1]."""

    x: float
    y: float
    width: float
    height: float
    color: str
    shares: np.ndarray


Shape = Path | Circle | Box | Text | Shading


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Shapes on a sheet, in the order they are drawn; its size is in pixels of a screen."""

    width: float
    height: float
    shapes: Sequence[Shape]


def line(x1: float, y1: float, x2: float, y2: float, color: str = 'rule', **more) -> Path:
    """A straight line."""
    return Path(((x1, y1), (x2, y2)), color, **more)


def text_width(text: str, size: float = FONT_PX) -> float:
    """About how wide a line of text is."""
    return LETTER_PX * size / FONT_PX * len(text)


def shortened(text: str, width: float) -> str:
    """A text that fits into a width; an ellipsis replaces its middle."""
    most = max(int(width / LETTER_PX), 4)
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f'{text[: most - 1 - half]}…{text[len(text) - half :]}'


def svg(drawing: Drawing, alt: str, *, fixed: bool = False) -> Markup:
    """A drawing as SVG.

    Args:
        drawing: the shapes.
        alt: a sentence that says what is seen.
        fixed: whether colors are written as numbers, for a file; in a page they are variables.
    """
    parts = Markup('').join(_svg_shape(shape, fixed) for shape in drawing.shapes)
    paper = Markup('')
    if fixed:
        sheet = Box(0, 0, drawing.width, drawing.height, 'paper')
        paper = _svg_shape(sheet, fixed)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{}" '
        'font-size="{}" font-family="system-ui, Liberation Sans, sans-serif">{}{}</svg>'
    ).format(_n(drawing.width), _n(drawing.height), _printable(alt), FONT_PX, paper, parts)


def _n(value: float) -> str:
    return f'{value:.1f}'.removesuffix('.0')


def _printable(text: str) -> str:
    """Text without the control characters that XML does not allow."""
    return ''.join(c if c.isprintable() else '�' for c in text)


def _svg_color(name: str | None, fixed: bool) -> str:
    if name is None:
        return 'none'
    return colors.LIGHT[name] if fixed else f'var(--{name})'


@functools.singledispatch
def _svg_shape(shape: Shape, fixed: bool) -> Markup:
    raise TypeError(f'{type(shape).__name__} is no shape')


@_svg_shape.register
def _(shape: Path, fixed: bool) -> Markup:
    points = ' '.join(f'{_n(x)},{_n(y)}' for x, y in shape.points)
    dash = Markup(' stroke-dasharray="4 3"') if shape.dashed else ''
    name = 'polyline' if shape.fill is None else 'polygon'
    return Markup(
        '<{0} points="{1}" fill="{2}" fill-opacity="{3}" stroke="{4}" stroke-width="{5}"{6}/>'
    ).format(
        name,
        points,
        _svg_color(shape.fill, fixed),
        _n2(shape.opacity),
        _svg_color(shape.color, fixed),
        _n(shape.width),
        dash,
    )


@_svg_shape.register
def _(shape: Circle, fixed: bool) -> Markup:
    fill = _svg_color(shape.fill or shape.color, fixed)
    return Markup(
        '<circle cx="{}" cy="{}" r="{}" fill="{}" stroke="{}" stroke-width="{}"{}{}/>'
    ).format(
        _n(shape.x),
        _n(shape.y),
        _n(shape.radius),
        fill,
        _svg_color(shape.color, fixed),
        _n(shape.width),
        _opacity(shape.opacity),
        '' if shape.index is None else Markup(' data-i="{}"').format(shape.index),
    )


@_svg_shape.register
def _(shape: Box, fixed: bool) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}"{}/>').format(
        *map(_n, (shape.x, shape.y, shape.width, shape.height)),
        _svg_color(shape.color, fixed),
        _opacity(shape.opacity),
    )


@_svg_shape.register
def _(shape: Text, fixed: bool) -> Markup:
    size = '' if shape.size == FONT_PX else Markup(' font-size="{}"').format(_n(shape.size))
    weight = Markup(' font-weight="600"') if shape.bold else ''
    return Markup('<text x="{}" y="{}" text-anchor="{}" fill="{}"{}{}>{}</text>').format(
        _n(shape.x),
        _n(shape.y),
        shape.anchor,
        _svg_color(shape.color, fixed),
        size,
        weight,
        _printable(shape.text),
    )


@_svg_shape.register
def _(shape: Shading, fixed: bool) -> Markup:
    """Opacities as an image that is a mask of the color."""
    levels = np.round(255 * np.clip(shape.shares, 0, 1)).astype(np.uint8)
    mask = Image.fromarray(levels)
    buffer = io.BytesIO()
    mask.save(buffer, 'PNG', optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    name = f'mask{zlib.crc32(data.encode()):x}'
    place = Markup('x="{}" y="{}" width="{}" height="{}"').format(
        *map(_n, (shape.x, shape.y, shape.width, shape.height))
    )
    return Markup(
        '<mask id="{0}"><image {1} preserveAspectRatio="none" style="image-rendering:pixelated" '
        'href="data:image/png;base64,{2}"/></mask><rect {1} fill="{3}" mask="url(#{0})"/>'
    ).format(name, place, data, _svg_color(shape.color, fixed))


def _n2(value: float) -> str:
    return f'{value:.2f}'.rstrip('0').rstrip('.')


def _opacity(value: float) -> Markup | str:
    return '' if value == 1.0 else Markup(' opacity="{}"').format(_n2(value))


def png(drawing: Drawing) -> Image.Image:
    """A drawing as an image, in light colors."""
    size = [round(side) * SCALE * OVERSAMPLING for side in (drawing.width, drawing.height)]
    canvas = _Canvas(Image.new('RGB', (size[0], size[1]), colors.LIGHT['paper']))
    for shape in drawing.shapes:
        canvas.draw(shape)
    return canvas.image.reduce(OVERSAMPLING)


class _Canvas:
    """An image that shapes are drawn on, enlarged."""

    def __init__(self, image: Image.Image):
        self.image = image
        self._pen = ImageDraw.Draw(image, 'RGBA')
        self._unit = SCALE * OVERSAMPLING

    def draw(self, shape: Shape) -> None:
        """Draws a shape over the earlier ones."""
        if isinstance(shape, Path):
            self._path(shape)
        elif isinstance(shape, Circle):
            self._circle(shape)
        elif isinstance(shape, Box):
            corners = (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)
            self._pen.rectangle(self._scaled(corners), _rgba(shape.color, shape.opacity))
        elif isinstance(shape, Text):
            self._text(shape)
        else:
            self._shading(shape)

    def _scaled(self, values: Sequence[float]) -> list[float]:
        return [value * self._unit for value in values]

    def _path(self, shape: Path) -> None:
        points = [(x * self._unit, y * self._unit) for x, y in shape.points]
        if shape.fill is not None and len(points) > 2:
            self._pen.polygon(points, _rgba(shape.fill, shape.opacity))
        if shape.color is None:
            return
        width = max(1, round(shape.width * self._unit))
        pieces = _dashes(points, 4 * self._unit, 3 * self._unit) if shape.dashed else [points]
        for piece in pieces:
            self._pen.line(piece, _rgba(shape.color), width, joint='curve')

    def _circle(self, shape: Circle) -> None:
        r, half = shape.radius, shape.width / 2
        box = (shape.x - r - half, shape.y - r - half, shape.x + r + half, shape.y + r + half)
        fill, edge = shape.fill or shape.color, _rgba(shape.color, shape.opacity)
        width = round(shape.width * self._unit)
        self._pen.ellipse(self._scaled(box), _rgba(fill, shape.opacity), edge, width)

    def _text(self, shape: Text) -> None:
        anchor = {'start': 'ls', 'middle': 'ms', 'end': 'rs'}[shape.anchor]
        font = _font(round(shape.size * self._unit))
        place = (shape.x * self._unit, shape.y * self._unit)
        text = _printable(shape.text)
        bold = round(0.03 * shape.size * self._unit) if shape.bold else 0
        self._pen.text(place, text, _rgba(shape.color), font, anchor, stroke_width=bold)

    def _shading(self, shape: Shading) -> None:
        size = (round(shape.width * self._unit), round(shape.height * self._unit))
        levels = np.round(255 * np.clip(shape.shares, 0, 1)).astype(np.uint8)
        mask = Image.fromarray(levels).resize(size, Image.Resampling.NEAREST)
        place = (round(shape.x * self._unit), round(shape.y * self._unit))
        self.image.paste(colors.LIGHT[shape.color], place, mask)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _rgba(name: str, opacity: float = 1.0) -> tuple[int, int, int, int]:
    return (*colors.rgb(colors.LIGHT[name]), round(255 * opacity))


def _dashes(points: Points, on: float, off: float) -> list[list[tuple[float, float]]]:
    """The pieces of a dashed line through points."""
    pieces = []
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        length = max(((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5, 1e-9)
        for start in np.arange(0, length, on + off):
            shares = start / length, min(start + on, length) / length
            pieces.append([(x1 + (x2 - x1) * t, y1 + (y2 - y1) * t) for t in shares])
    return pieces
