"""A drawing as SVG."""

import base64
import functools
import io
import zlib

import numpy as np
from markupsafe import Markup
from PIL import Image

from tljax.records.figures import colors
from tljax.records.figures.drawing import (
    FONT_PX,
    Box,
    Circle,
    Drawing,
    Path,
    Shading,
    Shape,
    Text,
    printable,
)


def render(
    drawing: Drawing, alt: str, *, fixed: bool = False, both_schemes: bool = False
) -> Markup:
    """Renders a drawing as SVG.

    Args:
        drawing: the shapes.
        alt: the description for readers who cannot see it.
        fixed: whether colors are numbers, as a file needs them; in a page they are variables of its
            style sheet.
        both_schemes: whether the SVG has a style sheet of its own, with a light and a dark scheme,
            as a file needs it that is shown on a page.
    """
    parts = Markup('').join(_svg_shape(shape, fixed) for shape in drawing.shapes)
    paper = Markup('')
    if fixed or both_schemes:
        sheet = Box(0, 0, drawing.width, drawing.height, 'paper')
        paper = _style_sheet() if both_schemes else Markup('')
        paper += _svg_shape(sheet, fixed)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{}" '
        'font-size="{}" font-family="system-ui, Liberation Sans, sans-serif">{}{}</svg>'
    ).format(_number(drawing.width), _number(drawing.height), printable(alt), FONT_PX, paper, parts)


def _style_sheet() -> Markup:
    """The colors as variables, by the scheme that the reader prefers."""
    light, dark = (
        ''.join(f'--{name}:{color};' for name, color in scheme.items())
        for scheme in (colors.LIGHT, colors.DARK)
    )
    text = '<style>svg{{{}}}@media (prefers-color-scheme: dark){{svg{{{}}}}}</style>'
    return Markup(text.format(light, dark))


def _number(value: float, digits: int = 1) -> str:
    return f'{value:.{digits}f}'.rstrip('0').rstrip('.')


def _svg_color(name: str | None, fixed: bool) -> str:
    if name is None:
        return 'none'
    return colors.LIGHT[name] if fixed else f'var(--{name})'


@functools.singledispatch
def _svg_shape(shape: Shape, fixed: bool) -> Markup:
    raise TypeError(f'{type(shape).__name__} is not a shape')


@_svg_shape.register
def _(shape: Path, fixed: bool) -> Markup:
    points = ' '.join(f'{_number(x)},{_number(y)}' for x, y in shape.points)
    dash = Markup(' stroke-dasharray="4 3"') if shape.dashed else ''
    name = 'polyline' if shape.fill is None else 'polygon'
    return Markup(
        '<{0} points="{1}" fill="{2}" fill-opacity="{3}" stroke="{4}" stroke-width="{5}"{6}/>'
    ).format(
        name,
        points,
        _svg_color(shape.fill, fixed),
        _number(shape.opacity, 2),
        _svg_color(shape.color, fixed),
        _number(shape.width),
        dash,
    )


@_svg_shape.register
def _(shape: Circle, fixed: bool) -> Markup:
    fill = _svg_color(shape.fill or shape.color, fixed)
    return Markup(
        '<circle cx="{}" cy="{}" r="{}" fill="{}" stroke="{}" stroke-width="{}"{}{}/>'
    ).format(
        _number(shape.x),
        _number(shape.y),
        _number(shape.radius),
        fill,
        _svg_color(shape.color, fixed),
        _number(shape.width),
        _opacity(shape.opacity),
        '' if shape.index is None else Markup(' data-i="{}"').format(shape.index),
    )


@_svg_shape.register
def _(shape: Box, fixed: bool) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}"{}/>').format(
        *map(_number, (shape.x, shape.y, shape.width, shape.height)),
        _svg_color(shape.color, fixed),
        _opacity(shape.opacity),
    )


@_svg_shape.register
def _(shape: Text, fixed: bool) -> Markup:
    size = '' if shape.size == FONT_PX else Markup(' font-size="{}"').format(_number(shape.size))
    weight = Markup(' font-weight="600"') if shape.bold else ''
    halo: Markup | str = ''
    if shape.halo:
        outline = ' paint-order="stroke" stroke="{}" stroke-width="3" pointer-events="none"'
        halo = Markup(outline).format(_svg_color('paper', fixed))
    return Markup('<text x="{}" y="{}" text-anchor="{}" fill="{}"{}{}{}>{}</text>').format(
        _number(shape.x),
        _number(shape.y),
        shape.anchor,
        _svg_color(shape.color, fixed),
        size,
        weight,
        halo,
        printable(shape.text),
    )


@_svg_shape.register
def _(shape: Shading, fixed: bool) -> Markup:
    """A rectangle in the color, with the opacities as its mask."""
    levels = np.round(255 * np.clip(shape.shares, 0, 1)).astype(np.uint8)
    mask = Image.fromarray(levels)
    buffer = io.BytesIO()
    mask.save(buffer, 'PNG', optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    name = f'mask{zlib.crc32(data.encode()):x}'
    place = Markup('x="{}" y="{}" width="{}" height="{}"').format(
        *map(_number, (shape.x, shape.y, shape.width, shape.height))
    )
    return Markup(
        '<mask id="{0}"><image {1} preserveAspectRatio="none" style="image-rendering:pixelated" '
        'href="data:image/png;base64,{2}"/></mask><rect {1} fill="{3}" mask="url(#{0})"/>'
    ).format(name, place, data, _svg_color(shape.color, fixed))


def _opacity(value: float) -> Markup | str:
    return '' if value == 1.0 else Markup(' opacity="{}"').format(_number(value, 2))
