"""A drawing as an image."""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tljax.records.figures import colors
from tljax.records.figures.drawing import (
    Box,
    Circle,
    Drawing,
    Path,
    Points,
    Shading,
    Shape,
    Text,
    printable,
)

SCALE = 2  # pixels of an image per unit of a drawing
OVERSAMPLING = 2  # in each direction, for smooth edges


def render(drawing: Drawing) -> Image.Image:
    """Renders a drawing as an image, in light colors."""
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
        text = printable(shape.text)
        bold = round(0.03 * shape.size * self._unit) if shape.bold else 0
        if shape.halo:
            edge = round(1.5 * self._unit) + bold
            self._pen.text(place, text, _rgba('paper'), font, anchor, stroke_width=edge)
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
