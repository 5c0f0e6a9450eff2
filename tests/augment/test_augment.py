"""Every augmentation: the ranges that it keeps, its random keys, and the size of its changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tljax import augment
from tljax.augment import (
    Affine,
    AugMix,
    AutoContrast,
    Blur,
    Brightness,
    Contrast,
    Cutout,
    Elastic,
    Equalize,
    GaussianNoise,
    Grayscale,
    HorizontalFlip,
    Hue,
    Invert,
    Perspective,
    Posterize,
    QuarterTurn,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
    Rotate,
    SaltAndPepper,
    Saturation,
    Scale,
    Sharpness,
    Shear,
    Solarize,
    Translate,
    TrivialAugment,
    VerticalFlip,
)
from tljax.types import InputError

B, H, W = 6, 9, 7
STRONG = Affine(rotate_degrees=40, shear_degrees=20, scale_factor=1.5, shift_share=0.2)
PLACES = {
    'flip': HorizontalFlip(),
    'upside down': VerticalFlip(),
    'crop': RandomCrop(size_px=5),
    'padded crop': RandomCrop(size_px=7, pad_px=2),
    'resized crop': RandomResizedCrop(size_px=6, area_min=0.2),
    'shrinking crop': RandomResizedCrop(size_px=3),
    'affine': STRONG,
    'rotation': Rotate(degrees=180),
    'quarter turn': QuarterTurn(),
    'shear': Shear(horizontal_degrees=30, vertical_degrees=30),
    'scale': Scale(factor=2),
    'shift': Translate(side_share=0.5),
    'perspective': Perspective(side_share=0.4),
    'elastic': Elastic(side_share=0.2),
}
COLORS = {
    'brightness': Brightness(strength=0.9),
    'contrast': Contrast(strength=0.9),
    'saturation': Saturation(strength=0.9),
    'sharpness': Sharpness(strength=0.9),
    'hue': Hue(degrees=180),
    'grayscale': Grayscale(probability=0.5),
    'negative': Invert(),
    'solarize': Solarize(),
    'posterize': Posterize(),
    'auto-contrast': AutoContrast(),
    'equalize': Equalize(),
}
DAMAGE = {
    'blur': Blur(),
    'noise': GaussianNoise(),
    'salt and pepper': SaltAndPepper(pixel_share=0.5),
    'cutout': Cutout(side_share=0.5),
    'erasing': RandomErasing(probability=0.5),
}
POLICIES = {
    'randaugment': RandAugment(),
    'trivialaugment': TrivialAugment(),
    'augmix': AugMix(),
}
ALL = PLACES | COLORS | DAMAGE | POLICIES
SIZES = {'crop': (5, 5), 'padded crop': (7, 7), 'resized crop': (6, 6), 'shrinking crop': (3, 3)}
# Some of each kind: by axes, by a matrix, along curves, on values, with noise, a policy.
BY_DEFAULT = (
    'flip', 'resized crop', 'perspective', 'elastic', 'contrast', 'grayscale', 'equalize', 'noise',
    'cutout', 'randaugment',
)  # fmt: skip
ALONE = ('resized crop', 'elastic', 'contrast', 'noise')
GROUPS = {'default': BY_DEFAULT, 'others': [name for name in ALL if name not in BY_DEFAULT]}


def some_by_default(names, default=BY_DEFAULT):
    """Runs a test for each name; those not in `default` are slow."""
    slow = pytest.mark.slow
    values = [name if name in default else pytest.param(name, marks=slow) for name in names]
    return pytest.mark.parametrize('name', values)


each, each_place = some_by_default(ALL), some_by_default(PLACES)
each_group = pytest.mark.parametrize(
    'group', ['default', pytest.param('others', marks=pytest.mark.slow)]
)
TARGETS = jnp.eye(B)


COMPILED = {}


def jitted(augmentation):
    """An augmentation, compiled once."""
    return COMPILED.setdefault(repr(augmentation), jax.jit(augmentation.__call__))


def together(augmentations):
    """One program for all of `{name: augmentation}`, which compiles faster than one for each."""
    return jax.jit(
        lambda keys, images, targets: {
            name: augmentation(keys, images, targets)
            for name, augmentation in augmentations.items()
        }
    )


def keys(count=B, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def noise(count=B, height=H, width=W, seed=0):
    """[count, height, width, 3] float32 in [0, 255]."""
    values = np.random.default_rng(seed).uniform(0, 255, (count, height, width, 3))
    return jnp.asarray(values, jnp.float32)


def ramp(axis, side=21):
    """[1, side, side, 3] whose value is the row (axis 0) or the column (axis 1)."""
    position = np.indices((side, side))[axis].astype(np.float32)
    return np.stack([position] * 3, -1)[None]


AFFINE = {
    'rotate': Affine(rotate_degrees=40),
    'shear': Affine(shear_degrees=20),
    'scale': Affine(scale_factor=1.5),
    'shift': Affine(shift_share=0.2),
}
affine = together(AFFINE)


def affine_views(name, image, count=200):
    """`count` views of one image [1, H, W, 3] by a map of `AFFINE`."""
    images = np.repeat(image, count, 0)
    return np.asarray(affine(keys(count), images, jnp.zeros((count, 1)))[name][0])


def views(augmentation, image, count):
    """`count` views of one image [1, H, W, 3], each under its own key."""
    images = np.repeat(image, count, 0)
    return np.asarray(jitted(augmentation)(keys(count), images, jnp.zeros((count, 1)))[0])


programs = {group: together({name: ALL[name] for name in names}) for group, names in GROUPS.items()}
ORDER = np.random.default_rng(1).permutation(B)


@functools.cache
def group_changed(case, group):
    """`{name: (images, targets)}` of a group of augmentations in a case."""
    batches = {
        'as drawn': (keys(), noise(), TARGETS),
        'in another order': (keys()[ORDER], noise()[ORDER], TARGETS),
        'among others': (keys(seed=1).at[2].set(keys()[2]),
                         noise(seed=1).at[2].set(noise()[2]), TARGETS),
        'one image': (keys(), jnp.repeat(noise(1), B, 0), TARGETS),
        'one colour': (keys(), jnp.full((B, H, W, 3), 200, jnp.float32), TARGETS),
    }  # fmt: skip
    return jax.tree.map(np.asarray, programs[group](*batches[case]))


def changed(name, case):
    """The images and the targets of an augmentation in a case."""
    return group_changed(case, 'default' if name in BY_DEFAULT else 'others')[name]


@functools.cache
def group_alone(in_default):
    """`{name: image}` for image 3 of the case `as drawn`, in a batch of one."""
    names = [name for name in ALL if (name in ALONE) == in_default]
    program = together({name: ALL[name] for name in names})
    results = program(keys()[3:4], noise()[3:4], TARGETS[3:4])
    return {name: np.asarray(images[0]) for name, (images, _) in results.items()}


@each
def test_shape_and_type_are_kept_except_by_crops(name):
    images, _ = changed(name, 'as drawn')
    assert (images.shape, images.dtype) == ((B, *SIZES.get(name, (H, W)), 3), jnp.float32)


@each
def test_targets_are_kept(name):
    np.testing.assert_array_equal(changed(name, 'as drawn')[1], TARGETS)


def any_images(test):
    """Runs a test on random and extreme images [B, H, W, 3]."""
    values = arrays(np.float32, (B, H, W, 3), elements=st.floats(0, 255, width=32))
    return settings(deadline=None, max_examples=15)(given(images=values)(test))


@each_group
@any_images
def test_values_stay_within_0_and_255(group, images):
    for name, (result, _) in programs[group](keys(), images, TARGETS).items():
        assert (np.asarray(result) >= 0).all(), name
        assert (np.asarray(result) <= 255 + 1e-4).all(), name


@each_group
@any_images
def test_geometric_operations_stay_within_the_values_of_their_image(group, images):
    axes, slack = (1, 2, 3), 1e-4
    outputs = programs[group](keys(), images, TARGETS)
    for name in PLACES.keys() & outputs.keys():
        result = np.asarray(outputs[name][0])
        assert (result.min(axes) >= images.min(axes) - slack).all(), name
        assert (result.max(axes) <= images.max(axes) + slack).all(), name


@each
def test_a_view_depends_on_its_key_and_not_on_its_place(name):
    images, reordered = (changed(name, case)[0] for case in ('as drawn', 'in another order'))
    np.testing.assert_allclose(reordered, images[ORDER], atol=1e-3)


@each
def test_a_view_does_not_depend_on_the_rest_of_the_batch(name):
    images, among_others = (changed(name, case)[0] for case in ('as drawn', 'among others'))
    np.testing.assert_allclose(among_others[2], images[2], atol=1e-3)


@some_by_default(ALL, ALONE)
def test_a_view_is_the_same_in_a_batch_of_one(name):
    images, _ = changed(name, 'as drawn')
    np.testing.assert_allclose(group_alone(name in ALONE)[name], images[3], atol=1e-3)


@each
def test_other_keys_give_other_views(name):
    assert len(np.unique(changed(name, 'one image')[0], axis=0)) > 1


def test_a_certain_flip_is_exact():
    images, _ = jitted(HorizontalFlip(probability=1.0))(keys(), noise(), TARGETS)
    np.testing.assert_array_equal(images, noise()[:, :, ::-1])


def test_a_flip_of_probability_0_changes_nothing():
    images, _ = jitted(HorizontalFlip(probability=0.0))(keys(), noise(), TARGETS)
    np.testing.assert_array_equal(images, noise())


@pytest.mark.parametrize('probability', [0.2, 0.5])
def test_flips_have_the_given_probability(probability):
    images = views(HorizontalFlip(probability=probability), ramp(1), 1000)
    flipped = images[:, 0, 0, 0] > 0
    assert flipped.mean() == pytest.approx(probability, abs=0.05)


@pytest.mark.parametrize('pad_px', [0, 2])
def test_crops_are_all_windows_of_the_padded_image(pad_px):
    image, size = noise(1, 5, 6), 4
    pad = (pad_px, pad_px)
    padded = np.pad(image[0], (pad, pad, (0, 0)), mode='edge')
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size, 3))
    expected = np.unique(windows.reshape(-1, size, size, 3), axis=0)
    crops = views(RandomCrop(size_px=size, pad_px=pad_px), image, 600)
    np.testing.assert_array_equal(np.unique(crops, axis=0), expected)


def test_a_crop_of_the_full_size_is_the_image():
    images, _ = jitted(RandomCrop(size_px=H))(keys(), noise(width=H), TARGETS)
    np.testing.assert_array_equal(images, noise(width=H))


@pytest.mark.parametrize(('height', 'width'), [(4, 9), (9, 4)])
def test_a_crop_larger_than_the_padded_image_is_refused(height, width):
    with pytest.raises(InputError, match=rf'size_px is 7, .* {height + 2} x {width + 2} px'):
        RandomCrop(size_px=7, pad_px=1)(keys(), noise(B, height, width), TARGETS)


NEUTRAL = {
    type(one).__name__: one
    for one in (
        Affine(), Rotate(degrees=0), Shear(horizontal_degrees=0), Scale(factor=1),
        Translate(side_share=0), Perspective(side_share=0), Elastic(side_share=0),
        HorizontalFlip(probability=0), VerticalFlip(probability=0),
        Brightness(strength=0), Contrast(strength=0), Saturation(strength=0), Sharpness(strength=0),
        Hue(degrees=0), Grayscale(probability=0), Invert(probability=0), Solarize(probability=0),
        Posterize(probability=0), AutoContrast(probability=0), Equalize(probability=0),
        Blur(probability=0), GaussianNoise(max_levels=0), SaltAndPepper(pixel_share=0),
        Cutout(side_share=0), RandomErasing(probability=0),
    )
}  # fmt: skip
NEUTRAL_BY_DEFAULT = (
    'Affine', 'Perspective', 'Elastic', 'HorizontalFlip', 'Contrast', 'Hue', 'Grayscale', 'Blur',
    'GaussianNoise', 'Cutout',
)  # fmt: skip


@functools.cache
def neutral_views(size, in_default):
    """`{name: images}` of the augmentations in `NEUTRAL` for two images."""
    chosen = {n: one for n, one in NEUTRAL.items() if (n in NEUTRAL_BY_DEFAULT) == in_default}
    results = together(chosen)(keys(2), noise(2, *size), TARGETS[:2])
    return {name: images for name, (images, _) in results.items()}


@pytest.mark.parametrize('size', [(50, 47), pytest.param((1, 5), marks=pytest.mark.slow)])
@some_by_default(NEUTRAL, NEUTRAL_BY_DEFAULT)
def test_without_strength_no_bit_changes(name, size):
    images = neutral_views(size, name in NEUTRAL_BY_DEFAULT)[name]
    np.testing.assert_array_equal(images, noise(2, *size))


def test_a_resized_crop_of_the_full_area_to_the_same_size_changes_no_bit():
    crop = RandomResizedCrop(size_px=49, area_min=1.0, ratio_max=1.0)
    images = noise(2, 49, 49)
    np.testing.assert_array_equal(jitted(crop)(keys(2), images, TARGETS[:2])[0], images)


@each_place
def test_geometric_operations_keep_an_image_of_one_colour(name):
    np.testing.assert_allclose(changed(name, 'one colour')[0], 200, atol=1e-4)


@pytest.mark.parametrize('axis', [0, 1])
def test_a_shift_is_at_most_its_share_of_the_side(axis):
    images = affine_views('shift', ramp(axis))[..., 0]
    shift = images[:, 10, 10] - 10
    assert np.abs(shift).max() <= 0.2 * 21 + 1e-4
    assert shift.min() < -3 < 3 < shift.max()


def test_a_rotation_keeps_the_centre():
    image = noise(1, 21, 21)
    images = affine_views('rotate', image)
    np.testing.assert_allclose(images[:, 10, 10], np.repeat(image[:, 10, 10], 200, 0), atol=1e-2)


def slopes(images):
    """The differences per pixel at the centre of [N, H, W], downwards and to the right."""
    return images[:, 11, 10] - images[:, 10, 10], images[:, 10, 11] - images[:, 10, 10]


def test_a_rotation_is_at_most_its_angle_in_both_directions():
    down, right = slopes(affine_views('rotate', ramp(0))[..., 0])
    degrees = np.rad2deg(np.arctan2(right, down))
    assert np.abs(degrees).max() <= 40.001
    assert degrees.min() < -30 < 30 < degrees.max()
    np.testing.assert_allclose(np.hypot(down, right), 1, atol=1e-4)


def test_a_scale_is_at_most_its_factor_in_both_directions():
    down, right = slopes(affine_views('scale', ramp(0))[..., 0])
    assert down.min() >= 1 / 1.5001
    assert down.max() <= 1.5001
    assert down.min() < 0.75 < 1.35 < down.max()
    np.testing.assert_allclose(right, 0, atol=1e-4)


def test_a_shear_is_horizontal_and_at_most_its_angle():
    down, right = slopes(affine_views('shear', ramp(1))[..., 0])
    degrees = np.rad2deg(np.arctan(down))
    assert np.abs(degrees).max() <= 20.001
    assert degrees.min() < -15 < 15 < degrees.max()
    np.testing.assert_allclose(right, 1, atol=1e-4)
    np.testing.assert_allclose(affine_views('shear', ramp(0))[:, 10, 10], 10, atol=1e-4)


def test_outside_the_image_its_edge_is_repeated():
    columns = affine_views('shift', ramp(0))[..., 10, 0]
    down = columns[:, 10] < 10
    np.testing.assert_array_equal(columns[down, 0], 0)
    np.testing.assert_array_equal(columns[~down, -1], 20)


def test_an_empty_list_changes_nothing():
    images, targets = augment.apply((), keys(), noise(), TARGETS)
    np.testing.assert_array_equal(images, noise())
    np.testing.assert_array_equal(targets, TARGETS)


def applied(augmentations):
    """`augment.apply` of a list, compiled."""
    return jax.jit(functools.partial(augment.apply, augmentations))


def test_each_augmentation_of_a_list_has_its_own_random_key():
    """Two flips with one key would undo each other."""
    twice = (HorizontalFlip(), HorizontalFlip())
    images = noise(40)
    result, _ = applied(twice)(keys(40), images, jnp.zeros((40, 1)))
    unchanged = (np.asarray(result) == np.asarray(images)).all((1, 2, 3))
    assert 5 < unchanged.sum() < 35


def test_augmentations_are_applied_in_their_order():
    """Flipped before the crop, the image has other pixels at the place of the crop."""
    flip, crop = HorizontalFlip(probability=1.0), RandomCrop(size_px=H)
    orders = jax.jit(lambda *b: [augment.apply(o, *b)[0] for o in ((flip, crop), (crop, flip))])
    flip_first, crop_first = orders(keys(), noise(width=H + 9), TARGETS)
    assert not np.array_equal(flip_first, crop_first)
