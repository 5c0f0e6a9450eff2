"""`tljax augment`: a picture, and errors of a line."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from tljax.augment import Copy, HorizontalFlip, MixUp, RandAugment, RandomErasing, Rotate
from tljax.commands import augment
from tljax.training import augmented_views

QUICKSTART = f'--config={pathlib.Path(__file__).parents[2]}/configs/quickstart.py'
POLICY = (Copy(views=2), Rotate(degrees=30), HorizontalFlip(), MixUp(), RandomErasing())


def images(count=3, side=24):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def test_a_picture_is_written_where_it_is_asked_for(tmp_path):
    out = tmp_path / 'new' / 'picture.png'
    assert augment.main([QUICKSTART, '--rows=2', '--columns=3', f'--out={out}']) == 0
    with Image.open(out) as picture:
        assert picture.width == 12 + 4 * 212
        assert picture.height > 2 * 212


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], '--config=NAME_OR_FILE is missing'),
        ([QUICKSTART, '--config.augmentations=()'], 'augmentations is ()'),
        ([QUICKSTART, '--rows=1', '--columns=1', '--out=picture.xyz'], 'xyz'),
    ],
)
def test_what_cannot_be_drawn_is_an_error_of_one_line(
    words, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert augment.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_every_view_is_captioned_with_each_operation_and_what_it_drew():
    rows = augmented_views.viewer(POLICY)(images(), np.arange(3), 0, 0)
    assert [len(row) for row in rows] == [2, 2, 2]
    for row in rows:
        for number, (pixels, lines) in enumerate(row):
            assert pixels.shape == (24, 24, 3)
            assert lines[0] == f'Copy {number + 1} of 2'
            assert lines[1].startswith('Rotate')
            assert lines[1].endswith('degrees')
            assert 'HorizontalFlip' in lines[2]
            assert lines[3].endswith('of one image')
            assert 'RandomErasing' in lines[4]


def test_a_caption_tells_what_was_done():
    """Turning back by the angle in the caption gives the image, away from its border."""
    smooth = Image.fromarray(images(1, 9)[0]).resize((65, 65), Image.Resampling.BICUBIC)
    views = augmented_views.viewer((Rotate(degrees=45),))
    ((pixels, [line]),) = views(np.asarray(smooth)[None], np.arange(1), 0, 0)[0]
    degrees = float(line.split()[1])
    wanted = np.asarray(smooth.rotate(degrees, Image.Resampling.BILINEAR), np.float32)
    assert np.abs(pixels - wanted)[20:45, 20:45].max() < 6


def test_views_of_a_policy_differ_between_steps_and_not_between_calls():
    views = augmented_views.viewer((RandAugment(),))
    one, again, other = (views(images(), np.arange(3), 0, step)[0][0] for step in (0, 0, 1))
    np.testing.assert_array_equal(one[0], again[0])
    assert one[1] == again[1]
    assert one[1] != other[1]
