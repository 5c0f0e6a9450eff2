"""Printed characters: of Pillow's font, or of a font of another script."""

import pathlib

import numpy as np
import pytest

from tljax.data.glyphs import Glyphs, printed


def dejavu():
    """A font that has Eastern Arabic digits; it comes with matplotlib."""
    matplotlib = pytest.importorskip('matplotlib')
    return str(pathlib.Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'))


def test_an_image_is_a_function_of_the_seed_and_its_id():
    one, other, another = (
        Glyphs(train_per_class=2, seed=seed).splits()['train'] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.load(13), other.load(13))
    assert (one.load(13) != another.load(13)).any()
    assert one.load(13).shape == (8, 8, 3)
    assert (one.class_names[one.labels[13]], len(one)) == ('3', 20)


def test_characters_of_another_script_are_drawn_in_a_font_that_has_them():
    arabic = Glyphs(characters='١٥', font=dejavu(), bend=0, noise_levels=0, size_px=32)
    assert arabic.problems() == []
    bar, ring = (arabic.splits()['train'].load(index)[..., 0].astype(int) for index in range(2))
    middle = (slice(14, 18), slice(14, 18))
    assert bar[:, 10:22].max(1).mean() > 100 > ring[middle].mean()  # a ring for a five
    np.testing.assert_array_equal(printed('3', None), printed('3'))
    assert (printed('3', dejavu()) != printed('3')).any()


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'characters': '٠٥'}, 'wanted two or more digits and Latin letters, each once'),
        ({'characters': 'aa', 'font': __file__}, 'wanted two or more characters, each once'),
        ({'font': 'nowhere.ttf'}, 'font is nowhere.ttf, wanted a TrueType file'),
    ],
)
def test_characters_that_cannot_be_drawn_are_named(fields, words):
    assert words in Glyphs(**fields).problems()[0]
