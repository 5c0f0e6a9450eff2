"""The names of a ViT's entries in torchvision, timm, transformers and Google's `.npz` files."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.models import port_rules
from tljax.models.port_rules import CONV, LINEAR, PortRule, Transform


@functools.cache
def tables(
    last: str, head_width: int, norm_after_pooling: bool, distillation: bool, two_heads: bool
) -> Mapping[str, Sequence[PortRule]]:
    """The port tables of a ViT by library; `transformers4` is transformers before release 5.

    Args:
        last: the stage of the final layer norm.
        head_width: of an attention head.
        norm_after_pooling: whether that norm follows the pooling.
        distillation: whether there is a distillation token, as in transformers' DeiT.
        two_heads: whether a second head reads it.
    """
    norm = f'{last}/norm'
    return {
        'torchvision': _torchvision(norm),
        'timm': _timm(norm, 'fc_norm' if norm_after_pooling else 'norm'),
        'transformers': _transformers(norm, V5, distillation, two_heads),
        'transformers4': _transformers(norm, V4, distillation, two_heads),
        'google': _google(norm, head_width),
    }


# No table but timm's and transformers' has a distillation token.
DISTILLATION = 'params/embed/distillation_token'


def _torchvision(last: str) -> tuple[PortRule, ...]:
    theirs, ours = 'encoder.layers.encoder_layer_{b}', 'block{b+1}'
    mlp = [
        *port_rules.layer(f'{theirs}.mlp.0', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.mlp.3', f'{ours}/fc2', LINEAR),
    ]
    published = [  # torchvision's published files have these names, its modules those above
        *port_rules.layer(f'{theirs}.mlp.linear_1', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.mlp.linear_2', f'{ours}/fc2', LINEAR),
    ]
    attention = f'{theirs}.self_attention'
    return (
        PortRule('class_token', 'params/embed/class_token'),
        PortRule('encoder.pos_embedding', 'params/embed/position_embedding'),
        *port_rules.layer('conv_proj', 'embed/patch', CONV),
        *port_rules.layer_norm(f'{theirs}.ln_1', f'{ours}/norm1'),
        PortRule(f'{attention}.in_proj_weight', f'params/{ours}/qkv/kernel', LINEAR),
        PortRule(f'{attention}.in_proj_bias', f'params/{ours}/qkv/bias'),
        *port_rules.layer(f'{attention}.out_proj', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.ln_2', f'{ours}/norm2'),
        *mlp,
        *port_rules.aliases(published),
        *port_rules.layer_norm('encoder.ln', last),
        *port_rules.head('heads.head'),
    )


def _timm(last: str, norm: str) -> tuple[PortRule, ...]:
    """MAE's files for pretraining have its decoder too."""
    return (
        PortRule('cls_token', 'params/embed/class_token'),
        PortRule('dist_token', DISTILLATION),
        PortRule('pos_embed', 'params/embed/position_embedding'),
        *port_rules.layer('patch_embed.proj', 'embed/patch', CONV),
        *timm_block('blocks.{b}'),
        *port_rules.layer_norm(norm, last),
        *port_rules.head('head'),
        *port_rules.layer('head_dist', 'head/distilled', LINEAR),
        *port_rules.left_out(
            PortRule('mask_token', None),
            PortRule('decoder_pos_embed', None),
            *timm_block('decoder_blocks.{b}'),
            *(
                rule
                for name in ('decoder_embed', 'decoder_norm', 'decoder_pred')
                for rule in port_rules.layer(name, '', LINEAR)
            ),
        ),
    )


def timm_block(theirs: str, fc1: str = 'fc1', fc2: str = 'fc2') -> tuple[PortRule, ...]:
    """The table of a block in timm and in most repositories of Meta.

    Args:
        theirs: the name of the block, with its index as the field `b`.
        fc1: the name of the first linear layer of the MLP.
        fc2: the name of the second one.
    """
    ours = 'block{b+1}'
    return (
        *port_rules.layer_norm(f'{theirs}.norm1', f'{ours}/norm1'),
        *port_rules.layer(f'{theirs}.attn.qkv', f'{ours}/qkv', LINEAR),
        *port_rules.layer(f'{theirs}.attn.proj', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.norm2', f'{ours}/norm2'),
        *port_rules.layer(f'{theirs}.mlp.{fc1}', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.mlp.{fc2}', f'{ours}/fc2', LINEAR),
    )


@functools.cache
def _per_head(
    head_width: int,
) -> tuple[Transform, Transform, Transform]:
    """Per-head layouts of Flax: [3 width, heads, head], [3 heads, head], [heads, head, width]."""

    def qkv(x: np.ndarray) -> np.ndarray:
        return x.reshape(3, len(x) // 3, -1).transpose(1, 0, 2).reshape(len(x) // 3, -1)

    def qkv_back(x: np.ndarray) -> np.ndarray:
        parts = x.reshape(len(x), 3, -1).transpose(1, 0, 2)
        return parts.reshape(3 * len(x), -1, head_width)

    return (
        Transform(qkv, qkv_back, 'heads joined'),
        Transform(lambda x: x.reshape(-1), lambda x: x.reshape(-1, head_width), 'flat'),
        Transform(
            lambda x: x.reshape(-1, x.shape[-1]),
            lambda x: x.reshape(-1, head_width, x.shape[-1]),
            'heads joined',
        ),
    )


def flax_attention(theirs: str, ours: str, head_width: int) -> tuple[PortRule, ...]:
    """The table of Flax's `MultiHeadDotProductAttention`."""
    qkv, bias, out = _per_head(head_width)
    kernels, biases = (
        tuple(f'{theirs}/{part}/{kind}' for part in ('query', 'key', 'value'))
        for kind in ('kernel', 'bias')
    )
    return (
        PortRule(kernels, f'params/{ours}/qkv/kernel', qkv),
        PortRule(biases, f'params/{ours}/qkv/bias', bias),
        PortRule(f'{theirs}/out/kernel', f'params/{ours}/out/kernel', out),
        PortRule(f'{theirs}/out/bias', f'params/{ours}/out/bias'),
    )


def _google(last: str, head_width: int) -> tuple[PortRule, ...]:
    theirs, ours = 'Transformer/encoderblock_{b}', 'block{b+1}'
    alike = {
        'embedding': 'embed/patch',
        f'{theirs}/MlpBlock_3/Dense_0': f'{ours}/fc1',
        f'{theirs}/MlpBlock_3/Dense_1': f'{ours}/fc2',
        'head': 'head/linear',
    }
    norms = {
        f'{theirs}/LayerNorm_0': f'{ours}/norm1',
        f'{theirs}/LayerNorm_2': f'{ours}/norm2',
        'Transformer/encoder_norm': last,
    }
    position = 'params/embed/position_embedding'
    rules = (
        PortRule('cls', 'params/embed/class_token'),
        PortRule('Transformer/posembed_input/pos_embedding', position),
        *flax_attention(f'{theirs}/MultiHeadDotProductAttention_1', ours, head_width),
        *(
            PortRule(f'{a}/{kind}', f'params/{b}/{kind}')
            for pairs, kinds in ((alike, ('kernel', 'bias')), (norms, ('scale', 'bias')))
            for a, b in pairs.items()
            for kind in kinds
        ),
    )
    others = zip(rules, map(_of_big_vision, rules), strict=True)
    return (*rules, *(other for rule, other in others if other.names != rule.names))


BIG_VISION = {
    'MultiHeadDotProductAttention_1': 'MultiHeadDotProductAttention_0',
    'MlpBlock_3': 'MlpBlock_0',
    'LayerNorm_2': 'LayerNorm_1',
    'Transformer/posembed_input/pos_embedding': 'pos_embedding',
}


def _of_big_vision(rule: PortRule) -> PortRule:
    """The same under the names of github.com/google-research/big_vision, models/vit.py."""
    names = rule.names
    for theirs, other in BIG_VISION.items():
        names = tuple(name.replace(theirs, other) for name in names)
    return dataclasses.replace(rule, foreign=names, alias=True)


@dataclasses.dataclass(frozen=True)
class _Transformers:
    """The names of a block's parts in one release of transformers."""

    block: str
    qkv: str
    parts: tuple[str, str, str]
    out: str
    fc1: str
    fc2: str


V5 = _Transformers(
    block='vit.layers.{b}',
    qkv='attention',
    parts=('q_proj', 'k_proj', 'v_proj'),
    out='attention.o_proj',
    fc1='mlp.fc1',
    fc2='mlp.fc2',
)
V4 = _Transformers(
    block='vit.encoder.layer.{b}',
    qkv='attention.attention',
    parts=('query', 'key', 'value'),
    out='attention.output.dense',
    fc1='intermediate.dense',
    fc2='output.dense',
)


def _transformers(
    last: str, names: _Transformers, distillation: bool, two_heads: bool
) -> tuple[PortRule, ...]:
    """The networks are `vit` or, with a distillation token, `deit`."""
    rules = _transformers_body(last, names)
    renamed = tuple(
        dataclasses.replace(
            rule, foreign=tuple(name.replace('vit.', 'deit.', 1) for name in rule.names)
        )
        for rule in rules
    )
    one, other = port_rules.head('classifier'), port_rules.head('cls_classifier')
    return (
        *(renamed if distillation else rules),
        *port_rules.aliases(rules if distillation else renamed),
        *port_rules.without_prefix(rules, 'vit.'),
        *(other if two_heads else one),
        *port_rules.aliases(one if two_heads else other),
        *port_rules.layer('distillation_classifier', 'head/distilled', LINEAR),
    )


def _transformers_body(last: str, names: _Transformers) -> tuple[PortRule, ...]:
    theirs, ours = names.block, 'block{b+1}'
    parts = [f'{theirs}.{names.qkv}.{part}' for part in names.parts]
    return (
        PortRule('vit.embeddings.cls_token', 'params/embed/class_token'),
        PortRule('vit.embeddings.distillation_token', DISTILLATION),
        PortRule('vit.embeddings.position_embeddings', 'params/embed/position_embedding'),
        *port_rules.layer('vit.embeddings.patch_embeddings.projection', 'embed/patch', CONV),
        *port_rules.layer_norm(f'{theirs}.layernorm_before', f'{ours}/norm1'),
        *port_rules.joined_layers(parts, f'{ours}/qkv'),
        *port_rules.layer(f'{theirs}.{names.out}', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.layernorm_after', f'{ours}/norm2'),
        *port_rules.layer(f'{theirs}.{names.fc1}', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.{names.fc2}', f'{ours}/fc2', LINEAR),
        *port_rules.layer_norm('vit.layernorm', last),
        # The pooler comes from BERT; no image classifier reads it.
        PortRule('vit.pooler.dense.weight', None),
        PortRule('vit.pooler.dense.bias', None),
    )
