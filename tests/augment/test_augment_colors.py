"""Color operations beside Pillow's, and what noise, blur and rectangles do."""

import colorsys
import functools

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
    """uint8 images [17, 23, 3]: noise, dark noise, a photograph's smoothness, one colour."""
    rng, shape = np.random.default_rng(0), (17, 23, 3)
    smooth = rng.normal(size=shape).cumsum(0).cumsum(1)
    smooth = 60 + 120 * (smooth - smooth.min()) / np.ptp(smooth)
    dark = rng.integers(20, 90, shape)
    return {
        'noise': rng.integers(0, 256, shape).astype(np.uint8),
        'dark': dark.astype(np.uint8),
        'smooth': smooth.astype(np.uint8),
        'flat': np.full(shape, (10, 200, 30), np.uint8),
    }


PICTURES = pictures()
each_picture = pytest.mark.parametrize('picture', PICTURES)


HUES = [-150.0, -20.0, 30.0, 120.0]


@functools.cache
def changed():
    """`{operation: [pictures, H, W, 3]}`, and `[factors, ...]` of what takes one; one program."""

    @jax.jit
    def all_of_them(images, factors, hues):
        each = {name: jax.vmap(ours)(images) for name, (ours, _) in OPS.items()}
        for name, (ours, _) in ENHANCE.items():
            each[name] = jax.vmap(lambda f, ours=ours: jax.vmap(lambda x: ours(x, f))(images))(
                factors
            )
        turned = jax.vmap(lambda d: jax.vmap(lambda x: colors.hue(x, d))(images))(hues)
        return each | {'hue': turned}

    images = np.stack(list(PICTURES.values())).astype(np.float32)
    return jax.tree.map(np.asarray, all_of_them(images, np.float32(FACTORS), np.float32(HUES)))


def difference(found, pillows, picture):
    """The largest of our image and Pillow's operation on a picture, in grey levels."""
    wanted = np.asarray(pillows(Image.fromarray(PICTURES[picture])), np.float32)
    return np.abs(found - wanted).max()


def place(picture):
    return list(PICTURES).index(picture)


@each_picture
@pytest.mark.parametrize('name', ENHANCE)
@pytest.mark.parametrize('factor', FACTORS)
def test_an_enhancement_agrees_with_pillow_to_one_grey_level(name, factor, picture):
    found = changed()[name][FACTORS.index(factor), place(picture)]
    assert difference(found, lambda x: ENHANCE[name][1](x).enhance(factor), picture) <= 1


@each_picture
@pytest.mark.parametrize('name', OPS)
def test_an_operation_agrees_with_pillow_to_one_grey_level(name, picture):
    assert difference(changed()[name][place(picture)], OPS[name][1], picture) <= 1


@each_picture
@pytest.mark.parametrize('degrees', HUES)
def test_hue_agrees_with_colorsys(degrees, picture):
    def turned(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + degrees / 360) % 1, s, v)

    wanted = np.apply_along_axis(turned, -1, PICTURES[picture] / 255) * 255
    found = changed()['hue'][HUES.index(degrees), place(picture)]
    np.testing.assert_allclose(found, wanted, atol=0.01)


@functools.partial(jax.jit, static_argnums=2)
def blurred(image, sigma, radius):
    return colors.blur(image, sigma, radius)


@pytest.mark.parametrize('sigma', [0.8, 2.0])
def test_a_blur_is_near_pillows_gaussian_of_the_same_radius(sigma):
    """Pillow approximates it by three boxes."""
    image = Image.fromarray(PICTURES['smooth'])
    wanted = np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)), np.float32)
    found = blurred(np.float32(PICTURES['smooth']), sigma, 6)
    assert np.abs(found - wanted).max() < 3


def test_a_blur_keeps_the_sum_of_a_dot_and_spreads_it_by_its_sigma():
    dot = np.zeros((31, 31, 3), np.float32)
    dot[15, 15] = 200
    found = np.asarray(blurred(dot, 1.5, 7))[..., 0]
    place = np.arange(31) - 15
    assert found.sum() == pytest.approx(200, rel=1e-5)
    assert (found.sum(0) * place**2).sum() / 200 == pytest.approx(1.5**2, rel=0.01)


def many(one, image, count=200):
    """[count, H, W, 3] views of an image."""
    keys = jax.random.split(jax.random.key(0), count)
    images = np.broadcast_to(np.float32(image), (count, *image.shape))
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
    assert difference(changed()[name][place(picture)], OPS[name][1], picture) == 0
