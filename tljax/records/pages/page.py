"""Renders a page as one self-contained HTML file, and its figures as files."""

import functools
import pathlib

import jinja2

from tljax.records.figures import colors, pdf, png, svg
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Page

FIGURES = 'figures'  # the folder of the figures


@functools.cache
def _templates() -> jinja2.Environment:
    """The templates in this folder; they escape text, and an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('tljax.records.pages'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['kind'] = lambda block: type(block).__name__.lower()
    return environment


def render(page: Page) -> str:
    """The HTML of a page."""
    template = _templates().get_template('page.html')
    return template.render(page=page, light=colors.LIGHT, dark=colors.DARK)


def write(path: pathlib.Path, page: Page) -> None:
    """Writes a page, completely or not at all."""
    part = path.with_name(path.name + '.part')
    try:
        part.write_text(render(page), encoding='utf-8', errors='backslashreplace')
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_figures(folder: pathlib.Path, figures: list[Figure], *, with_pdf: bool = False) -> None:
    """Writes each figure as NAME.svg, NAME.png and NAME.csv; deletes those of an earlier page.

    Args:
        folder: of the figures.
        figures: with different names.
        with_pdf: whether to write NAME.pdf too, which needs matplotlib.
    """
    folder.mkdir(exist_ok=True)
    for suffix in ('svg', 'png', 'csv', 'pdf'):
        for old in folder.glob(f'*.{suffix}'):
            old.unlink()
    for figure in figures:
        path = folder / figure.name
        texts = {
            '.svg': svg.render(figure.drawing, figure.alt, fixed=True) + '\n',
            '.csv': figure.csv(),
        }
        for suffix, text in texts.items():
            file = path.with_suffix(suffix)
            file.write_text(text, encoding='utf-8', errors='backslashreplace')
        png.render(figure.drawing).save(path.with_suffix('.png'))
        if with_pdf:
            pdf.write(path.with_suffix('.pdf'), figure.drawing)
