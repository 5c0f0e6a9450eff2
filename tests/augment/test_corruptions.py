"""Corruptions of test images: each agrees with a plain form in NumPy, SciPy or Pillow."""

import colorsys
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from PIL import Image

from tljax.augment import compose
from tljax.augment.corruptions import blurs, digital, suite, weather
from tljax.augment.corruptions.corruption import SEVERITIES, corrupt, key_of
from tljax.types import InputError

SIDE = 32
IDS = np.array([3, 2**33 + 11])  # folded into 32 bits, as everywhere


@functools.cache
def images():
    """Two images [2, SIDE, SIDE, 3] uint8 with edges, slopes and a little noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((SIDE, SIDE))
    first = np.stack([6 * rows + columns, 200 - 4 * columns, 60 + 90 * (rows // 8 % 2)], -1)
    second = np.stack([40 * (columns // 7 % 5), 5 * rows + 3 * columns, 250 - 7 * rows], -1)
    noisy = np.stack([first, second]) + rng.normal(0, 6, (2, SIDE, SIDE, 3))
    return noisy.clip(0, 255).round().astype(np.uint8)


def draws_of(corruption, severity, index):
    keys = compose.example_keys(
        key_of(corruption, 0), jnp.uint32(severity), jnp.asarray(IDS.astype(np.uint32))
    )
    return {k: np.asarray(v, float) for k, v in corruption.draw(keys[index], SIDE).items()}


def gaussian_noise(x, draws, strength, severity):
    return x + [0.08, 0.12, 0.18, 0.26, 0.38][severity] * scipy.stats.norm.ppf(
        scipy.stats.norm.cdf(draws['normal'])
    )


def shot_noise(x, draws, strength, severity):
    events = [60, 25, 12, 5, 3][severity]
    return scipy.stats.poisson.ppf(draws['share'], np.maximum(x * events, 1e-9)) / events


def impulse_noise(x, draws, strength, severity):
    hit = draws['hit'] < [0.03, 0.06, 0.09, 0.17, 0.27][severity]
    return np.where(hit, draws['white'] < 0.5, x)


def defocus_blur(x, draws, strength, severity):
    radius, fine = [3, 4, 6, 8, 10][severity] * SIDE / 224, 51
    places = (np.arange(11 * fine) - (11 * fine - 1) / 2) / fine
    inside = np.hypot(*np.meshgrid(places, places)) <= radius
    kernel = scipy.ndimage.gaussian_filter(
        inside.reshape(11, fine, 11, fine).mean((1, 3)), 0.5, mode='constant'
    )
    return scipy.ndimage.convolve(x, kernel[..., None] / kernel.sum(), mode='mirror')


def along_a_line(x, radius, sigma, angle):
    total, weights = 0, 0
    for step in range(SIDE):
        if step > 2 * radius * SIDE / 224:
            break
        weight = np.exp(-(step**2) / (2 * (sigma * SIDE / 224) ** 2))
        move = -step * np.sin(np.deg2rad(angle)), -step * np.cos(np.deg2rad(angle)), 0
        total = total + weight * scipy.ndimage.shift(x, move, order=1, mode='nearest')
        weights += weight
    return total / weights


def motion_blur(x, draws, strength, severity):
    radius, sigma = [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)][severity]
    return along_a_line(x, radius, sigma, draws['angle_degrees'])


def enlarged(x, factor):
    shift = (SIDE - 1) / 2 * (1 - 1 / factor)
    return scipy.ndimage.affine_transform(
        x, [1 / factor, 1 / factor, 1], (shift, shift, 0), order=1, mode='nearest'
    )


def zoom_blur(x, draws, strength, severity):
    end, step = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)][severity]
    return np.mean([x, *(enlarged(x, factor) for factor in np.arange(1, end, step))], 0)


def snow(x, draws, strength, severity):
    mean, deviation, zoom, threshold, radius, sigma, share = [
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ][severity]
    flakes = mean + deviation * draws['normal'][..., None]
    flakes = enlarged(flakes, max(1, zoom * SIDE / 224))
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    flakes = along_a_line(flakes, radius, sigma, draws['angle_degrees'])
    gray = (x @ [0.299, 0.587, 0.114])[..., None]
    x = share * x + (1 - share) * np.maximum(x, gray * 1.5 + 0.5)
    return x + flakes + np.rot90(flakes, 2)


def plasma(draws, name, decay):
    """The diamond-square algorithm in one array, in place."""
    size, step, amplitude = SIDE, SIDE, 1.0
    x = np.zeros((size, size))
    for i in range(5):
        squares, across, down = amplitude**2 * draws[f'{name}{i}']
        half, c = step // 2, slice(0, size, step)
        m = slice(half, size, step)
        corners = x[c, c] + np.roll(x[c, c], -1, 0)
        x[m, m] = (corners + np.roll(corners, -1, 1)) / 4 + squares
        across_sums = x[m, m] + np.roll(x[m, m], 1, 0) + x[c, c] + np.roll(x[c, c], -1, 1)
        down_sums = x[m, m] + np.roll(x[m, m], 1, 1) + x[c, c] + np.roll(x[c, c], -1, 0)
        x[c, m], x[m, c] = across_sums / 4 + across, down_sums / 4 + down
        step, amplitude = half, amplitude / decay
    return (x - x.min()) / (x.max() - x.min())


def fog(x, draws, strength, severity):
    thickness, decay = [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)][severity]
    return (
        (x + thickness * plasma(draws, 'fog', decay)[..., None]) * x.max() / (x.max() + thickness)
    )


def frost(x, draws, strength, severity):
    image_share, ice_share = [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)][severity]
    ridges = (1 - abs(2 * plasma(draws, 'crystals', weather.CRYSTAL_DECAY) - 1)) ** 2
    layer = (0.25 + 0.75 * ridges) * (0.35 + 0.65 * plasma(draws, 'cover', weather.COVER_DECAY))
    return image_share * x + ice_share * 1.3 * layer[..., None] * np.array(weather.ICE)


def brightness(x, draws, strength, severity):
    def raised(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb(hue, saturation, min(value + 0.1 * (severity + 1), 1))

    return np.array([[raised(pixel) for pixel in row] for row in x])


def contrast(x, draws, strength, severity):
    means = x.mean((0, 1))
    return (x - means) * [0.4, 0.3, 0.2, 0.1, 0.05][severity] + means


def elastic_transform(x, draws, strength, severity):
    size = SIDE * 244 / 224
    amplitude, sigma, jitter = [
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    ][severity]
    side = SIDE // 3
    points = SIDE // 2 + np.array([[side, side], [side, -side], [-side, -side]])
    moved = points + jitter * size * draws['corners']
    back = np.linalg.solve(np.c_[moved, np.ones(3)], points)
    field = [
        scipy.ndimage.gaussian_filter(
            draws['field'][..., i], sigma * size, mode='reflect', truncate=3
        )
        for i in range(2)
    ]
    places = np.indices((SIDE, SIDE)) + amplitude * size * np.array(field)
    places = np.einsum('ihw,ij->jhw', np.concatenate([places, np.ones((1, SIDE, SIDE))]), back)
    return np.stack(
        [
            scipy.ndimage.map_coordinates(x[..., c], places, order=1, mode='mirror')
            for c in range(3)
        ],
        -1,
    )


def pixelate(x, draws, strength, severity):
    left = int(SIDE * [0.6, 0.5, 0.4, 0.3, 0.25][severity])
    image = Image.fromarray((255 * x).round().astype(np.uint8))
    image = image.resize((left, left), Image.Resampling.BOX)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255


def jpeg_compression(x, draws, strength, severity):
    file = io.BytesIO()
    image = Image.fromarray((255 * x).round().astype(np.uint8))
    image.save(file, 'JPEG', quality=[25, 18, 15, 10, 7][severity])
    return np.asarray(Image.open(file)) / 255


# Of 255 levels: the largest difference, and the share of values that may differ by more. A count
# of photons differs where a float32 sum is on the other side of the drawn value; Pillow rounds
# between its two passes; a coefficient of JPEG can round to the other side,
# and then changes a block, here a quarter of the image's color.
TOLERANCES = {
    'shot_noise': (1, 2e-3),
    'impulse_noise': (0, 0),
    'pixelate': (2, 0),
    'jpeg_compression': (3, 0.1),
}
IN_EVERY_RUN = ('shot_noise', 'defocus_blur', 'fog', 'jpeg_compression')
CORRUPTIONS = pytest.mark.parametrize(
    'corruption',
    [
        pytest.param(one, marks=() if one.name in IN_EVERY_RUN else pytest.mark.slow)
        for one in suite.CORRUPTIONS
    ],
    ids=suite.NAMES,
)


@CORRUPTIONS
def test_a_corruption_agrees_with_its_plain_form_at_every_severity(corruption):
    levels, share = TOLERANCES.get(corruption.name, (1, 0))
    strengths = corruption.strengths(SIDE)
    for severity in SEVERITIES:
        changed = np.asarray(corrupt(corruption, images(), IDS, severity)).astype(float)
        for index, image in enumerate(images()):
            draws = draws_of(corruption, severity, index)
            plain = globals()[corruption.name](
                image / 255, draws, strengths[severity - 1], severity - 1
            )
            wanted = (255 * plain.clip(0, 1)).round()
            assert (abs(changed[index] - wanted) > levels).mean() <= share, severity


@CORRUPTIONS
def test_a_corruption_changes_an_image_more_at_the_highest_severity(corruption):
    low, high = (np.asarray(corrupt(corruption, images(), IDS, s), float) for s in (1, 5))
    distances = [abs(x - images()).mean() for x in (low, high)]
    # The severities of these differ in more than their strength, as those of ImageNet-C do.
    assert distances[0] < distances[1] or corruption.name in ('frost', 'elastic_transform', 'fog')
    assert distances[0] > 0


def test_random_values_depend_on_the_image_and_not_on_its_batch():
    one = suite.chosen(['impulse_noise'])[0]
    together = np.asarray(corrupt(one, images(), IDS, 3))
    swapped = np.asarray(corrupt(one, images()[::-1], IDS[::-1], 3))
    np.testing.assert_array_equal(together, swapped[::-1])


def test_images_severities_and_seeds_have_different_random_values():
    one = suite.chosen(['impulse_noise'])[0]
    same = np.stack([images()[0]] * 2)
    first, second = np.asarray(corrupt(one, same, IDS, 3))
    assert (first != second).mean() > 0.1
    other = np.asarray(corrupt(one, same, IDS, 3, seed=1))[0]
    assert (first != other).mean() > 0.1


def test_lengths_follow_the_size_of_the_image():
    small, large = (blurs.DEFOCUS.strengths(size)[4]['kernel'] for size in (56, 224))

    def spread(kernel):
        places = np.arange(len(kernel)) - len(kernel) // 2
        return np.sqrt((kernel.sum(0) * places**2).sum() - blurs.ALIAS_SIGMA_PX**2)

    assert spread(large) == pytest.approx(5, rel=0.02)  # half of the radius
    assert spread(small) == pytest.approx(spread(large) / 4, rel=0.05)


@pytest.mark.parametrize('size', [1, 5])
def test_every_corruption_takes_tiny_images(size):
    for corruption in suite.CORRUPTIONS:
        for strength in corruption.strengths(size)[::4]:
            shape = jax.eval_shape(
                lambda key, c=corruption, s=strength: c.change(
                    jnp.zeros((size, size, 3)), c.draw(key, size), s
                ),
                jax.random.key(0),
            )
            assert shape.shape == (size, size, 3)


def test_places_outside_of_an_image_are_mirrored():
    places = digital.mirrored(jnp.arange(-3.0, 7.0), 4)
    np.testing.assert_array_equal(places, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0])


def test_corruptions_are_chosen_by_name_or_group():
    names = [one.name for one in suite.chosen(['snow', 'noise'])]
    assert names == ['gaussian_noise', 'shot_noise', 'impulse_noise', 'snow']
    with pytest.raises(
        InputError, match="no corruption is called 'rain', wanted names of gaussian"
    ):
        suite.chosen(['rain'])
