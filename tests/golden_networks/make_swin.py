"""The cases of Swin: both versions under the names of every library.

Images of 64 px give the last stage maps of 2 x 2. In torchvision its windows stay 4 and the maps
are padded; in timm and in V2 of transformers its windows are 2. V1 of transformers cannot run with
windows larger than maps. The authors' files have the names of timm before release 0.9; see
github.com/microsoft/Swin-Transformer, models/swin_transformer.py and swin_transformer_v2.py.
"""

# pyright: reportMissingImports=false

import re
from collections.abc import Iterator
from typing import Any

import timm
import torch
import torchvision
import transformers

from tests.golden_networks import figures
from tests.golden_networks.make import Case

WIDTH, DEPTHS, HEADS, WINDOWS = 8, [2, 1, 1, 2], [1, 2, 2, 4], (4, 4, 4, 2)
FIELDS = {
    'class': 'tljax:Swin', 'width': WIDTH, 'depths': DEPTHS, 'heads': HEADS,
    'windows': list(WINDOWS),
}  # fmt: skip
V2 = {'version': 2}


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield from _torchvision()
    yield from _timm()
    yield from _transformers()


def _torchvision() -> Iterator[tuple[str, Case]]:
    module = torchvision.models.swin_transformer
    parts: dict[str, Any] = {
        '': {},
        'v2-': {'block': module.SwinTransformerBlockV2, 'downsample_layer': module.PatchMergingV2},
    }
    for version, options in parts.items():
        network = module.SwinTransformer(
            patch_size=[4, 4],
            embed_dim=WIDTH,
            depths=[2, 1, 1, 1],
            num_heads=HEADS,
            window_size=[4, 4],
            stochastic_depth_prob=0.3,
            num_classes=figures.CLASSES,
            **options,
        )
        fields = FIELDS | (V2 if version else {}) | {
            'depths': [2, 1, 1, 1], 'windows': [4] * 4, 'drop_path': 0.3,
        }  # fmt: skip
        yield (
            f'{version}torchvision',
            Case(module=network, backbone=fields, naming='torchvision', size=64, sizes=(64, 50)),
        )


def _resized(module: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The outputs for images of any size, with the windows of 64 px."""
    module.set_input_size(tuple(images.shape[2:]), window_size=WINDOWS)
    return module(images)


def _timm() -> Iterator[tuple[str, Case]]:
    options: dict[str, Any] = {
        'img_size': 64,
        'embed_dim': WIDTH,
        'depths': DEPTHS,
        'num_heads': HEADS,
        'window_size': 4,
        'num_classes': figures.CLASSES,
        'drop_path_rate': 0.3,
    }
    v1, v2 = timm.models.SwinTransformer, timm.models.SwinTransformerV2
    pretrained = {'pretrained_window_sizes': (6, 6, 6, 3)}
    common: dict[str, Any] = {'size': 64, 'sizes': (64, 128), 'outputs': _resized}
    named = {'architecture': 'swinv2_small_window6to4_96to64'}
    fields = FIELDS | {'drop_path': 0.3}
    of_v2 = fields | V2 | {'pretrained_windows': [6, 6, 6, 3]}
    yield 'timm', Case(module=v1(**options), backbone=fields, naming='timm', **common)
    yield (
        'v2-timm',
        Case(
            module=v2(**options, **pretrained),
            backbone=of_v2,
            naming='timm',
            options=named,
            **common,
        ),
    )
    theirs: dict[str, Any] = {'naming': 'microsoft', 'rename': _microsoft, 'size': 64}
    yield 'microsoft', Case(module=v1(**options), backbone=fields, **theirs)
    yield (
        'v2-microsoft',
        Case(module=v2(**options, **pretrained), backbone=of_v2, options=named, **theirs),
    )


def _microsoft(name: str) -> str:
    """The authors count the merging of patches with the stage before."""
    earlier = re.sub(
        r'^layers\.(\d)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', name
    )
    return earlier.replace('head.fc.', 'head.')


V4 = {
    r'attention\.([qkv])_proj': lambda m: f'attention.self.{QKV[m[1]]}',
    r'attention\.relative_position_bias\.': lambda _: 'attention.self.',
    r'attention\.o_proj': lambda _: 'attention.output.dense',
    r'mlp\.fc1': lambda _: 'intermediate.dense',
    r'mlp\.fc2': lambda _: 'output.dense',
}
QKV = {'q': 'query', 'k': 'key', 'v': 'value'}


def _before_release_5(name: str) -> str:
    for pattern, new in V4.items():
        name = re.sub(pattern, new, name)
    return name


def _transformers() -> Iterator[tuple[str, Case]]:
    options: dict[str, Any] = {
        'image_size': 64,
        'embed_dim': WIDTH,
        'depths': DEPTHS,
        'num_heads': HEADS,
        'window_size': 4,
        'num_labels': figures.CLASSES,
        'drop_path_rate': 0.0,
    }
    v2 = transformers.Swinv2Config(**options, pretrained_window_sizes=[6, 6, 6, 3])
    common: dict[str, Any] = {'size': 64, 'outputs': lambda module, x: module(x).logits}
    fields = FIELDS | {'windows': [2] * 4}
    for naming, rename in (
        ('transformers', lambda name: name),
        ('transformers4', _before_release_5),
    ):
        config = transformers.SwinConfig(**options | {'window_size': 2})
        v1 = transformers.SwinForImageClassification(config)
        yield (
            naming,
            Case(module=v1, backbone=fields, naming=naming, rename=rename, **common),
        )
    stated = ('window_size', 'image_size', 'pretrained_window_sizes', 'num_heads', 'depths')
    yield (
        'v2-transformers',
        Case(
            module=transformers.Swinv2ForImageClassification(v2),
            backbone=FIELDS | V2 | {'pretrained_windows': [6, 6, 6, 3]},
            naming='transformers',
            options={name: getattr(v2, name) for name in stated},
            **common,
        ),
    )
