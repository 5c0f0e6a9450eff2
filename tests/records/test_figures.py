"""The colors of figures, and the two forms that a drawing is rendered in."""

import itertools

import numpy as np
import pytest

from tljax.records.figures import (
    axes,
    colors,
    costs,
    curves,
    drawing,
    heat_map,
    intervals,
    parallel,
    pdf,
    png,
    svg,
)
from tljax.records.pages import page


def luminance(color):
    """The relative luminance of WCAG 2.2."""
    values = np.array(colors.rgb(color)) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize('scheme', [colors.LIGHT, colors.DARK], ids=['light', 'dark'])
def test_text_has_a_contrast_of_4_5_to_its_background(scheme):
    texts = ('ink', 'quiet', 'accent', 'warn', *colors.SERIES)
    for text, background in itertools.product(texts, ('paper', 'panel')):
        dark, light = sorted(luminance(scheme[name]) for name in (text, background))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, background)


def test_a_box_has_the_same_place_and_color_as_svg_and_as_image():
    sheet = drawing.Drawing(40, 20, [drawing.Box(10, 5, 20, 10, 'accent')])
    markup = svg.render(sheet, 'a <box>', fixed=True)
    assert f'x="10" y="5" width="20" height="10" fill="{colors.LIGHT["accent"]}"' in markup
    assert 'aria-label="a &lt;box&gt;"' in markup
    picture = np.asarray(png.render(sheet))
    assert picture.shape == (20 * png.SCALE, 40 * png.SCALE, 3)
    assert tuple(picture[10 * png.SCALE, 20 * png.SCALE]) == colors.rgb(colors.LIGHT['accent'])
    assert tuple(picture[2, 2]) == colors.rgb(colors.LIGHT['paper'])


def shapes(sheet, kind):
    """The shapes of a drawing that are of one kind."""
    return [shape for shape in sheet.shapes if isinstance(shape, kind)]


def test_a_heat_map_has_a_dash_where_a_value_is_missing_and_is_darkest_at_the_largest():
    values = np.array([[0.5, np.nan], [0.6, 0.9]])
    sheet = heat_map.heat_map(values, ['a', 'b'], ['c', 'd'], label='x')
    texts = [text.text for text in shapes(sheet, drawing.Text)]
    assert [text for text in texts if text in ('50.0', '–', '60.0', '90.0')] == [
        *('50.0', '–', '60.0', '90.0')
    ]
    (shading,) = shapes(sheet, drawing.Shading)
    assert shading.shares[0, 1] == 0
    assert shading.shares.argmax() == 3


def test_a_logarithmic_axis_has_equal_distances_between_equal_ratios():
    line = curves.Curve(name='a', xs=[1, 10, 100], ys=[0, 1, 2], color='accent', dots=True)
    sheet = curves.chart([line], x_label='x', log_x=True, x_ticks=[1, 10, 100])
    xs = [circle.x for circle in shapes(sheet, drawing.Circle)]
    assert xs[2] - xs[1] == pytest.approx(xs[1] - xs[0])


def test_the_rings_of_a_row_are_at_the_values_of_its_points():
    row = intervals.Interval(name='a', value=0.5, low=0.4, high=0.6, points=[0.4, 0.6])
    circles = shapes(intervals.dots([row], label='x'), drawing.Circle)
    first, second, mean = (circle.x for circle in circles)
    assert mean == pytest.approx((first + second) / 2)


def test_the_labels_of_a_cost_figure_are_inside_the_plot_and_do_not_overlap():
    points = [
        costs.Point(
            name=f'a name of some length {index}',
            cost=cost,
            accuracy=accuracy,
            interval=(accuracy - 0.01, accuracy + 0.01),
            color='accent',
        )
        for index, (cost, accuracy) in enumerate([(1, 0.5), (1.1, 0.5), (1.2, 0.501), (9, 0.9)])
    ]
    sheet = costs.costs(points, label='time')
    labels = [text for text in shapes(sheet, drawing.Text) if text.text.startswith('a name')]
    for text in labels:
        width = drawing.text_width(text.text) * (1 if text.anchor == 'start' else -1)
        assert min(text.x, text.x + width) > costs.LEFT
        assert max(text.x, text.x + width) < costs.RIGHT
    for one, other in itertools.combinations(labels, 2):
        assert abs(one.y - other.y) >= 12 or abs(one.x - other.x) >= 100


def test_the_numbers_below_a_cost_figure_do_not_overlap():
    points = [
        costs.Point(name='', cost=cost, accuracy=0.5, interval=(0.4, 0.6), color='accent')
        for cost in (2e-4, 0.05)
    ]
    texts = [t for t in shapes(costs.costs(points, label=''), drawing.Text) if t.text.endswith('s')]
    ends = [(t.x - drawing.text_width(t.text) / 2, t.x + drawing.text_width(t.text) / 2)
            for t in texts]  # fmt: skip
    assert len(texts) >= 3
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ends))


def test_seconds_are_written_in_the_unit_that_makes_them_short():
    texts = [axes.seconds_text(seconds) for seconds in (0, 7.4e-5, 0.02, 0.5, 40, 720, 10800)]
    assert texts == ['0 s', '0.074 ms', '20 ms', '0.5 s', '40 s', '12 min', '3 h']


def test_parallel_coordinates_draw_highlighted_lines_last_and_leave_out_missing_values():
    coordinates = [
        parallel.named('kind', ['a', 'b', None]),
        parallel.numeric('rate', [0.1, 0.001, 0.01], log=True),
    ]
    assert coordinates[1].places == pytest.approx([1, 0, 0.5])
    lines = shapes(parallel.parallel(coordinates, [0]), drawing.Path)
    colored = [line.color for line in lines if line.color in ('accent', 'faint')]
    assert colored == ['faint', 'accent']  # the third has one value, which makes no line


def test_every_kind_of_shape_is_in_a_pdf_and_a_dollar_is_text(tmp_path):
    sheet = drawing.Drawing(
        100,
        100,
        [
            drawing.line(0, 0, 9, 9, dashed=True),
            drawing.Path([(0, 0), (9, 0), (9, 9)], None, fill='accent', opacity=0.5),
            drawing.Circle(50, 50, 5, 'accent', 'paper'),
            drawing.Box(1, 1, 5, 5, 'ink', 0.5),
            drawing.Text(10, 90, '$x_1 ∑', halo=True, bold=True),
            drawing.Shading(60, 60, 20, 20, 'accent', np.array([[0.1, 0.9]])),
        ],
    )
    pdf.write(tmp_path / 'a.pdf', sheet)
    assert (tmp_path / 'a.pdf').read_bytes().startswith(b'%PDF')


def test_figures_of_an_earlier_page_are_deleted(tmp_path):
    for name in ('old.svg', 'old.pdf', 'notes.txt'):
        (tmp_path / name).touch()
    page.write_figures(tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_round_numbers_of_a_logarithmic_axis_are_inside_its_range():
    assert axes.decades(3, 60) == [5, 10, 20, 50]
