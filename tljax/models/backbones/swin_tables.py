"""The names of a Swin Transformer's entries in torchvision, timm, transformers and its own code."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.models import port_rules, windows
from tljax.models.port_rules import CONV, LINEAR, PortRule, Transform

# V2's files without a bias of keys get zeros, which no output depends on.
WITHOUT_KEYS = Transform(
    lambda x: np.concatenate([x[: len(x) // 2], np.zeros_like(x[: len(x) // 2]), x[len(x) // 2 :]]),
    lambda x: np.concatenate([x[: len(x) // 3], x[2 * (len(x) // 3) :]]),
    'zeros for the keys',
)
INDEX, COORDINATES = 'relative_position_index', 'relative_coords_table'


@functools.lru_cache(maxsize=64)
def tables(
    version: int, sides: tuple[int, ...], pretrained: tuple[int, ...]
) -> Mapping[str, Sequence[PortRule]]:
    """The port tables by library; `transformers4` is transformers before release 5.

    Args:
        version: 1 or 2.
        sides: of the windows of each stage, which torchvision's files show in further entries.
        pretrained: the windows in which a network of V2 was pretrained, or 0.
    """
    result = {
        'torchvision': _torchvision(version, sides, pretrained),
        'timm': _timm(version, offset=1, head='head.fc'),
        'microsoft': _timm(version, offset=2, head='head'),
    }
    if version == 1:
        return result | {
            'transformers': _transformers('swin', V5),
            'transformers4': _transformers('swin', V4),
        }
    return result | {'transformers': _transformers('swinv2', V2)}


def _ends(patch: str, patch_norm: str, norm: str, head: str) -> tuple[PortRule, ...]:
    return (
        *port_rules.layer(patch, 'embed/patch', CONV),
        *port_rules.layer_norm(patch_norm, 'embed/norm'),
        *port_rules.layer_norm(norm, 'stage4/norm'),
        *port_rules.head(head),
    )


def _merge(foreign: str, ours: str) -> tuple[PortRule, ...]:
    return (
        PortRule(f'{foreign}.reduction.weight', f'params/{ours}/merge/kernel', LINEAR),
        *port_rules.layer_norm(f'{foreign}.norm', f'{ours}/merge_norm'),
    )


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The names of a block's parts, after its own.

    Attributes:
        norms: the two layer norms.
        out: the linear layer after attention.
        mlp: the two linear layers of the MLP.
        qkv: one layer, or one each for queries, keys and values.
        biases: those of queries and values, if they are not those of `qkv`.
        attention: what holds V2's `logit_scale` and buffers.
        positions: the bias table of V1, or the MLP of V2.
    """

    norms: tuple[str, str]
    out: str
    mlp: tuple[str, str]
    qkv: tuple[str, ...]
    biases: tuple[str, ...]
    attention: str
    positions: str


def _block(theirs: str, ours: str, parts: _Parts, version: int) -> tuple[PortRule, ...]:
    weights = tuple(f'{theirs}.{part}.weight' for part in parts.qkv)
    biases = tuple(f'{theirs}.{part}' for part in parts.biases)
    qkv = f'params/{ours}/qkv'
    return (
        *port_rules.layer_norm(f'{theirs}.{parts.norms[0]}', f'{ours}/norm1'),
        PortRule(weights, f'{qkv}/kernel', LINEAR),
        PortRule(biases, f'{qkv}/bias', WITHOUT_KEYS if len(biases) == 2 else port_rules.SAME),
        *_positions(theirs, ours, parts, version),
        *port_rules.layer(f'{theirs}.{parts.out}', f'{ours}/out', LINEAR),
        *port_rules.layer_norm(f'{theirs}.{parts.norms[1]}', f'{ours}/norm2'),
        *port_rules.layer(f'{theirs}.{parts.mlp[0]}', f'{ours}/fc1', LINEAR),
        *port_rules.layer(f'{theirs}.{parts.mlp[1]}', f'{ours}/fc2', LINEAR),
    )


def _positions(theirs: str, ours: str, parts: _Parts, version: int) -> tuple[PortRule, ...]:
    positions = f'{theirs}.{parts.positions}'
    if version == 1:
        return (PortRule(positions, f'params/{ours}/position_bias'),)
    return (
        PortRule(f'{theirs}.{parts.attention}.logit_scale', f'params/{ours}/logit_scale'),
        *port_rules.layer(f'{positions}.0', f'{ours}/bias_fc1', LINEAR),
        PortRule(f'{positions}.2.weight', f'params/{ours}/bias_fc2/kernel', LINEAR),
    )


def _torchvision(
    version: int, sides: tuple[int, ...], pretrained: tuple[int, ...]
) -> tuple[PortRule, ...]:
    """`features` counts embedding, stage, merging, stage, ...: stage s has index 2 s - 1."""
    parts = _Parts(
        norms=('norm1', 'norm2'),
        out='attn.proj',
        mlp=('mlp.0', 'mlp.3'),
        qkv=('attn.qkv',),
        biases=('attn.qkv.bias',),
        attention='attn',
        positions='attn.relative_position_bias_table' if version == 1 else 'attn.cpb_mlp',
    )
    rules = _ends('features.0.0', 'features.0.2', 'norm', 'head')
    for s, (side, before) in enumerate(zip(sides, pretrained, strict=True), 1):
        theirs, ours = f'features.{2 * s - 1}.{{b}}', f'stage{s}/block{{b+1}}'
        rules += _block(theirs, ours, parts, version)
        rules += _buffers(f'{theirs}.attn', f'params/{ours}/out/kernel', version, side, before)
        if s > 1:
            rules += _merge(f'features.{2 * s - 2}', f'stage{s}')
    return rules


def _buffers(
    theirs: str, beside: str, version: int, side: int, pretrained: int
) -> tuple[PortRule, ...]:
    """Entries that torchvision's files must have, although the windows determine them."""
    index = PortRule(f'{theirs}.{INDEX}', None, exported_with=beside, exported_as=_index(side))
    if version == 1:
        return (index,)
    steps = _coordinates(side, pretrained)
    return (
        index,
        PortRule(f'{theirs}.{COORDINATES}', None, exported_with=beside, exported_as=steps),
    )


@functools.cache
def _index(side: int) -> port_rules.Layout:
    return lambda _: windows.relative_index(side).reshape(-1)


@functools.cache
def _coordinates(side: int, pretrained: int) -> port_rules.Layout:
    return lambda _: windows.relative_coordinates(side, pretrained)[None]


def _timm(version: int, offset: int, head: str) -> tuple[PortRule, ...]:
    """timm, or github.com/microsoft/Swin-Transformer, whose names timm had before release 0.9.

    The authors count the merging with the stage before, timm with the one after it. The authors'
    code ignores the windows' entries of its own files, so that none are written.
    """
    v2 = version == 2
    parts = _Parts(
        norms=('norm1', 'norm2'),
        out='attn.proj',
        mlp=('mlp.fc1', 'mlp.fc2'),
        qkv=('attn.qkv',),
        biases=('attn.q_bias', 'attn.v_bias') if v2 else ('attn.qkv.bias',),
        attention='attn',
        positions='attn.cpb_mlp' if v2 else 'attn.relative_position_bias_table',
    )
    theirs = 'layers.{s}.blocks.{b}'
    return (
        *_ends('patch_embed.proj', 'patch_embed.norm', 'norm', head),
        *_merge('layers.{s}.downsample', f'stage{{s+{offset}}}'),
        *_block(theirs, 'stage{s+1}/block{b+1}', parts, version),
        *(
            PortRule(f'{theirs}.{name}', None)
            for name in ('attn_mask', f'attn.{INDEX}', *((f'attn.{COORDINATES}',) if v2 else ()))
        ),
    )


V4 = _Parts(
    norms=('layernorm_before', 'layernorm_after'),
    out='attention.output.dense',
    mlp=('intermediate.dense', 'output.dense'),
    qkv=('attention.self.query', 'attention.self.key', 'attention.self.value'),
    biases=tuple(f'attention.self.{part}.bias' for part in ('query', 'key', 'value')),
    attention='attention.self',
    positions='attention.self.relative_position_bias_table',
)
V5 = dataclasses.replace(
    V4,
    out='attention.o_proj',
    mlp=('mlp.fc1', 'mlp.fc2'),
    qkv=('attention.q_proj', 'attention.k_proj', 'attention.v_proj'),
    biases=tuple(f'attention.{part}_proj.bias' for part in 'qkv'),
    attention='attention.relative_position_bias',
    positions='attention.relative_position_bias.relative_position_bias_table',
)
V2 = dataclasses.replace(
    V4,
    biases=('attention.self.query.bias', 'attention.self.value.bias'),
    positions='attention.self.continuous_position_bias_mlp',
)


def _transformers(name: str, parts: _Parts) -> tuple[PortRule, ...]:
    """`name` is that of the module without the classifier, `swin` or `swinv2`."""
    embeddings, stage = f'{name}.embeddings', f'{name}.encoder.layers.{{s}}'
    version, buffers = (1, (INDEX,)) if name == 'swin' else (2, (INDEX, COORDINATES))
    theirs = f'{stage}.blocks.{{b}}'
    rules = (
        *_ends(
            f'{embeddings}.patch_embeddings.projection',
            f'{embeddings}.norm',
            f'{name}.layernorm',
            'classifier',
        ),
        *_merge(f'{stage}.downsample', 'stage{s+2}'),
        *_block(theirs, 'stage{s+1}/block{b+1}', parts, version),
        *(PortRule(f'{theirs}.{parts.attention}.{buffer}', None) for buffer in buffers),
    )
    return (*rules, *port_rules.without_prefix(rules, f'{name}.'))
