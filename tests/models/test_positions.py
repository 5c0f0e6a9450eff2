"""Position embeddings for another grid of patches, against torch."""

import numpy as np
import pytest

from tljax.models import positions
from tljax.models.positions import PositionResizing
from tljax.types import InputError


def grid(side, power=1.5):
    """Position embeddings [1, 1 + side^2, 1]: a class token of 7, then rising values."""
    values = np.arange(side**2, dtype=np.float32) ** power
    return np.concatenate([[7.0], values]).astype(np.float32).reshape(1, -1, 1)


# torch.nn.functional.interpolate(..., mode='bicubic', antialias=True), torch 2.13, float64.
RESIZED = {
    (3, 5): [
        [-0.45736, -0.16647, 0.4717, 1.63125, 2.32839],
        [1.27735, 1.85253, 2.98417, 4.52326, 5.41592],
        [4.98454, 6.03719, 8.0, 10.19039, 11.42037],
        [11.32958, 12.66911, 15.14375, 17.79738, 19.27637],
        [15.11962, 16.59495, 19.31424, 22.20088, 23.8066],
    ],
    (5, 3): [
        [3.84706, 7.79822, 12.93866],
        [33.83352, 42.08862, 50.88979],
        [80.14808, 91.04448, 102.36556],
    ],
}


# The same without antialiasing, to a size and by the scale (new + 0.1) / old; torch 2.14, float64.
RESIZED_BICUBIC = {
    (PositionResizing.PLAIN, 3, 5): [
        [-0.57821, -0.30032, 0.328, 1.4271, 2.18971],
        [1.17591, 1.79852, 2.95854, 4.47483, 5.46426],
        [4.92698, 6.05506, 8.0, 10.14824, 11.48565],
        [11.04322, 12.48829, 14.9424, 17.55162, 19.1564],
        [15.23258, 16.82831, 19.5302, 22.38056, 24.12916],
    ],
    (PositionResizing.PLAIN, 5, 3): [
        [2.79221, 6.48795, 11.71132],
        [32.87023, 41.56922, 50.94285],
        [82.73864, 94.35457, 106.48379],
    ],
    (PositionResizing.OFFSET, 3, 5): [
        [-0.58625, -0.31715, 0.2644, 1.34612, 2.1513],
        [1.11579, 1.70578, 2.78352, 4.27841, 5.31221],
        [4.61382, 5.67902, 7.49525, 9.61822, 11.0041],
        [10.65464, 12.03977, 14.36693, 16.97382, 18.64769],
        [15.07902, 16.61498, 19.18888, 22.05002, 23.88145],
    ],
    (PositionResizing.OFFSET, 5, 3): [
        [2.5563, 5.90032, 10.95454],
        [30.09882, 38.11418, 47.21051],
        [78.74345, 89.58106, 101.47725],
    ],
}


@pytest.mark.parametrize('case', RESIZED_BICUBIC, ids=str)
def test_positions_are_resized_as_torch_resizes_without_antialiasing(case):
    resizing, before, after = case
    found = positions.resize(grid(before), 1 + after**2, resizing=resizing)
    np.testing.assert_allclose(
        found[0, 1:, 0].reshape(after, after), RESIZED_BICUBIC[case], rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize('sides', RESIZED, ids=str)
def test_positions_are_resized_as_torch_resizes_images(sides):
    before, after = sides
    found = positions.resize(grid(before), 1 + after**2)
    np.testing.assert_allclose(
        found[0, 1:, 0].reshape(after, after), RESIZED[sides], rtol=1e-4, atol=1e-3
    )


def test_the_class_tokens_position_stays():
    assert positions.resize(grid(3), 1 + 5**2)[0, 0, 0] == 7.0


@pytest.mark.parametrize(('before', 'after'), [(8, 10), (10, 8)])
def test_patches_that_make_no_square_are_refused(before, after):
    with pytest.raises(InputError, match=f'{before - 1} and {after - 1} patches'):
        positions.resize(np.zeros((1, before, 2), np.float32), after)
