"""The compiled resizing: Pillow's pixels, bit by bit."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from tljax.data import decode
from tljax.types import Interpolation, Preprocessing

resize = pytest.importorskip('tljax.data.resize', reason='needs numba, of the extra `fast`')


@pytest.fixture(autouse=True)
def compiled_at_once(monkeypatch):
    monkeypatch.setattr(decode, 'COMPILED_FROM', 0)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def by_pillow(image, side, interpolation):
    """The image, with the short side resized and the centre cut out by Pillow."""
    height, width = image.shape[:2]
    short = min(height, width)
    size = tuple(int(side * n / short) for n in (width, height))
    whole = np.asarray(Image.fromarray(image).resize(size, decode.RESAMPLING[interpolation]))
    left, top = (round((n - side) / 2) for n in size)
    return whole[top : top + side, left : left + side]


def agree(height, width, side, interpolation):
    image = noise(height, width)
    image.flags.writeable = False  # as Pillow gives them
    preprocessing = Preprocessing(size_px=side, resize_px=side, interpolation=interpolation)
    wanted = by_pillow(image, side, interpolation)
    np.testing.assert_array_equal(decode.resize_square(image, preprocessing), wanted)


SIDES = st.integers(1, 120)


@settings(deadline=None, max_examples=100)
@given(SIDES, SIDES, st.integers(1, 60), st.sampled_from([*Interpolation]))
def test_resized_images_have_the_exact_pixels_of_pillow(height, width, side, interpolation):
    short, long = sorted((height, width))
    assume(long <= 16 * short)  # a longer one is cut before
    agree(height, width, side, interpolation)


@pytest.mark.parametrize('interpolation', Interpolation)
@pytest.mark.parametrize('shape', [(375, 500), (500, 333), (100, 1600), (224, 200), (1500, 700)])
def test_large_resized_images_have_the_exact_pixels_of_pillow(shape, interpolation):
    agree(*shape, 256, interpolation)


def test_a_view_that_is_not_contiguous_is_resized_too():
    image = noise(80, 120)[::2, ::-1]
    wanted = by_pillow(np.ascontiguousarray(image), 16, Interpolation.BILINEAR)
    np.testing.assert_array_equal(resize.central_square(image, (48, 16), 16), wanted)


def test_a_single_channel_is_resized_by_pillow():
    channel = noise(40, 33)[..., 0]
    preprocessing = Preprocessing(size_px=16, resize_px=16)
    wanted = by_pillow(channel, 16, Interpolation.BILINEAR)
    np.testing.assert_array_equal(decode.resize_square(channel, preprocessing), wanted)


def test_the_compiled_resizing_starts_when_it_pays(monkeypatch):
    calls = []
    monkeypatch.setattr(decode, '_resized', itertools.count())
    monkeypatch.setattr(decode, 'COMPILED_FROM', 3)
    monkeypatch.setattr(resize, 'central_square', lambda *given: calls.append(given))
    for _ in range(5):
        decode.resize_square(noise(20, 30), Preprocessing(size_px=8, resize_px=8))
    assert len(calls) == 2
