"""The names of entries of CLIP's image tower in OpenAI's files, transformers, timm and open_clip.

No library but timm has a classifier that reads the class token. A tuned head is written as
`classifier` under OpenAI's names and as `head` under transformers', whose `classifier` reads the
mean of the patches.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from tljax.models import port_rules
from tljax.models.port_rules import CONV, LINEAR, SAME, PortRule, Transform

PROJECTION = 'params/head/projection/kernel'


@functools.cache
def tables(depth: int, final_norm: bool, projection: bool) -> Mapping[str, Sequence[PortRule]]:
    """The port tables by library.

    Args:
        depth: the number of blocks.
        final_norm: whether the network has one; without, it is transformers' classifier.
        projection: whether CLIP's projection is read; without, it is dropped.
    """
    last = f'block{depth}/norm'
    if not final_norm:
        return {'transformers': _transformers(None, 'classifier')}
    openai = (*_openai(last), _projection('visual.proj', SAME, projection))
    timm = (*_timm(last), *port_rules.head('head'))
    projected = _projection('visual_projection.weight', LINEAR, projection)
    return {
        'openai': (
            *openai,
            *port_rules.without_prefix(openai, 'visual.'),
            *port_rules.head('classifier'),
        ),
        'transformers': (*_transformers(last, 'head'), projected),
        'timm': timm,
        'open_clip': (
            *port_rules.with_prefix(timm, 'visual.trunk.'),
            _projection('visual.head.proj.weight', LINEAR, projection),
        ),
    }


def _projection(foreign: str, transform: Transform, is_read: bool) -> PortRule:
    return PortRule(foreign, PROJECTION if is_read else None, transform)


def _openai(last: str) -> tuple[PortRule, ...]:
    """Source: github.com/openai/CLIP, clip/model.py."""
    theirs, ours = 'visual.transformer.resblocks.{b}', 'block{b+1}'
    position = 'params/embed/position_embedding'
    return (
        PortRule('visual.class_embedding', 'params/embed/class_token', port_rules.leading_axes(2)),
        PortRule('visual.positional_embedding', position, port_rules.leading_axes(1)),
        PortRule('visual.conv1.weight', 'params/embed/patch/kernel', CONV),
        *port_rules.layer_norm('visual.ln_pre', 'embed/norm'),
        *port_rules.layer_norm(f'{theirs}.ln_1', f'{ours}/norm1'),
        PortRule(f'{theirs}.attn.in_proj_weight', f'params/{ours}/qkv/kernel', LINEAR),
        PortRule(f'{theirs}.attn.in_proj_bias', f'params/{ours}/qkv/bias'),
        *port_rules.layer(f'{theirs}.attn.out_proj', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.ln_2', f'{ours}/norm2'),
        *port_rules.layer(f'{theirs}.mlp.c_fc', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.mlp.c_proj', f'{ours}/fc2', LINEAR),
        *port_rules.layer_norm('visual.ln_post', last),
    )


def _timm(last: str) -> tuple[PortRule, ...]:
    theirs, ours = 'blocks.{b}', 'block{b+1}'
    return (
        PortRule('cls_token', 'params/embed/class_token'),
        PortRule('pos_embed', 'params/embed/position_embedding'),
        PortRule('patch_embed.proj.weight', 'params/embed/patch/kernel', CONV),
        *port_rules.layer_norm('norm_pre', 'embed/norm'),
        *port_rules.layer_norm(f'{theirs}.norm1', f'{ours}/norm1'),
        *port_rules.layer(f'{theirs}.attn.qkv', f'{ours}/qkv', LINEAR),
        *port_rules.layer(f'{theirs}.attn.proj', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.norm2', f'{ours}/norm2'),
        *port_rules.layer(f'{theirs}.mlp.fc1', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.mlp.fc2', f'{ours}/fc2', LINEAR),
        *port_rules.layer_norm('norm', last),
    )


def _transformers(last: str | None, head: str) -> tuple[PortRule, ...]:
    """Source: transformers, models/clip/modeling_clip.py; `last` is None if it is not used."""
    embeddings, model = 'vision_model.embeddings', 'vision_model'
    position = 'params/embed/position_embedding'
    final = port_rules.layer_norm(f'{model}.post_layernorm', last or '')
    rules = (
        PortRule(
            f'{embeddings}.class_embedding', 'params/embed/class_token', port_rules.leading_axes(2)
        ),
        PortRule(f'{embeddings}.position_embedding.weight', position, port_rules.leading_axes(1)),
        # A buffer in files of before release 4.31: 0, 1, ... as integers.
        PortRule(f'{embeddings}.position_ids', None),
        PortRule(f'{embeddings}.patch_embedding.weight', 'params/embed/patch/kernel', CONV),
        *port_rules.layer_norm(f'{model}.pre_layrnorm', 'embed/norm'),
        *transformers_block(),
        *(rule if last else dataclasses.replace(rule, ours=None) for rule in final),
    )
    return (*rules, *port_rules.without_prefix(rules, 'vision_model.'), *port_rules.head(head))


def transformers_block() -> tuple[PortRule, ...]:
    """A block under transformers' names of CLIP and SigLIP."""
    theirs, ours = 'vision_model.encoder.layers.{b}', 'block{b+1}'
    parts = [f'{theirs}.self_attn.{part}_proj' for part in 'qkv']
    return (
        *port_rules.layer_norm(f'{theirs}.layer_norm1', f'{ours}/norm1'),
        *port_rules.joined_layers(parts, f'{ours}/qkv'),
        *port_rules.layer(f'{theirs}.self_attn.out_proj', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.layer_norm2', f'{ours}/norm2'),
        *port_rules.layer(f'{theirs}.mlp.fc1', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.mlp.fc2', f'{ours}/fc2', LINEAR),
    )
