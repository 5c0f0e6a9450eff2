"""Renders a page as one self-contained HTML file, and its figures as files."""

import functools
import pathlib
from collections.abc import Sequence

import jinja2

from tljax.records.figures import colors, pdf, png, svg
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Block, Listing, Page, Section

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


def serving(title: str, notes: Sequence[str], most_bytes: int) -> str:
    """The HTML of the page of `tljax serve`, which sends images and shows the answers.

    Args:
        title: the first heading.
        notes: sentences about the predictions.
        most_bytes: the largest size of an image.
    """
    template = _templates().get_template('serve.html')
    about = Section(title='About these predictions', blocks=[Listing(notes)])
    content = Page(title=title, sections=[about], script='serve.js')
    return template.render(
        page=content, most_bytes=most_bytes, light=colors.LIGHT, dark=colors.DARK
    )


def fragment(blocks: Sequence[Block]) -> str:
    """The HTML of blocks for a notebook, with its style sheet, in the scheme of the notebook."""
    template = _templates().get_template('fragment.html')
    html = template.render(blocks=blocks, light=colors.LIGHT, dark=colors.DARK)
    # Markdown, in which some viewers embed the output, ends a block of HTML at an empty line.
    return '\n'.join(line for line in html.splitlines() if line.strip())


def write(path: pathlib.Path, page: Page) -> None:
    """Writes a page, completely or not at all."""
    part = path.with_name(path.name + '.part')
    try:
        part.write_text(render(page), encoding='utf-8', errors='backslashreplace')
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_figures(folder: pathlib.Path, figures: list[Figure], *, with_pdf: bool = False) -> None:
    """Writes each figure as NAME.svg, NAME.png and NAME.csv; deletes other ones.

    Args:
        folder: of the figures.
        figures: with different names.
        with_pdf: whether to write NAME.pdf too, which needs matplotlib.
    """
    folder.mkdir(exist_ok=True)
    suffixes = ('.svg', '.csv', '.png', '.pdf') if with_pdf else ('.svg', '.csv', '.png')
    names = {f'{figure.name}{suffix}' for figure in figures for suffix in suffixes}
    for suffix in ('svg', 'csv', 'png', 'pdf'):
        for old in folder.glob(f'*.{suffix}'):
            if old.name not in names:
                old.unlink(missing_ok=True)
    for figure in figures:
        _write_figure(folder / figure.name, figure, with_pdf=with_pdf)


def _write_figure(path: pathlib.Path, figure: Figure, *, with_pdf: bool) -> None:
    """Writes the files of a figure; an unchanged drawing is not rendered again.

    The SVG file is written last, so that it is only there if the others fit it.
    """
    path.with_suffix('.csv').write_text(figure.csv(), encoding='utf-8', errors='backslashreplace')
    drawing = path.with_suffix('.svg')
    image, document = path.with_suffix('.png'), path.with_suffix('.pdf')
    content = (svg.render(figure.drawing, figure.alt, fixed=True) + '\n').encode(
        'utf-8', 'backslashreplace'
    )
    complete = image.exists() and (document.exists() or not with_pdf)
    if complete and drawing.exists() and drawing.read_bytes() == content:
        return
    drawing.unlink(missing_ok=True)
    png.render(figure.drawing).save(image)
    if with_pdf:
        pdf.write(document, figure.drawing)
    drawing.write_bytes(content)
