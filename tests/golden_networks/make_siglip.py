"""The cases of SigLIP under the names of timm, transformers, open_clip and big_vision."""

# pyright: reportMissingImports=false

from collections.abc import Iterator

import timm
import torch
import transformers

from tests.golden_networks import figures
from tests.golden_networks.make import Case
from tests.golden_networks.make_clip import PLAIN, Named, Prefixed

FIELDS = {'class': 'tljax:SigLIP', 'width': 128, 'patch_px': 14, 'size_px': 28, 'depth': 2}


def tower(**fields: object) -> torch.nn.Module:
    """A tower of timm."""
    fields = {'depth': 2, 'num_classes': 0, 'global_pool': 'map', 'drop_path_rate': 0.4} | fields
    return timm.models.VisionTransformer(
        img_size=28,
        patch_size=14,
        embed_dim=128,
        num_heads=2,
        class_token=False,
        dynamic_img_size=True,
        **fields,
    )


def vision_config() -> transformers.SiglipVisionConfig:
    """A tower of transformers."""
    return transformers.SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=30,
        patch_size=14,
    )


# Names in big_vision, models/vit.py (`_Model`, `MAPHead`), and in timm.
LAYERS = {
    'embedding': 'patch_embed.proj',
    'MAPHead_0/MlpBlock_0/Dense_0': 'attn_pool.mlp.fc1',
    'MAPHead_0/MlpBlock_0/Dense_1': 'attn_pool.mlp.fc2',
    'Transformer/encoderblock_{b}/MlpBlock_0/Dense_0': 'blocks.{b}.mlp.fc1',
    'Transformer/encoderblock_{b}/MlpBlock_0/Dense_1': 'blocks.{b}.mlp.fc2',
}
NORMS = {
    'Transformer/encoder_norm': 'norm',
    'MAPHead_0/LayerNorm_0': 'attn_pool.norm',
    'Transformer/encoderblock_{b}/LayerNorm_0': 'blocks.{b}.norm1',
    'Transformer/encoderblock_{b}/LayerNorm_1': 'blocks.{b}.norm2',
}
ATTENTIONS = {
    'MAPHead_0/MultiHeadDotProductAttention_0': ('attn_pool.q', 'attn_pool.kv', 'attn_pool.proj'),
    'Transformer/encoderblock_{b}/MultiHeadDotProductAttention_0': (
        'blocks.{b}.attn.qkv', 'blocks.{b}.attn.qkv', 'blocks.{b}.attn.proj',
    ),
}  # fmt: skip
PREFIX = 'params/img/'


def expanded(names: dict) -> dict:
    """The names of both blocks for those with `{b}`."""
    return {
        PREFIX + key.replace('{b}', str(b)): (
            tuple(v.replace('{b}', str(b)) for v in value)
            if isinstance(value, tuple)
            else value.replace('{b}', str(b))
        )
        for key, value in names.items()
        for b in range(2)
    }


def big_vision_shapes() -> dict[str, tuple[int, ...]]:
    """The entries of the tower in a file of big_vision, with two heads of 64."""
    sizes = {'Dense_0': (128, 512), 'Dense_1': (512, 128), 'embedding': (14, 14, 3, 128)}
    shapes: dict[str, tuple[int, ...]] = {
        f'{PREFIX}pos_embedding': (1, 4, 128),
        f'{PREFIX}MAPHead_0/probe': (1, 1, 128),
    }
    for name in expanded(LAYERS):
        size = sizes[name.split('/')[-1]]
        shapes |= {f'{name}/kernel': size, f'{name}/bias': size[-1:]}
    for name in expanded(NORMS):
        shapes |= {f'{name}/{kind}': (128,) for kind in ('scale', 'bias')}
    for name in expanded(ATTENTIONS):
        for part in ('query', 'key', 'value'):
            shapes |= {f'{name}/{part}/kernel': (128, 2, 64), f'{name}/{part}/bias': (2, 64)}
        shapes |= {f'{name}/out/kernel': (2, 64, 128), f'{name}/out/bias': (128,)}
    return shapes


def big_vision_names(entries: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of timm's tower."""
    state = {
        'pos_embed': entries[f'{PREFIX}pos_embedding'],
        'attn_pool.latent': entries[f'{PREFIX}MAPHead_0/probe'],
    }
    for name, theirs in expanded(LAYERS).items():
        kernel = entries[f'{name}/kernel']
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        state |= {
            f'{theirs}.weight': kernel.permute(axes),
            f'{theirs}.bias': entries[f'{name}/bias'],
        }
    for name, theirs in expanded(NORMS).items():
        state[f'{theirs}.weight'] = entries[f'{name}/scale']
        state[f'{theirs}.bias'] = entries[f'{name}/bias']
    for name, (query, others, out) in expanded(ATTENTIONS).items():
        for kind, entry, shape in (('weight', 'kernel', (128, 128)), ('bias', 'bias', (128,))):
            parts = [entries[f'{name}/{part}/{entry}'] for part in ('query', 'key', 'value')]
            parts = [part.reshape(shape).permute(*reversed(range(len(shape)))) for part in parts]
            split = {query: parts} if query == others else {query: parts[:1], others: parts[1:]}
            state |= {f'{theirs}.{kind}': torch.cat(some) for theirs, some in split.items()}
        state[f'{out}.weight'] = entries[f'{name}/out/kernel'].reshape(128, 128).mT
        state[f'{out}.bias'] = entries[f'{name}/out/bias']
    return state


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    yield (
        'timm',
        Case(
            module=tower(),
            backbone={**FIELDS, 'activation': 'gelu', 'drop_path': 0.4},
            naming='timm',
            size=28,
            sizes=(28, 42),
        ),
    )
    config = transformers.SiglipConfig(vision_config=vision_config().to_dict())
    yield (
        'transformers',
        Case(
            module=transformers.SiglipVisionModel(config.vision_config),
            backbone={**FIELDS, **PLAIN, 'mlp_ratio': 1.5},
            naming='transformers',
            size=30,  # of which 28 are read
            sizes=(30, 42),
            rename=lambda name: f'vision_model.{name}',
            outputs=lambda m, x: m(x, interpolate_pos_encoding=True).pooler_output,
        ),
    )
    config = transformers.SiglipConfig(
        vision_config=vision_config().to_dict(), num_labels=figures.CLASSES
    )
    yield (
        'transformers_classifier',
        Case(
            module=transformers.SiglipForImageClassification(config),
            backbone={**FIELDS, **PLAIN, 'mlp_ratio': 1.5, 'attention_pool': False},
            naming='transformers',
            size=28,
            sizes=(28, 42),
            outputs=lambda m, x: m(x, interpolate_pos_encoding=True).logits,
        ),
    )
    yield (
        'timm_average',
        Case(
            module=tower(num_classes=figures.CLASSES, global_pool='avg', fc_norm=False),
            backbone={**FIELDS, 'activation': 'gelu', 'attention_pool': False, 'drop_path': 0.4},
            naming='timm',
            size=28,
            options={'global_pool': 'avg'},
        ),
    )
    yield (
        'open_clip',
        Case(
            module=Prefixed(tower()),
            backbone={**FIELDS, 'activation': 'gelu', 'drop_path': 0.4},
            naming='open_clip',
            size=28,
        ),
    )
    yield (
        'big_vision',
        Case(
            module=Named(big_vision_shapes(), tower(act_layer='gelu_tanh'), big_vision_names),
            backbone={**FIELDS, 'drop_path': 0.4},
            naming='big_vision',
            size=28,
            sizes=(28, 42),
        ),
    )
