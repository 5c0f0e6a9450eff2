"""A drawing as a PDF file, by matplotlib, which is optional: `pip install 'tljax[plot]'`."""

import functools
import importlib.util
import pathlib
from typing import Any

import numpy as np

from tljax.records.figures import colors
from tljax.records.figures.drawing import (
    Box,
    Circle,
    Drawing,
    Path,
    Shading,
    Shape,
    Text,
    printable,
)
from tljax.types import InputError

POINTS = 0.75  # points per pixel of a drawing
INCHES = POINTS / 72


def is_available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec('matplotlib') is not None


def write(path: pathlib.Path, drawing: Drawing) -> None:
    """Writes a drawing as a PDF file in light colors; its text stays text.

    Raises:
        InputError: matplotlib is not installed.
    """
    if not is_available():
        raise InputError("no PDF without matplotlib: pip install 'tljax[plot]'")
    import matplotlib
    from matplotlib.figure import Figure

    size = (drawing.width * INCHES, drawing.height * INCHES)
    figure = Figure(figsize=size, facecolor=colors.LIGHT['paper'])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.axis('off')
    for order, shape in enumerate(drawing.shapes):
        _draw(shape, axes, order)
    with matplotlib.rc_context({'pdf.fonttype': 42}):  # TrueType, which journals accept
        figure.savefig(path, format='pdf', metadata={'CreationDate': None})


def _color(name: str | None) -> str:
    return 'none' if name is None else colors.LIGHT[name]


@functools.singledispatch
def _draw(shape: Shape, axes: Any, order: int) -> None:
    """Draws a shape over those with a smaller order."""
    raise TypeError(f'{type(shape).__name__} is not a shape')


@_draw.register
def _(shape: Path, axes: Any, order: int) -> None:
    xs, ys = zip(*shape.points, strict=True)
    if shape.fill is not None:
        axes.fill(xs, ys, color=_color(shape.fill), alpha=shape.opacity, lw=0, zorder=order)
    if shape.color is not None:
        axes.plot(
            xs,
            ys,
            color=_color(shape.color),
            lw=shape.width * POINTS,
            ls=(0, (4, 3)) if shape.dashed else '-',
            zorder=order,
        )


@_draw.register
def _(shape: Circle, axes: Any, order: int) -> None:
    from matplotlib.patches import Circle as Patch

    patch = Patch(
        (shape.x, shape.y),
        shape.radius,
        facecolor=_color(shape.fill or shape.color),
        edgecolor=_color(shape.color),
        linewidth=shape.width * POINTS,
        alpha=shape.opacity,
        zorder=order,
    )
    axes.add_patch(patch)


@_draw.register
def _(shape: Box, axes: Any, order: int) -> None:
    from matplotlib.patches import Rectangle

    corner, color = (shape.x, shape.y), _color(shape.color)
    patch = Rectangle(
        corner, shape.width, shape.height, color=color, alpha=shape.opacity, lw=0, zorder=order
    )
    axes.add_patch(patch)


@_draw.register
def _(shape: Text, axes: Any, order: int) -> None:
    axes.text(
        shape.x,
        shape.y,
        printable(shape.text),
        ha={'start': 'left', 'middle': 'center', 'end': 'right'}[shape.anchor],
        va='baseline',
        color=_color(shape.color),
        fontsize=shape.size * POINTS,
        fontweight='bold' if shape.bold else 'normal',
        parse_math=False,  # a $ in a name is a $
        zorder=order,
    )


@_draw.register
def _(shape: Shading, axes: Any, order: int) -> None:
    red, green, blue = colors.rgb(colors.LIGHT[shape.color])
    image = np.zeros((*shape.shares.shape, 4))
    image[..., :3] = np.array([red, green, blue]) / 255
    image[..., 3] = np.clip(shape.shares, 0, 1)
    extent = (shape.x, shape.x + shape.width, shape.y + shape.height, shape.y)
    axes.imshow(image, extent=extent, interpolation='nearest', aspect='auto', zorder=order)
