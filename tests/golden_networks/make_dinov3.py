"""The cases of DINOv3: transformers', timm's and Meta's names, SwiGLU and biases.

Meta's code is not installed. Its network is timm's `Eva` with the names of the published file
`dinov3_vits16_pretrain_lvd1689m-08c60483.pth`: joined biases with a mask, the periods, a mask
token.
"""

# pyright: reportMissingImports=false

import re
from collections.abc import Iterator
from typing import Any

import timm
import torch
import transformers
from timm.models.eva import Eva

from tests.golden_networks import figures
from tests.golden_networks.make import Case

SMALL = {'class': 'tljax:DINOv3', 'width': 64, 'depth': 2}
MEAN = {'enum': 'tljax:TokenPooling', 'value': 'mean'}
SIZES = (32, 48)


def eva(**fields: Any) -> torch.nn.Module:
    """A small network with the other fields of timm's vit_small_patch16_dinov3."""
    usual = {
        'img_size': 32, 'patch_size': 16, 'embed_dim': 64, 'depth': 2, 'num_heads': 1,
        'num_classes': figures.CLASSES, 'dynamic_img_size': True, 'qkv_bias': False,
        'init_values': 1e-5, 'rope_type': 'dinov3', 'rope_temperature': 100,
        'rope_rotate_half': True, 'use_rot_pos_emb': True, 'use_abs_pos_emb': False,
        'num_reg_tokens': 4, 'use_fc_norm': False, 'global_pool': 'token',
        'norm_layer': lambda *a, **k: timm.layers.LayerNorm(*a, eps=1e-5, **k),
    }  # fmt: skip
    return Eva(**usual | fields)


class MaskedBias(torch.nn.Linear):
    """A linear layer whose bias is multiplied with a mask of the keys' part."""

    def __init__(self, width: int):
        super().__init__(width, 3 * width)
        self.register_buffer('bias_mask', torch.ones(3 * width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The mask is set here because the figures fill every entry by formula."""
        width = x.shape[-1]
        mask = torch.ones_like(self.bias_mask)
        mask[width : 2 * width] = 0
        return torch.nn.functional.linear(x, self.weight, self.bias * mask)


class Meta(torch.nn.Module):
    """timm's network with the layers of Meta's."""

    def __init__(self):
        super().__init__()
        self.network = eva(num_classes=0)
        for block in self.network.blocks:
            block.attn.qkv = MaskedBias(64)
        self.mask_token = torch.nn.Parameter(torch.zeros(1, 64))
        self.rope_embed = torch.nn.Module()
        self.rope_embed.register_buffer('periods', torch.zeros(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The class token [B, F]."""
        return self.network(x)


def of_meta(name: str) -> str:
    """The name in Meta's files."""
    name = name.removeprefix('network.').replace('reg_token', 'storage_tokens')
    return re.sub(r'gamma_(\d)', r'ls\1.gamma', name)


def config(**fields: Any) -> Any:
    """A small configuration of transformers."""
    return transformers.DINOv3ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=128,
        image_size=32,
        num_register_tokens=4,
        pos_embed_rescale=None,  # random in training
        **fields,
    )


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield (
        'transformers',
        Case(
            module=transformers.DINOv3ViTModel(config()),
            backbone={**SMALL, 'mlp_ratio': 2.0},
            naming='transformers',
            size=32,
            sizes=SIZES,
            outputs=lambda module, x: module(x).pooler_output,
        ),
    )
    yield (
        'transformers4_gated',
        Case(
            module=transformers.DINOv3ViTModel(config(use_gated_mlp=True, hidden_act='silu')),
            backbone={**SMALL, 'mlp_ratio': 2.0, 'gated': True},
            naming='transformers4',
            size=32,
            outputs=lambda module, x: module(x).pooler_output,
            rename=lambda name: name.replace('model.layer.', 'layer.'),
        ),
    )
    yield (
        'timm',
        Case(
            module=eva(drop_path_rate=0.4),
            backbone={**SMALL, 'qkv_bias': False, 'drop_path': 0.4},
            naming='timm',
            size=32,
            sizes=SIZES,
        ),
    )
    yield (
        'timm_gated_mean',
        Case(
            module=eva(qkv_bias=True, global_pool='avg', swiglu_mlp=True, swiglu_align_to=8),
            backbone={**SMALL, 'gated': True, 'pooling': MEAN},
            naming='timm',
            size=32,
            sizes=SIZES,
            options={'global_pool': 'avg'},
        ),
    )
    yield (
        'facebook',
        Case(
            module=Meta(), backbone=SMALL, naming='facebook', size=32, sizes=SIZES, rename=of_meta
        ),
    )
    yield 'convnext', Case(
        module=transformers.DINOv3ConvNextModel(
            transformers.DINOv3ConvNextConfig(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 2, 1])
        ),
        backbone={
            'class': 'tljax:ConvNeXt', 'depths': [1, 1, 2, 1], 'widths': [8, 16, 32, 64],
        },
        naming='dinov3',
        size=64,
        sizes=(64, 96),
        outputs=lambda module, x: module(x).pooler_output,
    )  # fmt: skip
