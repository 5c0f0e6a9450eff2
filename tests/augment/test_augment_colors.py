"""Color operations beside Pillow's, and what noise, blur and rectangles do."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tljax.augment import colors
from tljax.augment.damage import Blur, Cutout, GaussianNoise, RandomErasing, SaltAndPepper
from tljax.augment.photometric import Brightness, Grayscale

FACTORS = [0.0, 0.1, 0.7, 1.0, 1.3, 1.9]
ENHANCE = {
    'brightness': (colors.brightness, ImageEnhance.Brightness),
    'contrast': (colors.contrast, ImageEnhance.Contrast),
    'saturation': (colors.saturation, ImageEnhance.Color),
    'sharpness': (colors.sharpness, ImageEnhance.Sharpness),
}
OPS = {
    'grayscale': (colors.grayscale, lambda x: ImageOps.grayscale(x).convert('RGB')),
    'invert': (colors.invert, ImageOps.invert),
    'autocontrast': (colors.autocontrast, ImageOps.autocontrast),
    'equalize': (colors.equalize, ImageOps.equalize),
    'solarize 0': (lambda x: colors.solarize(x, 0.0), lambda x: ImageOps.solarize(x, 0)),
    'solarize 100': (lambda x: colors.solarize(x, 100.0), lambda x: ImageOps.solarize(x, 100)),
    'solarize 256': (lambda x: colors.solarize(x, 256.0), lambda x: ImageOps.solarize(x, 256)),
    **{
        f'posterize {n}': (
            lambda x, n=n: colors.posterize(x, float(n)),
            lambda x, n=n: ImageOps.posterize(x, n),
        )
        for n in (1, 3, 4, 8)
    },
}


def pictures():
    """uint8 images [H, W, 3]: noise, dark noise, a photograph's smoothness, one colour."""
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(40, 30, 3)).cumsum(0).cumsum(1)
    smooth = 60 + 120 * (smooth - smooth.min()) / np.ptp(smooth)
    dark = rng.integers(20, 90, (17, 23, 3))
    return {
        'noise': rng.integers(0, 256, (40, 30, 3)).astype(np.uint8),
        'dark': dark.astype(np.uint8),
        'smooth': smooth.astype(np.uint8),
        'flat': np.full((9, 8, 3), (10, 200, 30), np.uint8),
    }


PICTURES = pictures()
each_picture = pytest.mark.parametrize('picture', PICTURES)


def difference(ours, pillows, image):
    """The largest, in grey levels."""
    found = np.asarray(jax.jit(ours)(jnp.asarray(image, jnp.float32)))
    wanted = np.asarray(pillows(Image.fromarray(image)), np.float32)
    return np.abs(found - wanted).max()


@each_picture
@pytest.mark.parametrize('name', ENHANCE)
@pytest.mark.parametrize('factor', FACTORS)
def test_an_enhancement_agrees_with_pillow_to_one_grey_level(name, factor, picture):
    ours, pillows = ENHANCE[name]
    image = PICTURES[picture]
    assert difference(lambda x: ours(x, factor), lambda x: pillows(x).enhance(factor), image) <= 1


@each_picture
@pytest.mark.parametrize('name', OPS)
def test_an_operation_agrees_with_pillow_to_one_grey_level(name, picture):
    assert difference(*OPS[name], PICTURES[picture]) <= 1


@each_picture
@pytest.mark.parametrize('degrees', [-150.0, -20.0, 30.0, 120.0])
def test_hue_agrees_with_colorsys(degrees, picture):
    def turned(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + degrees / 360) % 1, s, v)

    image = PICTURES[picture]
    wanted = np.apply_along_axis(turned, -1, image / 255) * 255
    found = colors.hue(jnp.asarray(image, jnp.float32), degrees)
    np.testing.assert_allclose(found, wanted, atol=0.01)


@pytest.mark.parametrize('sigma', [0.8, 2.0])
def test_a_blur_is_near_pillows_gaussian_of_the_same_radius(sigma):
    """Pillow approximates it by three boxes."""
    image = Image.fromarray(PICTURES['smooth'])
    wanted = np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)), np.float32)
    found = colors.blur(jnp.asarray(PICTURES['smooth'], jnp.float32), sigma, 6)
    assert np.abs(found - wanted).max() < 3


def test_a_blur_keeps_the_sum_of_a_dot_and_spreads_it_by_its_sigma():
    dot = jnp.zeros((31, 31, 3)).at[15, 15].set(200)
    found = np.asarray(colors.blur(dot, 1.5, 7))[..., 0]
    place = np.arange(31) - 15
    assert found.sum() == pytest.approx(200, rel=1e-5)
    assert (found.sum(0) * place**2).sum() / 200 == pytest.approx(1.5**2, rel=0.01)


def many(one, image, count=200):
    """[count, H, W, 3] views of an image."""
    keys = jax.random.split(jax.random.key(0), count)
    images = jnp.broadcast_to(jnp.asarray(image, jnp.float32), (count, *image.shape))
    return np.asarray(jax.jit(one.__call__)(keys, images, jnp.zeros((count, 1)))[0])


GREY = np.full((16, 16, 3), 128.0)


def test_factors_fill_their_range_and_stop_there():
    factors = many(Brightness(strength=0.4), GREY)[:, 0, 0, 0] / 128
    assert factors.min() == pytest.approx(0.6, abs=0.02)
    assert factors.max() == pytest.approx(1.4, abs=0.02)


def test_what_has_a_probability_is_as_frequent_as_asked_for():
    found = many(Grayscale(probability=0.3), np.full((2, 2, 3), [200.0, 100.0, 0.0]), 1000)
    assert (found[:, 0, 0, 0] < 190).mean() == pytest.approx(0.3, abs=0.05)


def test_noise_has_the_deviation_that_is_drawn_and_another_for_each_pixel():
    deviations = many(GaussianNoise(max_levels=20.0), GREY).std((1, 2, 3))
    assert deviations.min() < 2
    assert 18 < deviations.max() < 22


def test_salt_and_pepper_are_equally_frequent_and_whole_pixels():
    found = many(SaltAndPepper(pixel_share=0.5), GREY)
    salt, pepper = (found == 255).all(-1).mean(), (found == 0).all(-1).mean()
    assert salt == pytest.approx(0.125, abs=0.02)
    assert pepper == pytest.approx(0.125, abs=0.02)
    assert ((found == 255).all(-1) | (found == 0).all(-1) | (found == 128).all(-1)).all()


def test_cutout_is_a_square_of_its_side_where_it_does_not_jut_out():
    holes = (many(Cutout(side_share=0.5, value=0.0), GREY) == 0).all(-1)
    assert set(np.unique(holes.any(2).sum(1))) <= set(range(4, 9))
    assert holes.sum((1, 2)).max() == 64


def test_erasing_covers_areas_within_its_range_as_often_as_asked_for():
    one = RandomErasing(probability=0.6, area_min=0.1, area_max=0.3)
    shares = (many(one, np.full((64, 64, 3), 300.0)) != 300).any(-1).mean((1, 2))
    assert (shares > 0).mean() == pytest.approx(0.6, abs=0.1)
    assert shares[shares > 0].min() > 0.07
    assert shares.max() < 0.33


def test_a_blur_draws_its_sigma_from_its_range():
    dot = np.zeros((21, 21, 3))
    dot[10, 10] = 255
    found = many(Blur(sigma_min_px=0.5, sigma_max_px=1.5, probability=0.5), dot)
    heights = found[:, 10, 10, 0]
    assert (heights == 255).mean() == pytest.approx(0.5, abs=0.1)
    middle = [255 * (np.exp(-0.5 * (np.arange(-5, 6) / s) ** 2).sum()) ** -2 for s in (1.5, 0.5)]
    blurred = heights[heights < 255]
    assert middle[0] * 0.95 < blurred.min() < middle[0] * 1.2
    assert middle[1] * 0.8 < blurred.max() < middle[1] * 1.05


@each_picture
@pytest.mark.parametrize('name', ['invert', 'equalize', 'solarize 100', 'posterize 3'])
def test_what_maps_whole_values_to_whole_values_is_pillows_exactly(name, picture):
    assert difference(*OPS[name], PICTURES[picture]) == 0
