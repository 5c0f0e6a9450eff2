"""ResNet for large images (He et al. 2015), in torchvision's form.

The stride of a bottleneck is in its 3x3 convolution ("ResNet v1.5"), as in torchvision, whose
weights this ports.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax import layers, port
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

    `weights` is where pretrained weights come from (see `weights.py`), None for random ones.
    """

    depth: int = 50
    weights: str | None = None

    def problems(self) -> list[str]:
        """What `validate` reports."""
        fine = self.depth in BLOCKS
        return [] if fine else [f'depth is {self.depth}, wanted one of {sorted(BLOCKS)}']

    @property
    def bottleneck(self) -> bool:
        """Whether blocks are 1x1, 3x3, 1x1 rather than two 3x3."""
        return self.depth >= 50

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'stem': Stem()}
        for index, blocks in enumerate(BLOCKS[self.depth]):
            result[f'stage{index + 1}'] = ResidualStage(
                width=64 * 2**index,
                blocks=blocks,
                stride=1 if index == 0 else 2,
                bottleneck=self.bottleneck,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """Global average pooling and a linear layer."""
        return layers.LinearHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """torchvision's: 256, centre 224, ImageNet's mean and standard deviation."""
        return Preprocessing()

    def port_rules(self) -> Sequence[port.Rule]:
        """Torchvision's names."""
        block = ('layer{s}.{b}', 'stage{s}/block{b+1}')
        return (
            port.Rule('conv1.weight', 'params/stem/conv1/kernel', port.CONV),
            *norm_rules('bn1', 'stem/bn1'),
            port.Rule(
                f'{block[0]}.conv{{c}}.weight', f'params/{block[1]}/conv{{c}}/kernel', port.CONV
            ),
            *norm_rules(f'{block[0]}.bn{{c}}', f'{block[1]}/bn{{c}}'),
            port.Rule(
                f'{block[0]}.downsample.0.weight',
                f'params/{block[1]}/downsample_conv/kernel',
                port.CONV,
            ),
            *norm_rules(f'{block[0]}.downsample.1', f'{block[1]}/downsample_bn'),
            port.Rule('fc.weight', 'params/head/linear/kernel', port.LINEAR),
            port.Rule('fc.bias', 'params/head/linear/bias'),
        )


def norm_rules(foreign: str, ours: str) -> tuple[port.Rule, ...]:
    """The table of one torch BatchNorm; its count of batches has no counterpart."""
    return (
        port.Rule(f'{foreign}.weight', f'params/{ours}/scale'),
        port.Rule(f'{foreign}.bias', f'params/{ours}/bias'),
        port.Rule(f'{foreign}.running_mean', f'batch_stats/{ours}/mean'),
        port.Rule(f'{foreign}.running_var', f'batch_stats/{ours}/var'),
        port.Rule(f'{foreign}.num_batches_tracked', None),
    )


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
    """Blocks of one resolution; the first halves it where `stride` is 2."""

    width: int
    blocks: int
    stride: int
    bottleneck: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width (times 4 with bottlenecks)]."""
        block = Bottleneck if self.bottleneck else BasicBlock
        for index in range(self.blocks):
            stride = self.stride if index == 0 else 1
            name = f'block{index + 1}'
            x = block(self.width, stride, name=name)(x, use_running_average)
        return x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        y = layers.conv(self.width, 3, stride=self.stride, name='conv1')(x)
        y = nn.relu(layers.BatchNorm(name='bn1')(y, use_running_average=use_running_average))
        y = layers.conv(self.width, 3, name='conv2')(y)
        y = layers.BatchNorm(name='bn2')(y, use_running_average=use_running_average)
        return nn.relu(y + _shortcut(x, y, self.stride, use_running_average))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last one four times as wide, and a shortcut."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, 4 width]."""
        y = layers.conv(self.width, 1, name='conv1')(x)
        y = nn.relu(layers.BatchNorm(name='bn1')(y, use_running_average=use_running_average))
        y = layers.conv(self.width, 3, stride=self.stride, name='conv2')(y)
        y = nn.relu(layers.BatchNorm(name='bn2')(y, use_running_average=use_running_average))
        y = layers.conv(4 * self.width, 1, name='conv3')(y)
        y = layers.BatchNorm(name='bn3')(y, use_running_average=use_running_average)
        return nn.relu(y + _shortcut(x, y, self.stride, use_running_average))


def _shortcut(x: jax.Array, y: jax.Array, stride: int, use_running_average: bool) -> jax.Array:
    """`x` itself, or projected to the shape of `y` (called inside the block's scope)."""
    if jnp.shape(x) == jnp.shape(y):
        return x
    x = layers.conv(y.shape[-1], 1, stride=stride, name='downsample_conv')(x)
    return layers.BatchNorm(name='downsample_bn')(x, use_running_average=use_running_average)
