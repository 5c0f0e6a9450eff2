"""The names of entries of SigLIP's image tower in transformers, timm, open_clip and big_vision.

A tuned head that reads the attention pooling is written as `head` under transformers' names,
because transformers' `classifier` reads the mean of the patches.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from tljax.models import port_rules
from tljax.models.backbones import clip_tables, vit_tables
from tljax.models.port_rules import CONV, LINEAR, PortRule

POSITION = 'params/embed/position_embedding'


@functools.cache
def tables(depth: int, head_width: int, attention_pool: bool) -> Mapping[str, Sequence[PortRule]]:
    """The port tables by library; the heads of big_vision's files are `head_width` wide."""
    last = f'block{depth}/norm'
    timm = _timm(last, attention_pool)
    big_vision = _big_vision(last, head_width, attention_pool)
    return {
        'transformers': _transformers(last, attention_pool),
        'timm': timm,
        'open_clip': port_rules.with_prefix(timm, 'visual.trunk.'),
        'big_vision': port_rules.with_prefix(big_vision, 'params/img/'),
    }


def _transformers(last: str, attention_pool: bool) -> tuple[PortRule, ...]:
    """Source: transformers, models/siglip/modeling_siglip.py."""
    embeddings = 'vision_model.embeddings'
    pool = _transformers_pool()
    rules = (
        PortRule(f'{embeddings}.position_embedding.weight', POSITION, port_rules.leading_axes(1)),
        # A buffer in some files: 0, 1, ... as integers.
        PortRule(f'{embeddings}.position_ids', None),
        *port_rules.layer(f'{embeddings}.patch_embedding', 'embed/patch', CONV),
        *clip_tables.transformers_block(),
        *port_rules.layer_norm('vision_model.post_layernorm', last),
        *(rule if attention_pool else dataclasses.replace(rule, ours=None) for rule in pool),
    )
    head = port_rules.head('head' if attention_pool else 'classifier')
    return (*rules, *port_rules.without_prefix(rules, 'vision_model.'), *head)


def _transformers_pool() -> tuple[PortRule, ...]:
    theirs = 'vision_model.head'
    return (
        PortRule(f'{theirs}.probe', 'params/pool/probe'),
        PortRule(f'{theirs}.attention.in_proj_weight', 'params/pool/qkv/kernel', LINEAR),
        PortRule(f'{theirs}.attention.in_proj_bias', 'params/pool/qkv/bias'),
        *port_rules.layer(f'{theirs}.attention.out_proj', 'pool/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.layernorm', 'pool/norm'),
        *port_rules.layer(f'{theirs}.mlp.fc1', 'pool/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.mlp.fc2', 'pool/fc2', LINEAR),
    )


def _timm(last: str, attention_pool: bool) -> tuple[PortRule, ...]:
    theirs, ours = 'blocks.{b}', 'block{b+1}'
    rules = (
        PortRule('pos_embed', POSITION),
        *port_rules.layer('patch_embed.proj', 'embed/patch', CONV),
        *port_rules.layer_norm(f'{theirs}.norm1', f'{ours}/norm1'),
        *port_rules.layer(f'{theirs}.attn.qkv', f'{ours}/qkv', LINEAR),
        *port_rules.layer(f'{theirs}.attn.proj', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.norm2', f'{ours}/norm2'),
        *port_rules.layer(f'{theirs}.mlp.fc1', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.mlp.fc2', f'{ours}/fc2', LINEAR),
        *port_rules.layer_norm('norm', last),
        *port_rules.head('head'),
    )
    query_first = {'shares': (1, 2)}
    pool = (
        PortRule('attn_pool.latent', 'params/pool/probe'),
        *(
            dataclasses.replace(rule, **query_first)
            for rule in port_rules.joined_layers(('attn_pool.q', 'attn_pool.kv'), 'pool/qkv')
        ),
        *port_rules.layer('attn_pool.proj', 'pool/out', LINEAR),
        *port_rules.layer_norm('attn_pool.norm', 'pool/norm'),
        *port_rules.layer('attn_pool.mlp.fc1', 'pool/fc1', LINEAR),
        *port_rules.layer('attn_pool.mlp.fc2', 'pool/fc2', LINEAR),
    )
    return (*rules, *pool) if attention_pool else rules


def _big_vision(last: str, head_width: int, attention_pool: bool) -> tuple[PortRule, ...]:
    """Source: github.com/google-research/big_vision, big_vision/models/vit.py."""
    theirs, ours = 'Transformer/encoderblock_{b}', 'block{b+1}'
    rules = (
        PortRule('pos_embedding', POSITION),
        *_layers({'embedding': 'embed/patch', 'head': 'head/linear'}),
        *vit_tables.flax_attention(f'{theirs}/MultiHeadDotProductAttention_0', ours, head_width),
        *_mlp(f'{theirs}/MlpBlock_0', ours),
        *_norms({f'{theirs}/LayerNorm_0': f'{ours}/norm1'}),
        *_norms({f'{theirs}/LayerNorm_1': f'{ours}/norm2', 'Transformer/encoder_norm': last}),
    )
    pool = (
        PortRule('MAPHead_0/probe', 'params/pool/probe'),
        *vit_tables.flax_attention('MAPHead_0/MultiHeadDotProductAttention_0', 'pool', head_width),
        *_mlp('MAPHead_0/MlpBlock_0', 'pool'),
        *_norms({'MAPHead_0/LayerNorm_0': 'pool/norm'}),
    )
    return (*rules, *pool) if attention_pool else rules


def _mlp(theirs: str, ours: str) -> tuple[PortRule, ...]:
    return _layers({f'{theirs}/Dense_0': f'{ours}/fc1', f'{theirs}/Dense_1': f'{ours}/fc2'})


def _layers(
    names: Mapping[str, str], kinds: tuple[str, ...] = ('kernel', 'bias')
) -> tuple[PortRule, ...]:
    """Flax's layers, whose arrays have our layout."""
    pairs = names.items()
    return tuple(PortRule(f'{a}/{kind}', f'params/{b}/{kind}') for a, b in pairs for kind in kinds)


def _norms(names: Mapping[str, str]) -> tuple[PortRule, ...]:
    return _layers(names, ('scale', 'bias'))
