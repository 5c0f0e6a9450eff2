"""The cases of ViT: stochastic depth of timm, and transformers' positions at other sizes."""

# pyright: reportMissingImports=false

from collections.abc import Iterator

import timm
import transformers

from tests.golden_networks import figures
from tests.golden_networks.make import Case


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield 'timm', Case(
        module=timm.models.VisionTransformer(
            img_size=32,
            patch_size=16,
            embed_dim=64,
            depth=3,
            num_heads=1,
            num_classes=figures.CLASSES,
            drop_path_rate=0.4,
        ),
        backbone={
            'class': 'tljax:ViT', 'width': 64, 'depth': 3, 'size_px': 32, 'drop_path': 0.4,
        },
        naming='timm',
        size=32,
    )  # fmt: skip
    config = transformers.ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=128,
        image_size=64,
        num_labels=figures.CLASSES,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    yield 'transformers', Case(
        module=transformers.ViTForImageClassification(config),
        backbone={
            'class': 'tljax:ViT', 'width': 64, 'depth': 2, 'size_px': 64, 'mlp_ratio': 2.0,
            'epsilon': 1e-12,
            'position_resizing': {'enum': 'tljax:PositionResizing', 'value': 'plain'},
        },
        naming='transformers',
        size=64,
        sizes=(64, 96),
        outputs=lambda module, x: module(x, interpolate_pos_encoding=True).logits,
    )  # fmt: skip
