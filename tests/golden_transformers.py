"""Small networks of transformers, whose figures are in golden_transformers.json."""

import json
import pathlib
from typing import Any

FILE = pathlib.Path(__file__).with_suffix('.json')

# Kind, fields of its configuration, side of the images.
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    'vit': (
        'ViT',
        {
            'hidden_size': 64,
            'num_hidden_layers': 2,
            'num_attention_heads': 1,
            'intermediate_size': 128,
            'image_size': 32,
        },
        32,
    ),
    'convnext': ('ConvNext', {'depths': [1, 1, 2, 1], 'hidden_sizes': [8, 16, 24, 32]}, 50),
    'resnet18': (
        'ResNet',
        {
            'embedding_size': 64,
            'hidden_sizes': [64, 128, 256, 512],
            'depths': [2, 2, 2, 2],
            'layer_type': 'basic',
        },
        50,
    ),
}


def figures() -> dict[str, Any]:
    """`{network: {'manifest': {name: shape}, 'logits'}}`."""
    return json.loads(FILE.read_text())
