"""The cases of EfficientNet: torchvision, timm with both paddings, lukemelas and transformers.

The code of efficientnet_lite_pytorch is lukemelas' efficientnet_pytorch, and makes both.
"""

# pyright: reportMissingImports=false

from collections.abc import Iterator

import torch
import transformers
from torchvision.models import efficientnet

from tests.golden_networks import figures
from tests.golden_networks import make_efficientnet_lite as lite
from tests.golden_networks.make import Case

TENSORFLOW = {'same_padding': True, 'epsilon': 1e-3, 'stats_decay': 0.99}
TOP = 1280  # which transformers scales by the width's factor alone


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    network = lite.NETWORK | {'class': 'tljax:EfficientNet'}
    yield (
        'torchvision',
        Case(module=_torchvision(), backbone=network, naming='torchvision', size=32),
    )
    options = {'squeeze': 0.25, 'act_layer': torch.nn.SiLU}
    yield (
        'timm',
        Case(
            module=lite.timm_network(torch.nn.BatchNorm2d, **options),
            backbone=network,
            naming='timm',
            size=32,
            sizes=(32, 49),
        ),
    )
    yield (
        'timm_of_tensorflow',
        Case(
            module=lite.timm_network(lite.NORM_OF_TENSORFLOW, pad_type='same', **options),
            backbone=network | {'same_padding': True, 'epsilon': 1e-3},
            naming='timm',
            size=32,
            sizes=(32, 49),
            options={'architecture': 'tf_efficientnet_b0.ns_jft_in1k'},
        ),
    )
    yield (
        'lukemelas',
        Case(
            module=lite.lukemelas_network('_se0.25', relu_fn='swish'),
            backbone=network | TENSORFLOW,
            naming='lukemelas',
            size=33,
        ),
    )
    yield (
        'transformers',
        Case(
            module=_transformers(),
            backbone=network | TENSORFLOW | {'drop_path': 0.0, 'stem_width': 32, 'top_width': TOP},
            naming='transformers',
            size=32,
            outputs=lambda module, x: module(x).logits,
        ),
    )


def _torchvision() -> torch.nn.Module:
    inputs = (lite.STEM, *lite.WIDTHS[:-1])
    rows = zip(lite.KERNELS, lite.STRIDES, inputs, lite.WIDTHS, lite.DEPTHS, strict=True)
    setting = [efficientnet.MBConvConfig(6 if index else 1, *row) for index, row in enumerate(rows)]
    return efficientnet.EfficientNet(
        setting,
        dropout=0.0,
        stochastic_depth_prob=lite.DROP_PATH,
        num_classes=figures.CLASSES,
        last_channel=lite.TOP,
    )


def _transformers() -> torch.nn.Module:
    """A small network without dropout, which transformers has in place of stochastic depth.

    transformers gives most of its norms TensorFlow's 0.99 as torch's momentum, by mistake: this
    network has 0.01.
    """
    config = transformers.EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        kernel_sizes=list(lite.KERNELS),
        in_channels=[32, *lite.WIDTHS[:-1]],
        out_channels=list(lite.WIDTHS),
        strides=list(lite.STRIDES),
        num_block_repeats=list(lite.DEPTHS),
        expand_ratios=[1, *(6,) * 6],
        depthwise_padding=[],
        hidden_dim=TOP,
        drop_connect_rate=0.0,
        dropout_rate=0.0,
        num_labels=figures.CLASSES,
    )
    module = transformers.EfficientNetForImageClassification(config)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.01
    return module
