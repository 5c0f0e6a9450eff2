"""The published sizes of EfficientNet, EfficientNetV2 and MobileNet."""

import pytest

from tljax import tree
from tljax.models import stages
from tljax.models.backbones.efficientnet import EfficientNet
from tljax.models.backbones.efficientnet_v2 import EfficientNetV2
from tljax.models.backbones.mobilenet import MobileNetV2, MobileNetV3

# Numbers of parameters in torchvision's `num_params`.
BY_DEFAULT = {
    5288548: EfficientNet(), 12233232: EfficientNet.sized(3), 21458488: EfficientNetV2(),
    3504872: MobileNetV2(), 5483032: MobileNetV3(), 2542856: MobileNetV3.small(),
}  # fmt: skip
SLOW = {
    7794184: EfficientNet.sized(1), 9109994: EfficientNet.sized(2), 19341616: EfficientNet.sized(4),
    30389784: EfficientNet.sized(5), 43040704: EfficientNet.sized(6),
    66347960: EfficientNet.sized(7), 54139356: EfficientNetV2.sized('m'),
    118515272: EfficientNetV2.sized('l'),
}  # fmt: skip
PUBLISHED = [
    *BY_DEFAULT.items(),
    *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW.items()),
]


@pytest.mark.parametrize(('count', 'network'), PUBLISHED)
def test_the_published_sizes_have_their_numbers_of_parameters(count, network):
    params, _ = stages.shapes(stages.build(network, 1000))
    assert sum(leaf.size for leaf in tree.flatten(params).values()) == count


def test_torchvisions_large_networks_have_another_norm():
    assert EfficientNet.sized(4).convention('torchvision').epsilon == 1e-5
    assert EfficientNet.sized(5).convention('torchvision').epsilon == 1e-3
