"""The published sizes of EfficientNet and EfficientNetV2."""

import pytest

from tljax import tree
from tljax.models import stages
from tljax.models.backbones.efficientnet import EfficientNet
from tljax.models.backbones.efficientnet_v2 import EfficientNetV2

# Numbers of parameters in torchvision's `num_params`.
PUBLISHED = {
    0: 5288548, 1: 7794184, 2: 9109994, 3: 12233232, 4: 19341616, 5: 30389784, 6: 43040704,
    7: 66347960, 's': 21458488, 'm': 54139356, 'l': 118515272,
}  # fmt: skip
DEFAULT = (0, 3, 's')


@pytest.mark.parametrize(
    'size', [pytest.param(s, marks=() if s in DEFAULT else pytest.mark.slow) for s in PUBLISHED]
)
def test_the_published_sizes_have_their_numbers_of_parameters(size):
    network = EfficientNet.sized(size) if isinstance(size, int) else EfficientNetV2.sized(size)
    params, _ = stages.shapes(stages.build(network, 1000))
    assert sum(leaf.size for leaf in tree.flatten(params).values()) == PUBLISHED[size]


def test_torchvisions_large_networks_have_another_norm():
    assert EfficientNet.sized(4).convention('torchvision').epsilon == 1e-5
    assert EfficientNet.sized(5).convention('torchvision').epsilon == 1e-3
