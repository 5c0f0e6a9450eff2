"""The colors of figures, and the two forms that a drawing is rendered in."""

import itertools

import numpy as np
import pytest

from tljax.records.figures import colors, drawing, png, svg


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
