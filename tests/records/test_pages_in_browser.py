"""Pages in headless Chromium: readable at both widths, dark and printed, without requests."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests import browser
from tljax.records.figures import curves, intervals, matrices, scatter
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages import page
from tljax.records.pages.blocks import (
    Card,
    Code,
    Facts,
    Figures,
    Gallery,
    Heading,
    Listing,
    Page,
    Row,
    Section,
    Table,
    Text,
)

NAMES = ('<img src=x onerror=console.error(1)>', 'W' * 60, 'two words', '犬' * 20)
LONG = 'folder/' * 30 + 'mahalanobis_of_a_long_file_name_without_any_space.png'


def picture():
    buffer = io.BytesIO()
    Image.new('RGB', (112, 112), 'teal').save(buffer, 'PNG')
    return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'


def figures():
    """A figure of each kind, with long and hostile names."""
    points = np.random.default_rng(0).normal(size=(40, 2))
    labels = [i % 4 for i in range(40)]
    rows = [Interval(name=n, value=0.5, low=0.2, high=1.0, text='100.0 %, 9 images') for n in NAMES]
    lines = [curves.Curve(name=n, xs=[1, 2], ys=[0.2, 0.9], color='accent') for n in NAMES]
    drawings = {
        'dots': intervals.dots(rows, label='accuracy'),
        'bars': intervals.bars(rows),
        'matrix': matrices.confusion(np.eye(4, dtype=int) * 1000, NAMES),
        'scatter': scatter.scatter(points, labels, [i < 3 for i in range(40)], NAMES),
        'curves': curves.chart(lines, x_label='epoch'),
    }
    return [
        Figure(name=n, title=n, alt=n, drawing=d, columns=('a',), rows=[(1,)])
        for n, d in drawings.items()
    ]


@pytest.fixture(scope='module')
def every_block(tmp_path_factory):
    """A page with every kind of block."""
    columns = ('score', *(f'column number {i}' for i in range(9)))
    cells = [[name, *['39.5 % (23.6 to 58.1)'] * 9] for name in (*NAMES, LONG)]
    rows = [
        Row(cells=c, style=s) for c, s in zip(cells, ('', 'chosen', 'far', '', ''), strict=True)
    ]
    cards = [Card(images=[(picture(), 'one')] * 2, lines=[name], path=LONG) for name in NAMES]
    texts = [Text(LONG, style) for style in ('', 'verdict', 'lead', 'caption', 'missing')]
    blocks = [
        *texts,
        Heading(LONG),
        Listing([LONG, *NAMES]),
        Code(f'tljax report {LONG}'),
        Facts([(name, LONG) for name in NAMES]),
        Table(name='wide', columns=columns, rows=rows, texts=(1,)),
        Table(name='folded', columns=columns, rows=rows, folded=True, caption=LONG),
        Figures(figures()),
        Gallery(cards=cards),
        Gallery(cards=cards, wide=True),
    ]
    sections = [Section(title=name, blocks=blocks) for name in ('All blocks', LONG)]
    path = tmp_path_factory.mktemp('page') / 'page.html'
    content = Page(title=LONG, opening=texts, sections=sections, footer=LONG, contents=True)
    page.write(path, content)
    return path


def test_a_page_of_every_block_is_readable_at_both_widths_in_dark_mode_and_printed(
    chromium, every_block
):
    assert not chromium.faults(every_block)


def test_a_page_is_printed_with_its_folded_tables(chromium, every_block):
    chromium.open(every_block)
    chromium.show(browser.Look(browser.PRINTED_PX, printed=True))
    shown = "document.querySelector('details table').getBoundingClientRect().height"
    assert chromium.evaluate(shown) > 0
    assert chromium.pdf().startswith(b'%PDF')


@pytest.mark.parametrize(
    ('markup', 'fault'),
    [
        ('<script>console.error("broken")</script>', 'console: '),
        ('<script>nothing.here</script>', 'console: '),
        ('<img src="https://example.invalid/a.png">', 'request: https://example.invalid/a.png'),
        ('<p style="width: 2000px">wide</p>', 'overflow of P'),
        ('<p style="color: #ccc; background: #fff">faint</p>', 'contrast of P faint'),
        ('<svg width="9" height="9"><text x="-30" y="9">axis</text></svg>', 'cut off: axis'),
    ],
)
def test_a_faulty_page_is_noticed(markup, fault, chromium, tmp_path):
    (tmp_path / 'bad.html').write_text(f'<!doctype html><body>{markup}</body>')
    faults = chromium.faults(tmp_path / 'bad.html', [browser.Look(400)])
    assert any(fault in one for one in faults), faults
