"""The cases of EfficientNetV2: torchvision with six stages, as S, and seven, as M; and timm."""

# pyright: reportMissingImports=false

import functools
from collections.abc import Iterator
from typing import Any

import torch
from timm.models import _efficientnet_builder as builder
from timm.models import efficientnet as timm_efficientnet
from torchvision.models import efficientnet

from tests.golden_networks import figures
from tests.golden_networks.make import Case

WIDTHS = (16, 24, 32, 40, 48, 56, 64)
DEPTHS = (1, 2, 1, 1, 1, 1, 1)
EXPANSIONS = (1, 4, 4, 4, 6, 6, 6)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
FUSED = 3
TOP = 64
DROP_PATH = 0.3


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield (
        'timm',
        Case(
            module=_timm(6),
            backbone=_network(6) | {'same_padding': True},
            naming='timm',
            size=32,
            sizes=(32, 49),
            options={'architecture': 'tf_efficientnetv2_s'},
        ),
    )
    yield (
        'torchvision',
        Case(
            module=_torchvision(6),
            backbone=_network(6),
            naming='torchvision',
            size=32,
            sizes=(32, 49),
        ),
    )
    yield (
        'torchvision_seven',
        Case(module=_torchvision(7), backbone=_network(7), naming='torchvision', size=32),
    )


def _network(stages: int) -> dict[str, Any]:
    return {
        'class': 'tljax:EfficientNetV2', 'depths': DEPTHS[:stages], 'widths': WIDTHS[:stages],
        'stem_width': WIDTHS[0], 'top_width': TOP, 'drop_path': DROP_PATH, 'epsilon': 1e-3,
    }  # fmt: skip


def _torchvision(stages: int) -> torch.nn.Module:
    inputs = (WIDTHS[0], *WIDTHS)
    rows = list(zip(EXPANSIONS, (3,) * 7, STRIDES, inputs, WIDTHS, DEPTHS, strict=False))[:stages]
    setting = [
        (efficientnet.FusedMBConvConfig if index < FUSED else efficientnet.MBConvConfig)(*row)
        for index, row in enumerate(rows)
    ]
    return efficientnet.EfficientNet(
        setting,
        dropout=0.0,
        stochastic_depth_prob=DROP_PATH,
        num_classes=figures.CLASSES,
        norm_layer=functools.partial(torch.nn.BatchNorm2d, eps=1e-3),
        last_channel=TOP,
    )


def _timm(stages: int) -> torch.nn.Module:
    rows = list(zip(DEPTHS, STRIDES, EXPANSIONS, WIDTHS, strict=True))[:stages]
    texts = [f'r{depth}_k3_s{stride}_e{e}_c{width}' for depth, stride, e, width in rows]
    architecture = [[f'cn_{texts[0]}_skip']]
    architecture += [[f'er_{text}'] for text in texts[1:FUSED]]
    architecture += [[f'ir_{text}_se0.25'] for text in texts[FUSED:]]
    return timm_efficientnet.EfficientNet(
        builder.decode_arch_def(architecture),
        num_classes=figures.CLASSES,
        num_features=TOP,
        stem_size=WIDTHS[0],
        pad_type='same',
        act_layer=torch.nn.SiLU,
        norm_layer=functools.partial(torch.nn.BatchNorm2d, eps=builder.BN_EPS_TF_DEFAULT),
        drop_path_rate=DROP_PATH,
    )
