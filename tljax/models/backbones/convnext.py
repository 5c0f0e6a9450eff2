"""ConvNeXt (Liu et al. 2022), as in torchvision, timm and transformers.

The global average pooling and layer norm between the last maps and the classifier are a stage of
their own, `pool`, so that this pretrained norm can be frozen, trained or dropped
(`cut_after='stage4'`) by name.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from tljax import tree
from tljax.models import layers, port_rules
from tljax.models.port_rules import CONV, LINEAR, PortRule, Transform
from tljax.types import Preprocessing

EPSILON = 1e-6
POOL_EPSILON = {'transformers': 1e-12}  # from its configuration, which only the last norm reads


@dataclasses.dataclass(slots=True, kw_only=True)
class ConvNeXt:
    """Stages `stem, stage1, stage2, stage3, stage4, pool`.

    Published sizes, as depths and first width: T 3, 3, 9, 3 and 96 (the default); S 3, 3, 27, 3
    and 96; B 3, 3, 27, 3 and 128; L the same and 192. `weights` names pretrained weights (see the
    folder `weights`), None for random ones.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    pool_epsilon: float = EPSILON
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = [
            f'{name} is {values}, wanted four values more than 0'
            for name, values in (('depths', self.depths), ('widths', self.widths))
            if len(values) != 4 or min(values) < 1
        ]
        if self.pool_epsilon <= 0:
            problems.append(f'pool_epsilon is {self.pool_epsilon}, wanted more than 0')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'stem': Stem(self.widths[0])}
        for index, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            result[f'stage{index + 1}'] = ConvNeXtStage(width, depth, downsample=index > 0)
        result['pool'] = Pool(self.pool_epsilon)
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A linear layer."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation; 224 px from 236, as in torchvision's T.

        Source: torchvision's ConvNeXt_Tiny_Weights; its S, B and L resize to 230, 232 and 232.
        """
        return Preprocessing(resize_px=RESIZE_PX.get((self.depths[2], self.widths[0]), 236))

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision, timm, transformers, the authors and DINOv3 in transformers."""
        return TABLES

    @classmethod
    def variants(cls) -> Sequence['ConvNeXt']:
        """One, because the tables hold for every depth and width."""
        return (cls(),)

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'ConvNeXt | None':
        """Depths from the blocks, widths from their kernels."""
        kernels = [
            [
                shapes[path]
                for path in shapes
                if tree.matches(f'params/stage{s}/*/depthwise/kernel', path)
            ]
            for s in (1, 2, 3, 4)
        ]
        if not all(kernels):
            return None
        return ConvNeXt(
            depths=tuple(len(stage) for stage in kernels),
            widths=tuple(stage[0][-1] for stage in kernels),
            pool_epsilon=POOL_EPSILON.get(naming, EPSILON),
        )


# torchvision's sizes before the central 224 px are cut out, by third depth and first width.
RESIZE_PX = {(9, 96): 236, (27, 96): 230, (27, 128): 232, (27, 192): 232}

# torch keeps a scale per channel as [C] or [C, 1, 1].
CHANNELS = Transform(lambda x: x.reshape(-1), lambda x: x.reshape(-1, 1, 1), '[C, 1, 1] to [C]')


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
    )


def _transformers() -> tuple[PortRule, ...]:
    parts = ('dwconv', 'layernorm', 'pwconv1', 'pwconv2', 'layer_scale_parameter')
    embeddings, stage = 'convnext.embeddings', 'convnext.encoder.stages.{s}'
    rules = (
        *_ends(
            f'{embeddings}.patch_embeddings',
            f'{embeddings}.layernorm',
            'convnext.layernorm',
            'classifier',
        ),
        *_downsample(f'{stage}.downsampling_layer', 'stage{s+1}'),
        *_block(f'{stage}.layers.{{b}}', 'stage{s+1}/block{b+1}', parts),
    )
    return (*rules, *port_rules.without_prefix(rules, 'convnext.'))


def _authors() -> tuple[PortRule, ...]:
    """github.com/facebookresearch/ConvNeXt; DINOv3's files repeat the last norm."""
    parts = ('dwconv', 'norm', 'pwconv1', 'pwconv2', 'gamma')
    rules = _ends('downsample_layers.0.0', 'downsample_layers.0.1', 'norm', 'head')
    for s in (1, 2, 3):
        rules += _downsample(f'downsample_layers.{s}', f'stage{s + 1}')
    return (
        *rules,
        *_block('stages.{s}.{b}', 'stage{s+1}/block{b+1}', parts),
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
    'transformers': _transformers(),
    'facebook': _authors(),
    'dinov3': _dinov3(),
}


class Stem(nn.Module):
    """4x4 convolution with stride 4 and a layer norm."""

    width: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H // 4, W // 4, width]."""
        x = nn.Conv(self.width, (4, 4), (4, 4), padding='VALID', name='conv')(x)
        return layers.layer_norm(EPSILON, 'norm')(x)


class ConvNeXtStage(nn.Module):
    """Blocks of one resolution, after a downsampling by 2 if `downsample`."""

    width: int
    depth: int
    downsample: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H, W, width], or half of H and W."""
        if self.downsample:
            x = layers.layer_norm(EPSILON, 'downsample_norm')(x)
            x = nn.Conv(self.width, (2, 2), (2, 2), padding='VALID', name='downsample_conv')(x)
        for index in range(self.depth):
            x = ConvNeXtBlock(self.width, name=f'block{index + 1}')(x)
        return x


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise convolution, layer norm, two linear layers, a scale per channel, a shortcut."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, width] to the same."""
        y = layers.conv(self.width, 7, groups=self.width, use_bias=True, name='depthwise')(x)
        y = layers.layer_norm(EPSILON, 'norm')(y)
        y = nn.gelu(layers.dense(4 * self.width, 'fc1')(y), approximate=False)
        y = layers.dense(self.width, 'fc2')(y)
        scale = self.param('scale', nn.initializers.constant(1e-6), (self.width,))
        return x + y * scale.astype(y.dtype).reshape(1, 1, 1, -1)


class Pool(nn.Module):
    """Global average pooling and a layer norm."""

    epsilon: float

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, C]."""
        return layers.layer_norm(self.epsilon, 'norm')(x.mean((1, 2)))
