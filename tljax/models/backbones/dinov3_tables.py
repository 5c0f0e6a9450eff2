"""The names of a DINOv3's entries in Meta's files, timm and transformers."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.models import port_rules
from tljax.models.backbones.dinov2_tables import REGISTERS, TOKEN, mask_token, scales
from tljax.models.port_rules import CONV, LINEAR, PortRule, Transform

BASE = 100.0  # `pos_embed_rope_base` of the published networks

# Queries' and values' biases joined; the keys' are zeros between them.
WITH_KEYS = Transform(
    lambda x: np.concatenate([x[: len(x) // 2], np.zeros_like(x[: len(x) // 2]), x[len(x) // 2 :]]),
    lambda x: np.concatenate([x[: len(x) // 3], x[2 * len(x) // 3 :]]),
    'zeros for keys',
)


@functools.cache
def tables(last: str, gated: bool, head_width: int) -> Mapping[str, Sequence[PortRule]]:
    """The port tables by library; `transformers4` is transformers before release 5.

    Args:
        last: the stage of the final layer norm.
        gated: whether the MLP is a SwiGLU.
        head_width: of an attention head.
    """
    return {
        'facebook': _facebook(last, gated, head_width),
        'timm': _timm(last, gated),
        'transformers': _transformers(last, gated, 'model.layer.{b}'),
        'transformers4': _transformers(last, gated, 'layer.{b}'),
    }


def _ends(patch: str, last: str, head: str) -> tuple[PortRule, ...]:
    """Patch embedding, last norm and classifier."""
    return (
        *port_rules.layer(patch, 'embed/patch', CONV),
        *port_rules.layer_norm('norm', f'{last}/norm'),
        *port_rules.head(head),
    )


def _facebook(last: str, gated: bool, head_width: int) -> tuple[PortRule, ...]:
    """github.com/facebookresearch/dinov3; 7B has a norm of its own for crops in pretraining."""
    theirs, ours = 'blocks.{b}', 'block{b+1}'
    return (
        PortRule('cls_token', TOKEN),
        PortRule('storage_tokens', REGISTERS),
        mask_token('mask_token'),
        PortRule(
            'rope_embed.periods',
            None,
            exported_with=TOKEN,
            exported_as=lambda _: _periods(head_width),
        ),
        *port_rules.left_out(*port_rules.layer_norm('local_cls_norm', '')),
        *_block(theirs),
        *port_rules.layer(f'{theirs}.attn.qkv', f'{ours}/qkv', LINEAR),
        PortRule(
            f'{theirs}.attn.qkv.bias_mask',
            None,
            exported_with=f'params/{ours}/qkv/bias',
            exported_as=lambda x: np.repeat(np.asarray([1, 0, 1], x.dtype), len(x) // 3),
        ),
        *port_rules.layer(f'{theirs}.attn.proj', f'{ours}/out', LINEAR),
        *scales(theirs, 'ls1.gamma', 'ls2.gamma'),
        *_mlp(f'{theirs}.mlp', ('w1', 'w2', 'w3') if gated else ('fc1', 'fc2')),
        *_ends('patch_embed.proj', last, 'linear_head'),
    )


def _periods(head_width: int) -> np.ndarray:
    count = head_width // 4
    return (BASE ** (np.arange(count) / count)).astype(np.float32)


def _timm(last: str, gated: bool) -> tuple[PortRule, ...]:
    theirs, ours = 'blocks.{b}', 'block{b+1}'
    biases = (f'{theirs}.attn.q_bias', f'{theirs}.attn.v_bias')
    return (
        PortRule('cls_token', TOKEN),
        PortRule('reg_token', REGISTERS),
        *_block(theirs),
        PortRule(f'{theirs}.attn.qkv.weight', f'params/{ours}/qkv/kernel', LINEAR),
        PortRule(biases, f'params/{ours}/qkv/bias', WITH_KEYS),
        *port_rules.layer(f'{theirs}.attn.proj', f'{ours}/out', LINEAR),
        *scales(theirs, 'gamma_1', 'gamma_2'),
        *_mlp(f'{theirs}.mlp', ('fc1_g', 'fc1_x', 'fc2') if gated else ('fc1', 'fc2')),
        *_ends('patch_embed.proj', last, 'head'),
    )


def _transformers(last: str, gated: bool, theirs: str) -> tuple[PortRule, ...]:
    ours, attention = 'block{b+1}', f'{theirs}.attention'
    weights = tuple(f'{attention}.{part}_proj.weight' for part in 'qkv')
    biases = tuple(f'{attention}.{part}_proj.bias' for part in 'qv')
    return (
        PortRule('embeddings.cls_token', TOKEN),
        PortRule('embeddings.register_tokens', REGISTERS),
        PortRule('embeddings.mask_token', None, exported_with=TOKEN, exported_as=np.zeros_like),
        *_block(theirs),
        PortRule(weights, f'params/{ours}/qkv/kernel', LINEAR),
        PortRule(biases, f'params/{ours}/qkv/bias', WITH_KEYS),
        *port_rules.layer(f'{attention}.o_proj', f'{ours}/out', LINEAR),
        *scales(theirs, 'layer_scale1.lambda1', 'layer_scale2.lambda1'),
        *_mlp(
            f'{theirs}.mlp',
            ('gate_proj', 'up_proj', 'down_proj') if gated else ('up_proj', 'down_proj'),
        ),
        *_ends('embeddings.patch_embeddings', last, 'classifier'),
    )


def _block(theirs: str) -> tuple[PortRule, ...]:
    """The norms of a block."""
    return tuple(
        rule
        for name in ('norm1', 'norm2')
        for rule in port_rules.layer_norm(f'{theirs}.{name}', f'block{{b+1}}/{name}')
    )


def _mlp(theirs: str, parts: Sequence[str]) -> tuple[PortRule, ...]:
    """`parts` are the names of the gate if there is one, the first and the second layer."""
    first = [f'{theirs}.{part}' for part in parts[:-1]]
    ours = 'block{b+1}/fc1'
    return (
        *(
            port_rules.joined_layers(first, ours)
            if len(first) == 2
            else port_rules.layer(first[0], ours, LINEAR)
        ),
        *port_rules.layer(f'{theirs}.{parts[-1]}', 'block{b+1}/fc2', LINEAR),
    )
