"""The cases of MobileNetV2 and MobileNetV3: torchvision, and timm with both paddings."""

# pyright: reportMissingImports=false

import functools
from collections.abc import Iterator
from typing import Any

import torch
from timm.models import _efficientnet_builder as builder
from timm.models import efficientnet, mobilenetv3
from torchvision.models import mobilenetv2 as torchvision_v2
from torchvision.models import mobilenetv3 as torchvision_v3

from tests.golden_networks import figures
from tests.golden_networks.make import Case

DROP_PATH = 0.3
TOP, FC = 64, 40
TF_NORM = functools.partial(torch.nn.BatchNorm2d, eps=builder.BN_EPS_TF_DEFAULT)
# timm's blocks of MobileNetV3 Small, with fewer of them and narrow ones.
SMALL = [
    ['ds_r1_k3_s2_e1_c16_se0.25_nre'],
    ['ir_r1_k3_s2_e2_c24_nre', 'ir_r1_k3_s1_e3.67_c24_nre'],
    ['ir_r1_k5_s2_e4_c32_se0.25'],
    ['ir_r1_k5_s1_e3_c40_se0.25'],
    ['ir_r1_k5_s2_e2_c48_se0.25'],
    [f'cn_r1_k1_s1_c{TOP}'],
]
V2 = [
    ['ds_r1_k3_s1_c8'],
    ['ir_r2_k3_s2_e6_c16'],
    ['ir_r1_k3_s2_e6_c24'],
    ['ir_r1_k3_s2_e6_c32'],
    ['ir_r1_k3_s1_e6_c40'],
    ['ir_r1_k3_s2_e6_c48'],
    ['ir_r1_k3_s1_e6_c56'],
]


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    v3 = {
        'class': 'tljax:MobileNetV3', 'depths': (1, 2, 1, 1, 1), 'widths': (16, 24, 32, 40, 48),
        'inner': (16, 32, 88, 96, 96, 80), 'top_width': TOP, 'fc_width': FC,
        'drop_path': DROP_PATH, 'stats_decay': 0.9,
    }  # fmt: skip
    yield (
        'timm_v3_of_tensorflow',
        Case(
            module=_timm_v3(TF_NORM, pad_type='same'),
            backbone=v3 | {'same_padding': True},
            naming='timm',
            size=32,
            sizes=(32, 49),
            options={'architecture': 'tf_mobilenetv3_small_100'},
        ),
    )
    yield (
        'timm_v3',
        Case(
            module=_timm_v3(torch.nn.BatchNorm2d),
            backbone=v3 | {'epsilon': 1e-5},
            naming='timm',
            size=32,
        ),
    )
    for arch in ('small', 'large'):
        setting, last = torchvision_v3._mobilenet_v3_conf(f'mobilenet_v3_{arch}', width_mult=0.25)
        yield (
            f'torchvision_v3_{arch}',
            Case(
                module=torchvision_v3.MobileNetV3(
                    setting, last, num_classes=figures.CLASSES, dropout=0.0
                ),
                backbone=_of_torchvision(setting, last),
                naming='torchvision',
                size=32,
                sizes=(32, 49),
            ),
        )
    v2 = {'class': 'tljax:MobileNetV2'}
    yield 'timm_v2', Case(
        module=_timm_v2(),
        backbone=v2 | {
            'depths': (1, 2, 1, 1, 1, 1, 1), 'widths': (8, 16, 24, 32, 40, 48, 56),
            'stem_width': 16, 'top_width': TOP, 'drop_path': DROP_PATH,
        },
        naming='timm',
        size=32,
        sizes=(32, 49),
    )  # fmt: skip
    yield (
        'torchvision_v2',
        Case(
            module=torchvision_v2.MobileNetV2(figures.CLASSES, width_mult=0.25, dropout=0.0),
            backbone=v2 | {'widths': (8, 8, 8, 16, 24, 40, 80), 'stem_width': 8},
            naming='torchvision',
            size=32,
        ),
    )


def _of_torchvision(setting: Any, last: int) -> dict[str, Any]:
    """The fields of our network for torchvision's settings of its blocks."""
    depths = (1, 2, 3, 2, 3) if len(setting) == 11 else (1, 2, 3, 4, 2, 3)
    ends = [sum(depths[: stage + 1]) - 1 for stage in range(len(depths))]
    return {
        'class': 'tljax:MobileNetV3', 'depths': depths,
        'widths': tuple(setting[end].out_channels for end in ends),
        'inner': tuple(block.expanded_channels for block in setting),
        'stem_width': setting[0].input_channels,
        'top_width': 6 * setting[-1].out_channels, 'fc_width': last,
    }  # fmt: skip


def _timm_v3(norm: Any, **options: Any) -> torch.nn.Module:
    squeeze = functools.partial(
        mobilenetv3.SqueezeExcite,
        gate_layer='hard_sigmoid',
        force_act_layer=torch.nn.ReLU,
        rd_round_fn=builder.round_channels,
    )
    return mobilenetv3.MobileNetV3(
        builder.decode_arch_def(SMALL),
        num_classes=figures.CLASSES,
        num_features=FC,
        act_layer=torch.nn.Hardswish,
        norm_layer=norm,
        se_layer=squeeze,
        drop_path_rate=DROP_PATH,
        **options,
    )


def _timm_v2() -> torch.nn.Module:
    return efficientnet.EfficientNet(
        builder.decode_arch_def(V2),
        num_classes=figures.CLASSES,
        num_features=TOP,
        stem_size=16,
        act_layer=torch.nn.ReLU6,
        drop_path_rate=DROP_PATH,
    )
