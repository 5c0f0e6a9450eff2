"""The cases of EfficientNet-Lite: efficientnet_lite_pytorch, and timm with both paddings.

Needs efficientnet_lite_pytorch 0.1.0 too.
"""

# pyright: reportMissingImports=false

import functools
from collections.abc import Iterator
from typing import Any

import torch
from efficientnet_lite_pytorch import model as lite
from efficientnet_lite_pytorch import utils as lite_utils
from timm.models import _efficientnet_builder as builder
from timm.models import efficientnet
from torchvision.ops import StochasticDepth

from tests.golden_networks import figures
from tests.golden_networks.make import Case

WIDTHS = (8, 16, 24, 32, 40, 48, 56)
DEPTHS = (1, 2, 1, 1, 1, 1, 1)
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
STEM, TOP = 16, 64
DROP_PATH = 0.3
NORM_OF_TENSORFLOW = functools.partial(torch.nn.BatchNorm2d, eps=builder.BN_EPS_TF_DEFAULT)

NETWORK = {
    'class': 'tljax:EfficientNetLite', 'depths': DEPTHS, 'widths': WIDTHS,
    'stem_width': STEM, 'top_width': TOP, 'drop_path': DROP_PATH,
}  # fmt: skip


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield (
        'lukemelas',
        Case(module=lukemelas_network(), backbone=NETWORK, naming='lukemelas', size=33),
    )
    torch_like = {'same_padding': False, 'epsilon': 1e-5, 'stats_decay': 0.9}
    yield (
        'timm',
        Case(
            module=timm_network(torch.nn.BatchNorm2d),
            backbone=NETWORK | torch_like,
            naming='timm',
            size=32,
            sizes=(32, 49),
        ),
    )
    yield (
        'timm_of_tensorflow',
        Case(
            module=timm_network(NORM_OF_TENSORFLOW, pad_type='same'),
            backbone=NETWORK | torch_like | {'same_padding': True, 'epsilon': 1e-3},
            naming='timm',
            size=32,
            sizes=(32, 49),
            options={'architecture': 'tf_efficientnet_lite0'},
        ),
    )


def timm_network(norm: Any, squeeze: float = 0.0, **options: Any) -> torch.nn.Module:
    """A small network with the blocks of timm's."""
    rows = zip(DEPTHS, KERNELS, STRIDES, WIDTHS, strict=True)
    architecture = [
        [
            f'{"ir" if index else "ds"}_r{depth}_k{kernel}_s{stride}_e{6 if index else 1}_c{width}'
            f'_se{squeeze}'
        ]
        for index, (depth, kernel, stride, width) in enumerate(rows)
    ]
    return efficientnet.EfficientNet(
        builder.decode_arch_def(architecture),
        num_classes=figures.CLASSES,
        num_features=TOP,
        stem_size=STEM,
        fix_stem=True,
        act_layer=options.pop('act_layer', torch.nn.ReLU6),
        norm_layer=norm,
        drop_path_rate=DROP_PATH,
        **options,
    )


def lukemelas_network(squeeze: str = '', relu_fn: str = 'relu6') -> torch.nn.Module:
    """A small network, with torchvision's masks for its `drop_connect`."""

    def drop_connect(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        return StochasticDepth(p, 'row').train(training)(x)

    lite.drop_connect = drop_connect
    ends = {32: STEM, 1280: TOP}  # a third argument marks the first and the last layer
    lite.round_filters = lambda filters, _, *end: ends[filters] if end else filters
    inputs = (STEM, *WIDTHS[:-1])
    rows = zip(DEPTHS, KERNELS, STRIDES, inputs, WIDTHS, strict=True)
    blocks = [
        f'r{depth}_k{kernel}_s{stride}{stride}_e{6 if index else 1}_i{before}_o{width}{squeeze}'
        for index, (depth, kernel, stride, before, width) in enumerate(rows)
    ]
    _, usual = lite_utils.get_model_params('efficientnet-lite0', {})
    options = usual._replace(
        relu_fn=relu_fn,
        image_size=33,
        num_classes=figures.CLASSES,
        drop_connect_rate=DROP_PATH,
        dropout_rate=0.0,
        fix_head_stem=False,
    )
    return lite.EfficientNet(lite_utils.BlockDecoder.decode(blocks), options)
