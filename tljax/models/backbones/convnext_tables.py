"""The names of a ConvNeXt's entries in torchvision, timm, transformers and the authors' files."""

from collections.abc import Sequence

from tljax.models import port_rules
from tljax.models.port_rules import CONV, LINEAR, PortRule, Transform

# torch keeps a scale per channel as [C] or [C, 1, 1].
CHANNELS = Transform(lambda x: x.reshape(-1), lambda x: x.reshape(-1, 1, 1), '[C, 1, 1] to [C]')
LAST_CHANNELS = Transform(
    lambda x: x.reshape(-1), lambda x: x.reshape(1, 1, 1, -1), '[1, 1, 1, C] to [C]'
)


def _ends(conv: str, norm: str, pool: str, head: str) -> tuple[PortRule, ...]:
    """Stem, last norm and classifier."""
    return (
        *port_rules.layer(conv, 'stem/conv', CONV),
        *port_rules.layer_norm(norm, 'stem/norm'),
        *port_rules.layer_norm(pool, 'pool/norm'),
        *port_rules.head(head),
    )


def _downsample(foreign: str, ours: str) -> tuple[PortRule, ...]:
    return (
        *port_rules.layer_norm(f'{foreign}.0', f'{ours}/downsample_norm'),
        *port_rules.layer(f'{foreign}.1', f'{ours}/downsample_conv', CONV),
    )


def _response_norm(
    foreign: str, ours: str, parts: Sequence[str], transform: Transform = port_rules.SAME
) -> tuple[PortRule, ...]:
    """`parts` are the names of the normalisation's scale and bias in V2."""
    return tuple(
        PortRule(f'{foreign}.{part}', f'params/{ours}/grn/{leaf}', transform)
        for part, leaf in zip(parts, ('scale', 'bias'), strict=True)
    )


def _block(
    foreign: str, ours: str, parts: Sequence[str], transform: Transform = port_rules.SAME
) -> tuple[PortRule, ...]:
    """`parts` are the names of the depthwise convolution, norm, two linear layers and scale."""
    depthwise, norm, fc1, fc2, scale = (f'{foreign}.{part}' for part in parts)
    return (
        *port_rules.layer(depthwise, f'{ours}/depthwise', CONV),
        *port_rules.layer_norm(norm, f'{ours}/norm'),
        *port_rules.layer(fc1, f'{ours}/fc1', LINEAR),
        *port_rules.layer(fc2, f'{ours}/fc2', LINEAR),
        PortRule(scale, f'params/{ours}/scale', transform),
    )


def _torchvision() -> tuple[PortRule, ...]:
    """`features` counts stem, stage, downsampling, stage, ...: stage s has index 2 s - 1."""
    parts = ('block.0', 'block.2', 'block.3', 'block.5', 'layer_scale')
    rules = _ends('features.0.0', 'features.0.1', 'classifier.0', 'classifier.2')
    for s in (1, 2, 3, 4):
        theirs, ours = f'features.{2 * s - 1}.{{b}}', f'stage{s}/block{{b+1}}'
        rules += _block(theirs, ours, parts, CHANNELS)
        if s > 1:
            rules += _downsample(f'features.{2 * s - 2}', f'stage{s}')
    return rules


def _timm() -> tuple[PortRule, ...]:
    parts = ('conv_dw', 'norm', 'mlp.fc1', 'mlp.fc2', 'gamma')
    return (
        *_ends('stem.0', 'stem.1', 'head.norm', 'head.fc'),
        *_downsample('stages.{s}.downsample', 'stage{s+1}'),
        *_block('stages.{s}.blocks.{b}', 'stage{s+1}/block{b+1}', parts),
        *_response_norm(
            'stages.{s}.blocks.{b}.mlp.grn', 'stage{s+1}/block{b+1}', ('weight', 'bias')
        ),
    )


def _transformers(name: str) -> tuple[PortRule, ...]:
    """`name` is that of the module without the classifier, `convnext` or `convnextv2`."""
    parts = ('dwconv', 'layernorm', 'pwconv1', 'pwconv2', 'layer_scale_parameter')
    embeddings, stage = f'{name}.embeddings', f'{name}.encoder.stages.{{s}}'
    rules = (
        *_ends(
            f'{embeddings}.patch_embeddings',
            f'{embeddings}.layernorm',
            f'{name}.layernorm',
            'classifier',
        ),
        *_downsample(f'{stage}.downsampling_layer', 'stage{s+1}'),
        *_block(f'{stage}.layers.{{b}}', 'stage{s+1}/block{b+1}', parts),
        *_response_norm(
            f'{stage}.layers.{{b}}.grn', 'stage{s+1}/block{b+1}', ('weight', 'bias'), LAST_CHANNELS
        ),
    )
    return (*rules, *port_rules.without_prefix(rules, f'{name}.'))


def _authors() -> tuple[PortRule, ...]:
    """github.com/facebookresearch/ConvNeXt and ConvNeXt-V2; DINOv3's files repeat the last norm."""
    parts = ('dwconv', 'norm', 'pwconv1', 'pwconv2', 'gamma')
    rules = _ends('downsample_layers.0.0', 'downsample_layers.0.1', 'norm', 'head')
    for s in (1, 2, 3):
        rules += _downsample(f'downsample_layers.{s}', f'stage{s + 1}')
    block = 'stages.{s}.{b}', 'stage{s+1}/block{b+1}'
    return (
        *rules,
        *_block(*block, parts),
        *_response_norm(f'{block[0]}.grn', block[1], ('gamma', 'beta'), LAST_CHANNELS),
        *(PortRule(f'norms.3.{kind}', None) for kind in ('weight', 'bias')),
    )


def _dinov3() -> tuple[PortRule, ...]:
    """DINOv3ConvNext of transformers: its first stage holds the stem. Old names lack `model.`."""
    parts = ('depthwise_conv', 'layer_norm', 'pointwise_conv1', 'pointwise_conv2', 'gamma')
    stem, down = 'model.stages.0.downsample_layers', 'model.stages.{s}.downsample_layers'
    rules = _ends(f'{stem}.0', f'{stem}.1', 'layer_norm', 'classifier')
    for s in (1, 2, 3):
        rules += _downsample(down.format(s=s), f'stage{s + 1}')
    rules += _block('model.stages.{s}.layers.{b}', 'stage{s+1}/block{b+1}', parts)
    return (*rules, *port_rules.without_prefix(rules, 'model.'))


TABLES = {
    'torchvision': _torchvision(),
    'timm': _timm(),
    'transformers': _transformers('convnext'),
    'transformers_v2': _transformers('convnextv2'),
    'facebook': _authors(),
    'dinov3': _dinov3(),
}
