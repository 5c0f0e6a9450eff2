"""How single leaves are brought to other inputs."""

import numpy as np
import pytest

from tljax.weights import adapt

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)


def test_one_channel_gets_the_sum_of_the_kernels():
    np.testing.assert_allclose(adapt.adapt_channels(KERNEL, 1)[:, :, 0], KERNEL.sum(2), rtol=1e-6)


@pytest.mark.parametrize('channels', [2, 3, 4, 6, 9])
def test_the_sum_over_equal_inputs_is_kept_where_the_channels_are_a_multiple(channels):
    adapted = adapt.adapt_channels(KERNEL, channels)
    assert adapted.shape == (3, 3, channels, 4)
    kept = np.allclose(adapted.sum(2), KERNEL.sum(2), rtol=1e-4, atol=1e-5)
    assert kept == (channels % 3 == 0)
