"""Tables for the blocks of `mbconv` under the names of several libraries."""

import functools
from collections.abc import Callable, Sequence

from tljax.models import port_rules
from tljax.models.mbconv import BlockShape
from tljax.models.port_rules import CONV, LINEAR, PortRule, Transform

Blocks = tuple[tuple[BlockShape, ...], ...]  # of each stage
# From a block's parts to their names: a convolution and its BatchNorm, or two linear layers.
Names = Callable[[Sequence[str]], dict[str, tuple[str, str]]]

# The linear layers of squeeze-and-excitation are 1x1 convolutions, [out, in, 1, 1].
POINTWISE = Transform(
    lambda x: x.reshape(x.shape[:2]).T, lambda x: x.T[:, :, None, None], 'OIHW to a matrix'
)


def parts(shape: BlockShape, width: int) -> tuple[str, ...]:
    """The parts of a block with inputs of a width, in forward order."""
    expanded = ('expand',) if shape.inner != width else ()
    if shape.fused:
        return (*expanded, 'project') if expanded else ('conv',)
    squeeze = ('squeeze',) if shape.squeeze else ()
    return (*expanded, 'depthwise', *squeeze, 'project')


def conv_norm(conv: str, norm: str, ours: str, between: str = '/') -> tuple[PortRule, ...]:
    """A convolution without a bias, and its BatchNorm, named `ours` + `between` + `bn`."""
    kernel = f'{ours}/conv' if between == '/' else ours
    return (
        PortRule(f'{conv}.weight', f'params/{kernel}/kernel', CONV),
        *port_rules.batch_norm(norm, f'{ours}{between}bn'),
    )


def _block(foreign: str, ours: str, present: Sequence[str], names: Names) -> list[PortRule]:
    rules: list[PortRule] = []
    for part, inner in names(present).items():
        first, second = (f'{foreign}.{name}' for name in inner)
        if part == 'squeeze':
            rules += port_rules.layer(first, f'{ours}/squeeze/reduce', POINTWISE)
            rules += port_rules.layer(second, f'{ours}/squeeze/expand', POINTWISE)
        else:
            rules += conv_norm(first, second, f'{ours}/{part}', '_')
    return rules


def staged(
    blocks: Blocks, stem_width: int, names: Names, prefix: Callable[[int], str]
) -> tuple[PortRule, ...]:
    """The rules of all blocks of a library that numbers them within their stages.

    Args:
        blocks: of each stage.
        stem_width: the width of the first block's input.
        names: of the parts.
        prefix: of the names of blocks in the stage with that index, from 0; `{b}` is the block.
    """
    rules: list[PortRule] = []
    for stage, shapes in enumerate(blocks):
        present = parts(shapes[0], blocks[stage - 1][-1].width if stage else stem_width)
        rules += _block(prefix(stage), f'stage{stage + 1}/block{{b+1}}', present, names)
    return tuple(rules)


def flat(
    blocks: Blocks, stem_width: int, names: Names, prefix: Callable[[int], str]
) -> tuple[PortRule, ...]:
    """The same for a library that numbers blocks from the first to the last, from 0."""
    rules: list[PortRule] = []
    width, number = stem_width, 0
    for stage, shapes in enumerate(blocks, 1):
        for index, shape in enumerate(shapes, 1):
            ours = f'stage{stage}/block{index}'
            rules += _block(prefix(number), ours, parts(shape, width), names)
            width, number = shape.width, number + 1
    return tuple(rules)


def timm_names(present: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names of timm, where the second of two 1x1 convolutions is `conv_pwl`."""
    first = {'depthwise': 'conv_dw', 'expand': 'conv_pw', 'conv': 'conv'}
    if 'expand' in present and 'depthwise' not in present:
        first['expand'] = 'conv_exp'
    first['project'] = 'conv_pwl' if 'expand' in present else 'conv_pw'
    convs = [part for part in present if part != 'squeeze']
    result = {part: (first[part], f'bn{index}') for index, part in enumerate(convs, 1)}
    return result | _if_squeezed(present, ('se.conv_reduce', 'se.conv_expand'))


def lukemelas_names(present: Sequence[str]) -> dict[str, tuple[str, str]]:
    """github.com/lukemelas/EfficientNet-PyTorch, the package efficientnet_pytorch."""
    names = {
        'expand': ('_expand_conv', '_bn0'),
        'depthwise': ('_depthwise_conv', '_bn1'),
        'squeeze': ('_se_reduce', '_se_expand'),
        'project': ('_project_conv', '_bn2'),
    }
    return {part: names[part] for part in present}


def torchvision_names(present: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names of torchvision, which numbers the parts; a convolution and its norm are 0 and 1."""
    return {
        part: (f'block.{index}.fc1', f'block.{index}.fc2')
        if part == 'squeeze'
        else (f'block.{index}.0', f'block.{index}.1')
        for index, part in enumerate(present)
    }


def _if_squeezed(present: Sequence[str], names: tuple[str, str]) -> dict[str, tuple[str, str]]:
    return {'squeeze': names} if 'squeeze' in present else {}


@functools.cache
def timm(blocks: Blocks, stem_width: int) -> tuple[PortRule, ...]:
    """The names of timm's EfficientNet, which are those of its MobileNetV2 too."""
    return (
        *conv_norm('conv_stem', 'bn1', 'stem'),
        *staged(blocks, stem_width, timm_names, lambda stage: f'blocks.{stage}.{{b}}'),
        *conv_norm('conv_head', 'bn2', 'top'),
        *port_rules.head('classifier'),
    )


@functools.cache
def lukemelas(blocks: Blocks, stem_width: int) -> tuple[PortRule, ...]:
    """The names of efficientnet_pytorch."""
    return (
        *conv_norm('_conv_stem', '_bn0', 'stem'),
        *flat(blocks, stem_width, lukemelas_names, lambda number: f'_blocks.{number}'),
        *conv_norm('_conv_head', '_bn1', 'top'),
        *port_rules.head('_fc'),
    )


@functools.cache
def torchvision(blocks: Blocks, stem_width: int) -> tuple[PortRule, ...]:
    """The names of torchvision's EfficientNet."""
    top = f'features.{len(blocks) + 1}'
    return (
        *conv_norm('features.0.0', 'features.0.1', 'stem'),
        *staged(blocks, stem_width, torchvision_names, lambda stage: f'features.{stage + 1}.{{b}}'),
        *conv_norm(f'{top}.0', f'{top}.1', 'top'),
        *port_rules.head('classifier.1'),
    )


def transformers_names(present: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names of transformers' EfficientNet."""
    names = {
        'expand': ('expansion.expand_conv', 'expansion.expand_bn'),
        'depthwise': ('depthwise_conv.depthwise_conv', 'depthwise_conv.depthwise_norm'),
        'squeeze': ('squeeze_excite.reduce', 'squeeze_excite.expand'),
        'project': ('projection.project_conv', 'projection.project_bn'),
    }
    return {part: names[part] for part in present}


@functools.cache
def transformers(blocks: Blocks, stem_width: int) -> tuple[PortRule, ...]:
    """The names of transformers' EfficientNet, with and without a classifier."""
    embeddings, encoder = 'efficientnet.embeddings', 'efficientnet.encoder'
    rules = (
        *conv_norm(f'{embeddings}.convolution', f'{embeddings}.batchnorm', 'stem'),
        *flat(blocks, stem_width, transformers_names, lambda number: f'{encoder}.blocks.{number}'),
        *conv_norm(f'{encoder}.top_conv', f'{encoder}.top_bn', 'top'),
    )
    without = port_rules.without_prefix(rules, 'efficientnet.')
    return (*rules, *without, *port_rules.head('classifier'))


def _torchvision_v2_names(present: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names of torchvision's MobileNetV2, whose last convolution has no module of its own."""
    last = len(present) - 1
    names = {
        part: (f'conv.{index}.0', f'conv.{index}.1') for index, part in enumerate(present[:-1])
    }
    return names | {present[-1]: (f'conv.{last}', f'conv.{last + 1}')}


def _flat_torchvision(blocks: Blocks, stem_width: int, names: Names) -> tuple[PortRule, ...]:
    top = f'features.{sum(map(len, blocks)) + 1}'
    return (
        *conv_norm('features.0.0', 'features.0.1', 'stem'),
        *flat(blocks, stem_width, names, lambda number: f'features.{number + 1}'),
        *conv_norm(f'{top}.0', f'{top}.1', 'top'),
    )


@functools.cache
def torchvision_v2(blocks: Blocks, stem_width: int) -> tuple[PortRule, ...]:
    """The names of torchvision's MobileNetV2."""
    rules = _flat_torchvision(blocks, stem_width, _torchvision_v2_names)
    return (*rules, *port_rules.head('classifier.1'))


@functools.cache
def torchvision_v3(blocks: Blocks, stem_width: int) -> tuple[PortRule, ...]:
    """The names of torchvision's MobileNetV3."""
    return (
        *_flat_torchvision(blocks, stem_width, torchvision_names),
        *port_rules.layer('classifier.0', 'fc/linear', LINEAR),
        *port_rules.head('classifier.3'),
    )


@functools.cache
def timm_v3(blocks: Blocks, stem_width: int) -> tuple[PortRule, ...]:
    """The names of timm's MobileNetV3, where the last convolution is one more stage."""
    top = f'blocks.{len(blocks)}.0'
    return (
        *conv_norm('conv_stem', 'bn1', 'stem'),
        *staged(blocks, stem_width, timm_names, lambda stage: f'blocks.{stage}.{{b}}'),
        *conv_norm(f'{top}.conv', f'{top}.bn1', 'top'),
        *port_rules.layer('conv_head', 'fc/linear', POINTWISE),
        *port_rules.head('classifier'),
    )
