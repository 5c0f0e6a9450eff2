"""The cases of DINOv2: Meta's, timm's and transformers' names, registers and SwiGLU.

Meta's code is not installed. Its networks are timm's, with the names of the published files
`dinov2_vits14_pretrain.pth`, `dinov2_vitg14_pretrain.pth` (SwiGLU) and
`dinov2_vits14_reg4_pretrain.pth` (registers). Tokens and interpolated positions are as in
`prepare_tokens_with_masks` and `interpolate_pos_encoding` of dinov2/models/vision_transformer.py,
with the settings of dinov2/hub/backbones.py.
"""

# pyright: reportMissingImports=false

import re
from collections.abc import Iterator
from typing import Any

import timm
import torch
import transformers

from tests.golden_networks import figures
from tests.golden_networks.make import Case

PX = 28  # two by two patches
LARGER_PX = 42
SIZES = {'width': 64, 'depth': 2, 'size_px': PX}
TIMM = {
    'img_size': PX, 'patch_size': 14, 'embed_dim': 64, 'depth': 2, 'num_heads': 1,
    'init_values': 1e-5, 'dynamic_img_size': True,
}  # fmt: skip
ANTIALIASED = {'enum': 'tljax:PositionResizing', 'value': 'antialiased'}
PLAIN = {'enum': 'tljax:PositionResizing', 'value': 'plain'}
CONCATENATED = {'enum': 'tljax:Pooling', 'value': 'concatenated'}


def timm_network(**fields: Any) -> torch.nn.Module:
    """A small network of timm."""
    return timm.models.VisionTransformer(**TIMM, **fields)


# The MLP of timm's vit_giant_patch14_dinov2, 176 wide.
SWIGLU = {
    'mlp_ratio': 2 * 2.75, 'mlp_layer': timm.layers.SwiGLUPacked, 'act_layer': torch.nn.SiLU,
}  # fmt: skip


class Meta(timm.models.VisionTransformer):
    """timm's network with the tokens, the positions and the names of Meta's."""

    def __init__(self, registers: int = 0, **fields: Any):
        super().__init__(**TIMM, num_classes=0, **fields)
        self.mask_token = torch.nn.Parameter(torch.zeros(1, 64))
        if registers:
            self.register_tokens = torch.nn.Parameter(torch.zeros(1, registers, 64))

    def _pos_embed(self, x: torch.Tensor) -> torch.Tensor:
        batch, side = x.shape[:2]
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), x.flatten(1, 2)], 1)
        tokens = tokens + self._positions(side)
        if not hasattr(self, 'register_tokens'):
            return tokens
        registers = self.register_tokens.expand(batch, -1, -1)
        return torch.cat([tokens[:, :1], registers, tokens[:, 1:]], 1)

    def _positions(self, side: int) -> torch.Tensor:
        old = PX // 14
        if side == old:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
        if hasattr(self, 'register_tokens'):
            how = {'size': (side, side), 'antialias': True}
        else:
            how = {'scale_factor': ((side + 0.1) / old,) * 2}
        grid = torch.nn.functional.interpolate(grid, mode='bicubic', **how)
        return torch.cat([self.pos_embed[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def of_meta_gated(name: str) -> str:
    """The name in Meta's file of g."""
    return name.replace('mlp.fc1', 'mlp.w12').replace('mlp.fc2', 'mlp.w3')


def of_release_4(name: str) -> str:
    """The name before release 5 of transformers, as in the published files."""
    for new, old in {
        'q_proj': 'attention.query',
        'k_proj': 'attention.key',
        'v_proj': 'attention.value',
        'o_proj': 'output.dense',
    }.items():
        name = re.sub(rf'attention\.{new}', f'attention.{old}', name)
    return name


def config(kind: Any, **fields: Any) -> Any:
    """A small configuration of transformers."""
    return kind(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        image_size=PX,
        patch_size=14,
        num_labels=figures.CLASSES,
        **fields,
    )


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield (
        'facebook',
        Case(
            module=Meta(drop_path_rate=0.4),
            backbone={'class': 'tljax:DINOv2', **SIZES, 'drop_path': 0.4},
            naming='facebook',
            size=PX,
            sizes=(PX, LARGER_PX),
        ),
    )
    yield (
        'facebook_giant',
        Case(
            module=Meta(**SWIGLU),
            backbone={'class': 'tljax:DINOv2', **SIZES, 'gated': True, 'mlp_ratio': 2.75},
            naming='facebook',
            size=PX,
            rename=of_meta_gated,
        ),
    )
    yield 'timm_registers_giant', Case(
        module=timm_network(
            num_classes=figures.CLASSES, reg_tokens=4, no_embed_class=True, **SWIGLU
        ),
        backbone={
            'class': 'tljax:DINOv2', **SIZES, 'gated': True, 'mlp_ratio': 2.75, 'registers': 4,
            'class_position': False, 'position_resizing': ANTIALIASED,
        },
        naming='timm',
        size=PX,
        sizes=(PX, LARGER_PX),
    )  # fmt: skip
    yield (
        'timm',
        Case(
            module=timm_network(num_classes=0),
            backbone={'class': 'tljax:DINOv2', **SIZES, 'position_resizing': ANTIALIASED},
            naming='timm',
            size=PX,
            sizes=(PX, LARGER_PX),
        ),
    )
    yield from of_transformers()


def of_transformers() -> Iterator[tuple[str, Case]]:
    """Networks with and without a classifier, of two releases, which Meta's files share."""
    registers = transformers.Dinov2WithRegistersForImageClassification(
        config(transformers.Dinov2WithRegistersConfig, num_register_tokens=4)
    )
    with_registers = {
        **SIZES, 'class': 'tljax:DINOv2', 'registers': 4, 'position_resizing': ANTIALIASED,
    }  # fmt: skip
    yield (
        'transformers_registers',
        Case(
            module=registers,
            backbone=with_registers | {'head_pooling': CONCATENATED},
            naming='transformers',
            size=PX,
            sizes=(PX, LARGER_PX),
            outputs=lambda module, x: module(x).logits,
        ),
    )
    yield (
        'facebook_registers',
        Case(
            module=Meta(registers=4),
            backbone=with_registers,
            naming='facebook',
            size=PX,
            sizes=(PX, LARGER_PX),
        ),
    )
    yield 'transformers4', Case(
        module=transformers.Dinov2ForImageClassification(config(transformers.Dinov2Config)),
        backbone={
            'class': 'tljax:DINOv2', **SIZES, 'position_resizing': PLAIN,
            'head_pooling': CONCATENATED,
        },
        naming='transformers4',
        size=PX,
        sizes=(PX, LARGER_PX),
        outputs=lambda module, x: module(x).logits,
        rename=of_release_4,
    )  # fmt: skip
    giant = transformers.Dinov2Model(config(transformers.Dinov2Config, use_swiglu_ffn=True))
    yield 'transformers_giant', Case(
        module=giant,
        backbone={
            'class': 'tljax:DINOv2', **SIZES, 'position_resizing': PLAIN, 'gated': True,
            'mlp_ratio': 2.75,
        },
        naming='transformers',
        size=PX,
        outputs=lambda module, x: module(x).pooler_output,
        options={'hidden_act': 'gelu'},  # as the published config.json states, and g does not use
    )  # fmt: skip
