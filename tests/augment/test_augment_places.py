"""Geometric operations: exactness, composition into one map, and sampling with one gather."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tljax import augment
from tljax.augment import geometric, matrices, resample
from tljax.augment.compose import Aligned, Bent, Geometric
from tljax.augment.crops import Affine, RandomCrop, RandomResizedCrop
from tljax.augment.geometric import (
    Elastic,
    HorizontalFlip,
    Perspective,
    QuarterTurn,
    Rotate,
    Scale,
    Shear,
    Translate,
    VerticalFlip,
)
from tljax.augment.photometric import Brightness, Contrast

CHAIN = (
    RandomResizedCrop(size_px=48, area_min=0.5), HorizontalFlip(), VerticalFlip(), QuarterTurn(),
    Rotate(), Shear(vertical_degrees=10.0), Scale(), Translate(), Perspective(), Elastic(),
)  # fmt: skip


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def noise(count=1, height=32, width=32, seed=0):
    values = np.random.default_rng(seed).uniform(0, 255, (count, height, width, 3))
    return jnp.asarray(values, jnp.float32)


def smooth(side=64):
    """[1, side, side, 3] in [0, 255], without edges."""
    row, column = np.mgrid[:side, :side] / side * 2 * np.pi
    waves = [np.sin(row) * np.cos(column), np.cos(row + column), np.sin(column + 1)]
    return jnp.asarray(127.5 + 120 * np.stack(waves, -1), jnp.float32)[None]


SLOW = pytest.mark.slow


@functools.partial(jax.jit, static_argnums=2)
def _warped(matrix, image, size):
    return resample.bilinear(image, *resample.project(matrix, *resample.grid(*size)))


def warped(matrix, image, size=None):
    """An image [H, W, 3] sampled at the positions of a matrix."""
    return np.asarray(_warped(matrix, image, size or image.shape[:2]))


def run(policy, images, seed=0):
    function = jax.jit(functools.partial(augment.apply, policy))
    return np.asarray(function(keys(len(images), seed), images, jnp.zeros((len(images), 1)))[0])


@pytest.mark.parametrize('turns', [-5, -1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize('size', [(8, 8), (9, 9), (9, 5), (1, 1)])
def test_a_rotation_by_right_angles_is_exact(turns, size):
    image = noise(1, *size)[0]
    turn = matrices.around_centre(matrices.rotation(90.0 * turns), *size)
    result, expected = warped(turn, image), np.rot90(image, turns)
    if turns % 2 and size[0] != size[1]:  # the outer rows repeat the edge of the image
        result, expected = result[2:-2], expected[:, 2:-2]
    np.testing.assert_array_equal(result, expected)


def test_quarter_turns_are_all_four_right_angles():
    images = jnp.repeat(noise(1, 6, 6), 40, 0)
    views = np.unique(run((QuarterTurn(),), images), axis=0)
    expected = np.unique([np.rot90(images[0], turns) for turns in range(4)], axis=0)
    np.testing.assert_array_equal(views, expected)


@pytest.mark.parametrize('count', [pytest.param(2, marks=SLOW), 3])
def test_flips_and_quarter_turns_in_a_row_are_exact(count):
    """Every view of a chain is one of the eight symmetries of a square, bit by bit."""
    image = noise(1, 7, 7)
    chain = (HorizontalFlip(), QuarterTurn(), VerticalFlip(), QuarterTurn())[:count]
    views = run(chain, jnp.repeat(image, 30, 0))
    turned = [np.rot90(image[0], turns) for turns in range(4)]
    symmetries = {one.tobytes() for side in turned for one in (side.copy(), side[:, ::-1].copy())}
    assert {one.tobytes() for one in views} <= symmetries


@pytest.mark.parametrize('degrees', [-100.0, 7.0, 44.9, 45.1])
def test_a_rotation_is_counterclockwise_and_agrees_with_pillow(degrees):
    image = np.asarray(smooth()[0]).round().astype(np.uint8)
    expected = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)
    turn = matrices.around_centre(matrices.rotation(degrees), 64, 64)
    result = warped(turn, jnp.asarray(image, jnp.float32))
    difference = np.abs(result - np.asarray(expected, np.float32))[20:-20, 20:-20]
    assert difference.max() <= 1


def test_a_perspective_moves_the_corners_by_its_offsets():
    offsets = jnp.asarray([[0.1, 0.2], [-0.1, 0.05], [-0.2, -0.3], [0.0, -0.1]])
    matrix = jax.jit(matrices.quadrilateral, static_argnums=(1, 2))(offsets, 21, 41)
    corners = np.asarray([[0, 0], [20, 0], [20, 40], [0, 40]], np.float32)
    row, column = resample.project(matrix, corners[:, 0], corners[:, 1])
    expected = corners + np.asarray(offsets) * [20, 40]
    np.testing.assert_allclose(np.stack([row, column], -1), expected, atol=1e-4)


def test_an_elastic_map_moves_pixels_at_most_by_its_share_and_smoothly():
    rows, columns = resample.grid(50, 80)
    bend = jax.jit(lambda *positions: Elastic(side_share=0.1).bend(*positions, 50, 80))
    bent = bend(jax.random.key(0), rows, columns)
    down, right = np.asarray(bent[0] - rows), np.asarray(bent[1] - columns)
    assert 1 < np.abs(down).max() <= 5
    assert 2 < np.abs(right).max() <= 8
    assert np.abs(np.diff(down, axis=0)).max() < 0.6
    assert np.abs(np.diff(down, 2, axis=0)).max() < 0.05


SINGLE = [one for one in CHAIN if type(one) is not RandomResizedCrop]
KINDS = (HorizontalFlip, Perspective, Elastic)  # one aligned, one with a matrix, one bent
OTHER = Affine(rotate_degrees=20, scale_factor=1.1)


def composed_and_in_sequence(one):
    """Pairs of images of `one` before and after `OTHER`: composed, and one after the other."""
    image, targets = smooth(), jnp.zeros((1, 1))
    index_keys = [augment.compose.operation_keys(keys(1), index) for index in range(2)]

    @jax.jit
    def pairs(image):
        result = []
        for first, second in ((one, OTHER), (OTHER, one)):
            composed, _ = augment.apply((first, second), keys(1), image, targets)
            between, _ = first(index_keys[0], image, targets)
            result.append((composed, second(index_keys[1], between, targets)[0]))
        return result

    return jax.tree.map(np.asarray, pairs(image))


@pytest.mark.parametrize(
    'one',
    [one if type(one) in KINDS else pytest.param(one, marks=SLOW) for one in SINGLE],
    ids=[type(one).__name__ for one in SINGLE],
)
def test_composed_operations_equal_the_operations_in_sequence(one):
    """For a smooth image, where a second interpolation costs little; away from the border."""
    for composed, in_sequence in composed_and_in_sequence(one):
        inner = (slice(None), slice(22, 42), slice(22, 42))
        assert np.abs(composed[inner] - in_sequence[inner]).max() < 1.5


def gathers(policy, images):
    """The sizes of the outputs of all gathers in a policy's program, the largest first."""
    function = jax.jit(functools.partial(augment.apply, policy))
    lowered = function.lower(keys(len(images)), images, jnp.zeros((len(images), 1)))
    lines = [line for line in lowered.compile().as_text().splitlines() if ' gather(' in line]
    shapes = [line.split('=')[1].split('[')[1].split(']')[0] for line in lines]
    sizes = [np.prod([int(n) for n in shape.split(',') if n]) for shape in shapes]
    return sorted((int(size) for size in sizes), reverse=True)


@pytest.mark.parametrize(
    'policy',
    [
        pytest.param(CHAIN[4:5], marks=SLOW),
        pytest.param(CHAIN, marks=SLOW),
        (*CHAIN[:3], Brightness(), *CHAIN[3:]),
    ],
    ids=['one operation', 'ten', 'ten with a photometric one'],
)
def test_a_policy_of_any_length_samples_the_images_with_one_gather(policy):
    largest, *others = gathers(policy, noise(2, 64, 64))
    assert largest >= 2 * 48 * 48 * 3
    assert not [size for size in others if size > 100]


ALIGNED = (
    HorizontalFlip(), VerticalFlip(), Scale(factor=1.5), Translate(), RandomCrop(size_px=40),
    RandomResizedCrop(size_px=24, area_min=0.3, ratio_max=2.0),
)  # fmt: skip


@pytest.mark.parametrize(
    'policy', [ALIGNED, *(pytest.param((one,), marks=SLOW) for one in ALIGNED)], ids=str
)
def test_sampling_along_one_axis_after_the_other_equals_sampling_at_once(policy):
    """A rotation by 0 turns the faster way off; the crops reduce 100 px by more than √2."""
    images = noise(4, 100, 60)
    by_axes, at_once = run(policy, images), run((*policy, Rotate(degrees=0)), images)
    np.testing.assert_allclose(by_axes, at_once, atol=5e-3)


@pytest.mark.parametrize('one', ALIGNED, ids=lambda one: type(one).__name__)
def test_aligned_operations_map_rows_to_rows(one):
    matrix = np.asarray(jax.jit(jax.vmap(lambda key: one.matrix(key, 50, 60)))(keys(100)))
    np.testing.assert_array_equal(matrix[:, [0, 1, 2, 2], [1, 0, 0, 1]], 0)
    np.testing.assert_array_equal(matrix[:, 2, 2], 1)


def test_every_operation_that_maps_rows_to_rows_is_aligned():
    others = [one for one in CHAIN if not isinstance(one, Aligned)]
    assert {type(one) for one in others} == {QuarterTurn, Rotate, Shear, Perspective, Elastic}


@pytest.mark.parametrize(
    'size', [(1, 7), *(pytest.param(size, marks=SLOW) for size in [(1, 1), (7, 1), (2, 3)])]
)
def test_tiny_images_are_flipped_exactly(size):
    image = noise(1, *size)
    result = run((HorizontalFlip(probability=1.0), VerticalFlip(probability=1.0)), image)
    np.testing.assert_array_equal(result, image[:, ::-1, ::-1])


def test_a_policy_of_crops_and_flips_samples_the_images_once_along_each_axis():
    policy = (RandomResizedCrop(size_px=48, area_min=0.5), HorizontalFlip(), Translate())
    by_rows, by_columns, *others = gathers(policy, noise(2, 64, 64))
    assert (by_rows, by_columns) == (2 * 48 * 2 * 64 * 3, 2 * 48 * 48 * 2 * 3)
    assert not [size for size in others if size > 100]


def test_photometric_operations_run_after_geometric_ones_in_any_order_of_the_list():
    images = noise(3, 16, 16)
    between = (Rotate(degrees=40), Contrast(), HorizontalFlip(probability=1.0))
    after = (Rotate(degrees=40), HorizontalFlip(probability=1.0), Contrast())

    @jax.jit
    def in_sequence(images):
        # An operation's key depends on its index in the list.
        index_keys = [augment.compose.operation_keys(keys(3), index) for index in range(3)]
        moves = [(after[0], index_keys[0]), (after[1], index_keys[2])]
        moved = augment.compose.warp(moves, images)
        return Contrast()(index_keys[1], moved, jnp.zeros((3, 1)))[0]

    np.testing.assert_allclose(run(between, images), in_sequence(images), atol=1e-3)


def test_a_shift_after_a_crop_shows_the_image_outside_the_crop():
    """The edge of the image is repeated, not that of the crop."""
    image = jnp.broadcast_to(jnp.arange(20.0)[None, :, None, None], (1, 20, 20, 3))
    views = run((RandomCrop(size_px=10), Translate(side_share=0.4)), jnp.repeat(image, 50, 0))
    assert np.diff(views[:, :, 0, 0], axis=1).min(1).max() == pytest.approx(1, abs=1e-4)


def test_a_resized_crop_covers_its_range_of_areas_and_ratios():
    crop = RandomResizedCrop(size_px=8, area_min=0.1, area_max=0.5, ratio_max=2.0)
    matrix = jax.jit(jax.vmap(lambda key: crop.matrix(key, 100, 100)))(keys(500))
    high, wide = (8 * np.asarray(matrix)[:, i, i] / 100 for i in (0, 1))
    area, ratio = high * wide, wide / high
    assert area.min() == pytest.approx(0.1, abs=0.02)
    assert area.max() == pytest.approx(0.5, abs=0.02)
    assert ratio.min() == pytest.approx(0.5, abs=0.03)
    assert ratio.max() == pytest.approx(2.0, abs=0.08)


def test_a_resized_crop_stays_within_its_image():
    crop = RandomResizedCrop(size_px=8, area_min=0.05, ratio_max=3.0)
    matrix = np.asarray(jax.jit(jax.vmap(lambda key: crop.matrix(key, 60, 40)))(keys(500)))
    for axis, size in ((0, 60), (1, 40)):
        scale, first = matrix[:, axis, axis], matrix[:, axis, 2]
        assert (first - (scale - 1) / 2).min() >= -1e-3  # the upper edge of the first pixel
        assert (first + 7 * scale + (scale - 1) / 2).max() <= size - 1 + 1e-3


@pytest.mark.parametrize(('shrink', 'levels'), [(1.0, 0), (1.14, 0), (1.4, 0), (1.5, 1), (4.0, 2)])
def test_an_image_is_halved_only_if_it_can_be_reduced_by_more_than_root_2(shrink, levels):
    assert resample.levels_for(shrink, 512, 512) == levels


@pytest.mark.parametrize('side', [67, *(pytest.param(side, marks=SLOW) for side in (128, 160))])
def test_a_crop_that_reduces_filters_fine_stripes(side):
    """Stripes too fine for 32 pixels lose half of their contrast or more."""
    stripes = 127.5 + 100 * np.sin(2 * np.pi * 0.27 * np.arange(side, dtype=np.float32))
    image = jnp.broadcast_to(jnp.asarray(stripes)[None, :, None], (side, side, 3))
    crop = RandomResizedCrop(size_px=32, area_min=1.0, ratio_max=1.0)
    skipping = warped(crop.matrix(jax.random.key(0), side, side), image, (32, 32))
    assert skipping.std() > 45
    assert run((crop,), image[None]).std() < 0.55 * skipping.std()


def test_halvings_are_exact_at_powers_of_two():
    image = noise(1, 64, 64)
    crop = RandomResizedCrop(size_px=16, area_min=1.0, ratio_max=1.0)
    expected = np.asarray(image).reshape(1, 16, 4, 16, 4, 3).mean((2, 4))
    np.testing.assert_allclose(run((crop,), image), expected, rtol=1e-5)


def test_every_geometric_operation_has_a_matrix_or_a_bend():
    for one in CHAIN:
        assert isinstance(one, Geometric)
        shape = (
            None
            if isinstance(one, Bent)
            else jax.eval_shape(lambda key, one=one: one.matrix(key, 8, 8), jax.random.key(0)).shape
        )
        assert shape in (None, (3, 3))


@pytest.mark.parametrize('cells', [1, 3, 6])
def test_equal_moves_of_all_control_points_are_a_shift(cells):
    """The splines add up to 1 everywhere."""
    powers = geometric._spline_powers(cells)
    x = jnp.linspace(-1.0, cells + 1.0, 50)
    basis = jnp.stack(Elastic(cells=cells)._basis(x))
    np.testing.assert_allclose(basis.T @ powers.sum(1), 1, atol=1e-4)


def test_a_control_point_moves_only_the_pixels_near_it():
    values = jnp.stack(Elastic(cells=4)._basis(jnp.asarray([0.0, 0.5, 1.5, 2.0, 3.5]))).T
    third = np.asarray(values @ geometric._spline_powers(4)[:, 2])
    np.testing.assert_allclose(third, [0, 0.125, 0.75, 0.5, 0], atol=1e-5)
