"""The names of a DINOv2's entries in Meta's files, timm and transformers."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.models import port_rules
from tljax.models.backbones import vit_tables
from tljax.models.port_rules import CONV, LINEAR, PortRule

TOKEN, REGISTERS = 'params/embed/class_token', 'params/embed/registers'
POSITIONS = 'params/embed/position_embedding'


@functools.cache
def tables(depth: int, gated: bool, registers: bool) -> Mapping[str, Sequence[PortRule]]:
    """The port tables by library; `transformers4` is transformers before release 5.

    Args:
        depth: the number of blocks.
        gated: whether the MLP is a SwiGLU.
        registers: whether there are registers, which transformers has in a class of its own.
    """
    return {
        'timm': _timm(depth),
        'facebook': _facebook(depth, gated),
        'transformers': _transformers(depth, gated, registers, release=5),
        'transformers4': _transformers(depth, gated, registers, release=4),
    }


def mask_token(name: str) -> PortRule:
    """The rule of a token [1, F] for masked patches in pretraining: dropped, exported as zeros."""
    return PortRule(name, None, exported_with=TOKEN, exported_as=lambda x: np.zeros_like(x[0]))


def scales(foreign: str, first: str, second: str) -> tuple[PortRule, ...]:
    """The table of a block's two scales (LayerScale)."""
    return tuple(
        PortRule(f'{foreign}.{name}', f'params/block{{b+1}}/scale{index}')
        for index, name in enumerate((first, second), 1)
    )


def _timm(depth: int) -> tuple[PortRule, ...]:
    """Its SwiGLU has the names of other MLPs."""
    return (
        PortRule('cls_token', TOKEN),
        PortRule('pos_embed', POSITIONS),
        PortRule('reg_token', REGISTERS),
        *port_rules.layer('patch_embed.proj', 'embed/patch', CONV),
        *vit_tables.timm_block('blocks.{b}'),
        *scales('blocks.{b}', 'ls1.gamma', 'ls2.gamma'),
        *port_rules.layer_norm('norm', f'block{depth}/norm'),
        *port_rules.head('head'),
    )


def _facebook(depth: int, gated: bool) -> tuple[PortRule, ...]:
    """github.com/facebookresearch/dinov2; its training keeps blocks in chunks."""
    parts = ('w12', 'w3') if gated else ('fc1', 'fc2')
    block, chunked = (
        (*vit_tables.timm_block(name, *parts), *scales(name, 'ls1.gamma', 'ls2.gamma'))
        for name in ('blocks.{b}', 'blocks.{chunk}.{b}')
    )
    return (
        PortRule('cls_token', TOKEN),
        PortRule('pos_embed', POSITIONS),
        PortRule('register_tokens', REGISTERS),
        mask_token('mask_token'),
        *port_rules.layer('patch_embed.proj', 'embed/patch', CONV),
        *block,
        *port_rules.aliases(chunked),
        *port_rules.layer_norm('norm', f'block{depth}/norm'),
        *port_rules.head('linear_head'),
    )


def _transformers(depth: int, gated: bool, registers: bool, release: int) -> tuple[PortRule, ...]:
    prefixes = ('dinov2.', 'dinov2_with_registers.')
    rules, others = (
        _transformers_body(prefix, depth, gated, release)
        for prefix in (reversed(prefixes) if registers else prefixes)
    )
    return (
        *rules,
        *port_rules.aliases(others),
        *port_rules.without_prefix(rules, prefixes[registers]),
        *port_rules.head('classifier'),
    )


def _transformers_body(prefix: str, depth: int, gated: bool, release: int) -> tuple[PortRule, ...]:
    theirs, ours = f'{prefix}encoder.layer.{{b}}', 'block{b+1}'
    if release == 5:
        parts, out = (
            ('attention.q_proj', 'attention.k_proj', 'attention.v_proj'),
            'attention.o_proj',
        )
    else:
        parts = tuple(f'attention.attention.{part}' for part in ('query', 'key', 'value'))
        out = 'attention.output.dense'
    return (
        PortRule(f'{prefix}embeddings.cls_token', TOKEN),
        PortRule(f'{prefix}embeddings.position_embeddings', POSITIONS),
        PortRule(f'{prefix}embeddings.register_tokens', REGISTERS),
        mask_token(f'{prefix}embeddings.mask_token'),
        *port_rules.layer(f'{prefix}embeddings.patch_embeddings.projection', 'embed/patch', CONV),
        *port_rules.layer_norm(f'{theirs}.norm1', f'{ours}/norm1'),
        *port_rules.joined_layers([f'{theirs}.{part}' for part in parts], f'{ours}/qkv'),
        *port_rules.layer(f'{theirs}.{out}', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.norm2', f'{ours}/norm2'),
        *_transformers_mlp(f'{theirs}.mlp', ours, gated, release),
        *scales(theirs, 'layer_scale1.lambda1', 'layer_scale2.lambda1'),
        *port_rules.layer_norm(f'{prefix}layernorm', f'block{depth}/norm'),
    )


def _transformers_mlp(theirs: str, ours: str, gated: bool, release: int) -> tuple[PortRule, ...]:
    if gated and release == 5:
        return (
            *port_rules.joined_layers([f'{theirs}.gate_proj', f'{theirs}.up_proj'], f'{ours}/fc1'),
            *port_rules.layer(f'{theirs}.down_proj', f'{ours}/fc2', LINEAR),
        )
    fc1, fc2 = ('weights_in', 'weights_out') if gated else ('fc1', 'fc2')
    return (
        *port_rules.layer(f'{theirs}.{fc1}', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.{fc2}', f'{ours}/fc2', LINEAR),
    )
