"""How single leaves are brought to other inputs."""

import numpy as np
import pytest

from tljax.types import InputError
from tljax.weights import adapt


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


@pytest.mark.parametrize('sides', RESIZED, ids=str)
def test_positions_are_resized_as_torch_resizes_images(sides):
    before, after = sides
    found = adapt.resize_positions(grid(before), 1 + after**2)
    np.testing.assert_allclose(
        found[0, 1:, 0].reshape(after, after), RESIZED[sides], rtol=1e-4, atol=1e-3
    )


def test_the_class_tokens_position_stays():
    assert adapt.resize_positions(grid(3), 1 + 5**2)[0, 0, 0] == 7.0


@pytest.mark.parametrize(('before', 'after'), [(8, 10), (10, 8)])
def test_patches_that_make_no_square_are_refused(before, after):
    with pytest.raises(InputError, match=f'{before - 1} and {after - 1} patches'):
        adapt.resize_positions(np.zeros((1, before, 2), np.float32), after)


KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)


def test_one_channel_gets_the_sum_of_the_kernels():
    np.testing.assert_allclose(adapt.adapt_channels(KERNEL, 1)[:, :, 0], KERNEL.sum(2), rtol=1e-6)


@pytest.mark.parametrize('channels', [2, 3, 4, 6, 9])
def test_the_sum_over_equal_inputs_is_kept_where_the_channels_are_a_multiple(channels):
    adapted = adapt.adapt_channels(KERNEL, channels)
    assert adapted.shape == (3, 3, channels, 4)
    kept = np.allclose(adapted.sum(2), KERNEL.sum(2), rtol=1e-4, atol=1e-5)
    assert kept == (channels % 3 == 0)
