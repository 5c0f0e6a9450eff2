"""Windows of maps: their split, which tokens see each other, and positions in them."""

import jax.numpy as jnp
import numpy as np
import pytest

from tljax.models import windows
from tljax.models.backbones.swin_block import SwinBlock


def test_windows_are_split_and_joined_without_loss():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    tokens = windows.split(x, 2)
    assert tokens.shape == (2, 6, 4, 3)
    np.testing.assert_array_equal(tokens[0, 1].reshape(2, 2, 3), x[0, :2, 2:4])
    np.testing.assert_array_equal(windows.joined(tokens, 2, 4, 6), x)


def test_a_side_that_one_window_covers_is_not_shifted():
    assert windows.shifts(8, 4, 4) == (2, 0)


def test_tokens_that_were_no_neighbours_before_the_roll_are_masked():
    height, width, shift = 4, 2, (1, 0)
    rows = windows.split(jnp.roll(jnp.arange(4.0), -1).repeat(2).reshape(1, 4, 2, 1), 2)[0, ..., 0]
    apart = np.abs(rows[:, :, None] - rows[:, None]) > 1
    np.testing.assert_array_equal(
        windows.mask(height, width, 2, shift), np.where(apart, windows.MASKED, 0)
    )


def test_the_index_counts_differences_of_positions_row_by_row():
    wanted = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    np.testing.assert_array_equal(windows.relative_index(2), wanted)


def test_coordinates_are_logarithms_and_show_the_windows_of_pretraining():
    steps = windows.relative_coordinates(3)
    half, whole = np.log2(5) / 3, np.log2(9) / 3
    np.testing.assert_allclose(steps[0, :, 1], [-whole, -half, 0, half, whole], rtol=1e-6)
    np.testing.assert_array_equal(steps[..., 0], steps[..., 1].T)
    assert windows.pretrained_window(steps) == 0
    for window, before in ((16, 12), (24, 12), (12, 6)):
        assert windows.pretrained_window(windows.relative_coordinates(window, before)) == before


@pytest.fixture(scope='module')
def block():
    """A block of V2 with its parameters, and its inputs; the maps are padded."""
    module = SwinBlock(
        version=2, width=4, heads=2, window=2, pretrained_window=0, shifted=True, drop_path=0.0
    )
    x = jnp.linspace(-1, 1, 5 * 3 * 4).reshape(1, 5, 3, 4) ** 3
    x, params = x, module.init(np.array([0, 1], np.uint32), x, deterministic=True)['params']
    params['bias_fc2']['kernel'] += 0.1
    return module, params, x


def outputs(block, **changed):
    module, params, x = block
    return module.apply({'params': {**params, **changed}}, x, deterministic=True)


def test_the_scale_of_the_cosines_is_at_most_100(block):
    one, same, less = (
        outputs(block, logit_scale=jnp.full((2, 1, 1), value)) for value in (9.0, np.log(100), 2.0)
    )
    np.testing.assert_allclose(one, same, rtol=1e-5)
    assert not np.allclose(one, less)


def test_the_bias_of_keys_has_no_effect_in_v2(block):
    kernel = block[1]['qkv']['kernel']
    plain, keys, values = (
        outputs(block, qkv={'kernel': kernel, 'bias': jnp.repeat(jnp.array(bias), 4)})
        for bias in ([0.0, 0, 0], [0, jnp.pi, 0], [0, 0, 1])
    )
    np.testing.assert_array_equal(plain, keys)
    assert not np.allclose(plain, values)
