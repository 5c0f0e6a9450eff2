"""Changes of place: exactness, composition into one map, and reading with one gather."""

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


@functools.partial(jax.jit, static_argnums=2)
def _warped(matrix, image, size):
    return resample.bilinear(image, *resample.project(matrix, *resample.grid(*size)))


def warped(matrix, image, size=None):
    """An image [H, W, 3] read through a matrix."""
    return np.asarray(_warped(matrix, image, size or image.shape[:2]))


def run(policy, images, seed=0):
    function = jax.jit(functools.partial(augment.apply, policy))
    return np.asarray(function(keys(len(images), seed), images, jnp.zeros((len(images), 1)))[0])


@pytest.mark.parametrize('turns', [-5, -1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize('size', [(8, 8), (9, 9), (9, 5), (1, 1)])
def test_a_rotation_by_right_angles_is_exact(turns, size):
    image = noise(1, *size)[0]
    turn = matrices.around_centre(matrices.rotation(90.0 * turns), *size)
    found, wanted = warped(turn, image), np.rot90(image, turns)
    if turns % 2 and size[0] != size[1]:  # what is turned into view is the edge
        found, wanted = found[2:-2], wanted[:, 2:-2]
    np.testing.assert_array_equal(found, wanted)


def test_quarter_turns_are_the_four_of_them():
    images = jnp.repeat(noise(1, 6, 6), 40, 0)
    found = np.unique(run((QuarterTurn(),), images), axis=0)
    wanted = np.unique([np.rot90(images[0], turns) for turns in range(4)], axis=0)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize('count', [2, 3])
def test_flips_and_quarter_turns_in_a_row_are_exact(count):
    """Every view of a chain is one of the eight symmetries of a square, bit by bit."""
    image = noise(1, 7, 7)
    chain = (HorizontalFlip(), QuarterTurn(), VerticalFlip(), QuarterTurn())[:count]
    found = run(chain, jnp.repeat(image, 30, 0))
    turned = [np.rot90(image[0], turns) for turns in range(4)]
    symmetries = {one.tobytes() for side in turned for one in (side.copy(), side[:, ::-1].copy())}
    assert {one.tobytes() for one in found} <= symmetries


@pytest.mark.parametrize('degrees', [-100.0, 7.0, 44.9, 45.1])
def test_a_rotation_is_counterclockwise_and_agrees_with_pillow(degrees):
    image = np.asarray(smooth()[0]).round().astype(np.uint8)
    wanted = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)
    turn = matrices.around_centre(matrices.rotation(degrees), 64, 64)
    found = warped(turn, jnp.asarray(image, jnp.float32))
    difference = np.abs(found - np.asarray(wanted, np.float32))[20:-20, 20:-20]
    assert difference.max() <= 1


def test_corners_are_read_where_a_perspective_moves_them():
    offsets = jnp.asarray([[0.1, 0.2], [-0.1, 0.05], [-0.2, -0.3], [0.0, -0.1]])
    matrix = matrices.quadrilateral(offsets, 21, 41)
    corners = np.asarray([[0, 0], [20, 0], [20, 40], [0, 40]], np.float32)
    row, column = resample.project(matrix, corners[:, 0], corners[:, 1])
    wanted = corners + np.asarray(offsets) * [20, 40]
    np.testing.assert_allclose(np.stack([row, column], -1), wanted, atol=1e-4)


def test_an_elastic_map_moves_pixels_at_most_by_its_share_and_smoothly():
    rows, columns = resample.grid(50, 80)
    bent = Elastic(side_share=0.1).bend(jax.random.key(0), rows, columns, 50, 80)
    down, right = np.asarray(bent[0] - rows), np.asarray(bent[1] - columns)
    assert 1 < np.abs(down).max() <= 5
    assert 2 < np.abs(right).max() <= 8
    assert np.abs(np.diff(down, axis=0)).max() < 0.6
    assert np.abs(np.diff(down, 2, axis=0)).max() < 0.05


SINGLE = [one for one in CHAIN if type(one) is not RandomResizedCrop]
OTHER = Affine(rotate_degrees=20, scale_factor=1.1)


@functools.cache
def composed_and_apart():
    """Of each in `SINGLE`, before and after `OTHER`: composed, and one after the other."""
    image, none = smooth(), jnp.zeros((1, 1))

    @jax.jit
    def all_of_them():
        own = [augment.compose.own_keys(keys(1), index) for index in range(2)]
        pairs = []
        for policy in [order for one in SINGLE for order in ((one, OTHER), (OTHER, one))]:
            together, _ = augment.apply(policy, keys(1), image, none)
            first, _ = policy[0](own[0], image, none)
            pairs.append((together, policy[1](own[1], first, none)[0]))
        return pairs

    return jax.tree.map(np.asarray, all_of_them())


@pytest.mark.parametrize('index', range(len(SINGLE)), ids=lambda i: type(SINGLE[i]).__name__)
def test_what_is_composed_is_what_comes_one_after_the_other(index):
    """On a smooth image, where interpolating twice costs little; away from the border."""
    for together, apart in composed_and_apart()[2 * index : 2 * index + 2]:
        inner = (slice(None), slice(22, 42), slice(22, 42))
        assert np.abs(together[inner] - apart[inner]).max() < 1.5


def gathers(policy, images):
    """The outputs' sizes of all gathers that a policy compiles to, largest first."""
    function = jax.jit(functools.partial(augment.apply, policy))
    lowered = function.lower(keys(len(images)), images, jnp.zeros((len(images), 1)))
    lines = [line for line in lowered.compile().as_text().splitlines() if ' gather(' in line]
    shapes = [line.split('=')[1].split('[')[1].split(']')[0] for line in lines]
    sizes = [np.prod([int(n) for n in shape.split(',') if n]) for shape in shapes]
    return sorted((int(size) for size in sizes), reverse=True)


@pytest.mark.parametrize('policy', [CHAIN[4:5], CHAIN, (*CHAIN[:3], Brightness(), *CHAIN[3:])])
def test_a_policy_reads_the_images_with_one_gather_however_long_it_is(policy):
    found = gathers(policy, noise(2, 64, 64))
    assert found[0] >= 2 * 48 * 48 * 3
    assert not [size for size in found[1:] if size > 100]


ALIGNED = (
    HorizontalFlip(), VerticalFlip(), Scale(factor=1.5), Translate(), RandomCrop(size_px=40),
    RandomResizedCrop(size_px=24, area_min=0.3, ratio_max=2.0),
)  # fmt: skip


@pytest.mark.parametrize('policy', [ALIGNED, *((one,) for one in ALIGNED)], ids=str)
def test_one_axis_after_the_other_is_what_all_places_at_once_are(policy):
    """An idle rotation makes a list general; the crops shrink from 100 px by more than √2."""
    images = noise(4, 100, 60)
    found, wanted = run(policy, images), run((*policy, Rotate(degrees=0)), images)
    np.testing.assert_allclose(found, wanted, atol=5e-3)


@pytest.mark.parametrize('one', ALIGNED, ids=lambda one: type(one).__name__)
def test_what_is_aligned_takes_rows_to_rows_whatever_is_drawn(one):
    matrix = np.asarray(jax.vmap(lambda key: one.matrix(key, 50, 60))(keys(100)))
    np.testing.assert_array_equal(matrix[:, [0, 1, 2, 2], [1, 0, 0, 1]], 0)
    np.testing.assert_array_equal(matrix[:, 2, 2], 1)


def test_every_operation_that_may_be_aligned_is():
    others = [one for one in CHAIN if not isinstance(one, Aligned)]
    assert {type(one) for one in others} == {QuarterTurn, Rotate, Shear, Perspective, Elastic}


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (7, 1), (2, 3)])
def test_tiny_images_are_read_one_axis_after_the_other_too(size):
    image = noise(1, *size)
    found = run((HorizontalFlip(probability=1.0), VerticalFlip(probability=1.0)), image)
    np.testing.assert_array_equal(found, image[:, ::-1, ::-1])


def test_a_policy_of_crops_and_flips_reads_the_images_once_along_each_axis():
    policy = (RandomResizedCrop(size_px=48, area_min=0.5), HorizontalFlip(), Translate())
    by_rows, by_columns, *others = gathers(policy, noise(2, 64, 64))
    assert (by_rows, by_columns) == (2 * 48 * 2 * 64 * 3, 2 * 48 * 48 * 2 * 3)
    assert not [size for size in others if size > 100]


def test_values_change_after_places_wherever_they_are_listed():
    images = noise(3, 16, 16)
    between = (Rotate(degrees=40), Contrast(), HorizontalFlip(probability=1.0))
    after = (Rotate(degrees=40), HorizontalFlip(probability=1.0), Contrast())
    # The contrast is drawn from the key of its index: undo that, and both are the same.
    own = [augment.compose.own_keys(keys(3), index) for index in range(3)]
    moved = augment.compose.warp([(after[0], own[0]), (after[1], own[2])], images)
    wanted, _ = Contrast()(own[1], moved, jnp.zeros((3, 1)))
    np.testing.assert_allclose(run(between, images), wanted, atol=1e-3)


def test_what_a_crop_cuts_off_is_there_for_a_shift_after_it():
    """The edge of the image is repeated, not that of the crop."""
    image = jnp.broadcast_to(jnp.arange(20.0)[None, :, None, None], (1, 20, 20, 3))
    found = run((RandomCrop(size_px=10), Translate(side_share=0.4)), jnp.repeat(image, 50, 0))
    assert np.diff(found[:, :, 0, 0], axis=1).min(1).max() == pytest.approx(1, abs=1e-4)


def test_a_resized_crop_covers_the_areas_and_shapes_that_it_is_told():
    crop = RandomResizedCrop(size_px=8, area_min=0.1, area_max=0.5, ratio_max=2.0)
    matrix = jax.vmap(lambda key: crop.matrix(key, 100, 100))(keys(500))
    high, wide = (8 * np.asarray(matrix)[:, i, i] / 100 for i in (0, 1))
    area, ratio = high * wide, wide / high
    assert area.min() == pytest.approx(0.1, abs=0.02)
    assert area.max() == pytest.approx(0.5, abs=0.02)
    assert ratio.min() == pytest.approx(0.5, abs=0.03)
    assert ratio.max() == pytest.approx(2.0, abs=0.08)


def test_a_resized_crop_stays_within_its_image():
    crop = RandomResizedCrop(size_px=8, area_min=0.05, ratio_max=3.0)
    matrix = np.asarray(jax.vmap(lambda key: crop.matrix(key, 60, 40))(keys(500)))
    for axis, size in ((0, 60), (1, 40)):
        scale, first = matrix[:, axis, axis], matrix[:, axis, 2]
        assert (first - (scale - 1) / 2).min() >= -1e-3  # the upper edge of the first pixel
        assert (first + 7 * scale + (scale - 1) / 2).max() <= size - 1 + 1e-3


@pytest.mark.parametrize(('shrink', 'levels'), [(1.0, 0), (1.14, 0), (1.4, 0), (1.5, 1), (4.0, 2)])
def test_an_image_is_halved_only_where_it_may_be_shrunk(shrink, levels):
    assert resample.levels_for(shrink, 512, 512) == levels


@pytest.mark.parametrize('side', [67, 128, 160])
def test_a_crop_that_shrinks_makes_less_moire_of_what_is_too_fine(side):
    """Stripes that 32 pixels cannot show lose half of their contrast or more."""
    stripes = 127.5 + 100 * np.sin(2 * np.pi * 0.27 * np.arange(side, dtype=np.float32))
    image = jnp.broadcast_to(jnp.asarray(stripes)[None, :, None], (side, side, 3))
    crop = RandomResizedCrop(size_px=32, area_min=1.0, ratio_max=1.0)
    skipping = warped(crop.matrix(jax.random.key(0), side, side), image, (32, 32))
    assert skipping.std() > 45
    assert run((crop,), image[None]).std() < 0.55 * skipping.std()


def test_halvings_are_exact_at_powers_of_two():
    image = noise(1, 64, 64)
    crop = RandomResizedCrop(size_px=16, area_min=1.0, ratio_max=1.0)
    wanted = np.asarray(image).reshape(1, 16, 4, 16, 4, 3).mean((2, 4))
    np.testing.assert_allclose(run((crop,), image), wanted, rtol=1e-5)


def test_every_operation_of_places_has_a_matrix_or_a_bend():
    for one in CHAIN:
        assert isinstance(one, Geometric)
        assert isinstance(one, Bent) or one.matrix(jax.random.key(0), 8, 8).shape == (3, 3)


@pytest.mark.parametrize('cells', [1, 3, 6])
def test_equal_moves_of_all_control_points_are_a_shift(cells):
    """The splines sum up to 1 everywhere."""
    powers = geometric._spline_powers(cells)
    x = jnp.linspace(-1.0, cells + 1.0, 50)
    basis = jnp.stack(Elastic(cells=cells)._basis(x))
    np.testing.assert_allclose(basis.T @ powers.sum(1), 1, atol=1e-4)


def test_a_control_point_moves_what_is_near_it_only():
    values = jnp.stack(Elastic(cells=4)._basis(jnp.asarray([0.0, 0.5, 1.5, 2.0, 3.5]))).T
    third = np.asarray(values @ geometric._spline_powers(4)[:, 2])
    np.testing.assert_allclose(third, [0, 0.125, 0.75, 0.5, 0], atol=1e-5)
