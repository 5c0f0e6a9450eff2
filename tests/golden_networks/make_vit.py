"""The cases of ViT: stochastic depth and pooling of timm, positions of transformers, DeiT, MAE.

Meta's code of MAE and MoCo v3 is not installed. Its networks are timm's, with the names of the
published files `mae_pretrain_vit_base.pth`, `mae_finetuned_vit_base.pth` (`fc_norm`) and
`vit-s-300ep.pth.tar` (MoCo v3: prefixes and a head of several layers).
"""

# pyright: reportMissingImports=false

from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
import transformers
from timm.models.deit import VisionTransformerDistilled

from tests.golden_networks import figures
from tests.golden_networks.make import Case

PLAIN = {'enum': 'tljax:PositionResizing', 'value': 'plain'}
MEAN = {'enum': 'tljax:TokenPooling', 'value': 'mean'}
SMALL = {'class': 'tljax:ViT', 'width': 64, 'depth': 2, 'size_px': 32}
OF_TRANSFORMERS = {'mlp_ratio': 2.0, 'epsilon': 1e-12, 'position_resizing': PLAIN}
SIZES = (32, 48)
TIMM = {
    'img_size': 32, 'patch_size': 16, 'embed_dim': 64, 'depth': 2, 'num_heads': 1,
    'num_classes': figures.CLASSES, 'dynamic_img_size': True,
}  # fmt: skip


def config(kind: Any, **fields: Any) -> Any:
    """A small configuration of transformers."""
    return kind(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=128,
        image_size=32,
        num_labels=figures.CLASSES,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **fields,
    )


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield (
        'timm',
        Case(
            module=timm.models.VisionTransformer(**TIMM | {'depth': 3, 'drop_path_rate': 0.4}),
            backbone={**SMALL, 'depth': 3, 'drop_path': 0.4},
            naming='timm',
            size=32,
            sizes=SIZES,
        ),
    )
    yield (
        'transformers',
        Case(
            module=transformers.ViTForImageClassification(config(transformers.ViTConfig)),
            backbone={**SMALL, **OF_TRANSFORMERS},
            naming='transformers',
            size=32,
            sizes=SIZES,
            outputs=lambda module, x: module(x, interpolate_pos_encoding=True).logits,
        ),
    )
    yield from pooled()
    yield from distilled()
    yield from masked()
    yield (
        'moco',
        Case(
            module=MoCo(),
            backbone={**SMALL, 'head_width': 32},
            naming='timm',
            size=32,
            outputs=lambda module, x: module.encoder(x),
            rename=lambda name: name.replace('encoder.', 'module.base_encoder.'),
            options={'num_heads': 2},
            prefix='module.base_encoder.',
        ),
    )


def pooled() -> Iterator[tuple[str, Case]]:
    """Networks whose head reads the mean of the patches, before or after the last norm."""
    mean = {'pooling': MEAN}
    networks: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]] = {
        'fc_norm': ({'global_pool': 'avg'}, mean | {'norm_after_pooling': True}, {}),
        'stated_mean': (
            {'global_pool': 'avg', 'fc_norm': False, 'no_embed_class': True},
            mean | {'class_position': False},
            {'global_pool': 'avg'},
        ),
        'no_class_token': (
            {'global_pool': 'avg', 'fc_norm': False, 'class_token': False},
            # The entries are those of a SigLIP that reads the mean, and the function is the same.
            {'class': 'tljax:SigLIP', 'activation': 'gelu', 'attention_pool': False},
            {},
        ),
    }
    for name, (fields, backbone, options) in networks.items():
        yield (
            name,
            Case(
                module=timm.models.VisionTransformer(**TIMM, **fields),
                backbone={**SMALL, **backbone},
                naming='timm',
                size=32,
                sizes=SIZES,
                options=options,
            ),
        )


def distilled() -> Iterator[tuple[str, Case]]:
    """DeiT with its distillation token, and with one or two heads."""
    token = {'distillation_token': True}
    both = {'distillation_token': True, 'distillation_head': True}
    yield (
        'deit_timm',
        Case(
            module=VisionTransformerDistilled(**TIMM),
            backbone={**SMALL, **both},
            naming='timm',
            size=32,
            sizes=SIZES,
        ),
    )
    for name, kind, backbone in (
        ('deit_teacher', transformers.DeiTForImageClassificationWithTeacher, both),
        ('deit', transformers.DeiTForImageClassification, token),
    ):
        yield (
            name,
            Case(
                module=kind(config(transformers.DeiTConfig)),
                backbone={**SMALL, **OF_TRANSFORMERS, **backbone},
                naming='transformers',
                size=32,
                sizes=SIZES,
                outputs=lambda module, x: module(x, interpolate_pos_encoding=True).logits,
            ),
        )


def masked() -> Iterator[tuple[str, Case]]:
    """MAE's files for pretraining, whose decoder is left out."""
    decoder = {
        'decoder_num_hidden_layers': 1, 'decoder_hidden_size': 32,
        'decoder_num_attention_heads': 1, 'decoder_intermediate_size': 32,
    }  # fmt: skip
    yield (
        'mae_transformers',
        Case(
            module=transformers.ViTMAEForPreTraining(
                config(transformers.ViTMAEConfig, mask_ratio=0.0, **decoder)
            ),
            backbone={**SMALL, **OF_TRANSFORMERS},
            naming='transformers',
            size=32,
            outputs=unmasked,
        ),
    )
    yield (
        'mae',
        Case(
            module=MAE(),
            backbone=SMALL,
            naming='timm',
            size=32,
            outputs=lambda module, x: module.encoder(x),
            rename=lambda name: name.replace('encoder.', '', 1),
        ),
    )


def unmasked(module: Any, x: torch.Tensor) -> torch.Tensor:
    """The class token [B, F] of a ViTMAE whose patches are all kept in their order."""
    patches = (x.shape[-1] // 16) ** 2
    noise = torch.arange(patches, dtype=x.dtype).expand(len(x), -1)
    positions = module.vit.embeddings.position_embeddings
    positions.requires_grad_(True)  # fixed in pretraining; here its gradient is compared too
    return module.vit(x, noise=noise).last_hidden_state[:, 0]


class MAE(torch.nn.Module):
    """An encoder, and a decoder that is not used; `rename` gives both the names of Meta's."""

    def __init__(self):
        super().__init__()
        self.encoder = timm.models.VisionTransformer(**TIMM | {'num_classes': 0})
        self.mask_token = torch.nn.Parameter(torch.zeros(1, 1, 32))
        self.decoder_pos_embed = torch.nn.Parameter(torch.zeros(1, 5, 32))
        self.decoder_embed = torch.nn.Linear(64, 32)
        self.decoder_blocks = torch.nn.ModuleList([timm.models.vision_transformer.Block(32, 1)])
        self.decoder_norm = torch.nn.LayerNorm(32)
        self.decoder_pred = torch.nn.Linear(32, 768)


class MoCo(torch.nn.Module):
    """The trained encoder, its momentum copy and the head of the contrastive loss."""

    def __init__(self):
        super().__init__()
        network = TIMM | {'num_heads': 2, 'num_classes': 0, 'depth': 2}
        self.encoder = timm.models.VisionTransformer(**network)
        self.momentum_encoder = timm.models.VisionTransformer(**network)
        self.predictor = torch.nn.Linear(64, 32)
