"""Residual networks for small images: He et al. 2015, section 4.2, with its option A shortcut."""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax import tree
from tljax.models import layers, port_rules
from tljax.models.port_rules import CONV, PortRule
from tljax.types import Preprocessing

DEPTHS = (20, 32, 44, 56, 110)


@dataclasses.dataclass(slots=True, kw_only=True)
class ResNetSmall:
    """Stages `stem, stage1, stage2, stage3` of 16, 16, 32 and 64 channels.

    `weights` names pretrained weights (see the folder `weights`), None for random ones.

    Attributes:
        depth: layers; 6 n + 2, as 20 or 56.
        weights: the pretrained weights (a file, `torchvision:`, `hf:`, `pypi:`); none for random
            ones.
    """

    depth: int = 20
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        valid = self.depth in DEPTHS
        return [] if valid else [f'depth is {self.depth}, wanted one of {list(DEPTHS)}']

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'stem': SmallStem()}
        for index in range(3):
            result[f'stage{index + 1}'] = SmallStage(
                width=16 * 2**index, blocks=(self.depth - 2) // 6, stride=1 if index == 0 else 2
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """Global average pooling and a linear layer."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """CIFAR-10's full 32 px images, ImageNet's mean and standard deviation.

        Source: github.com/akamaster/pytorch_resnet_cifar10, trainer.py.
        """
        return Preprocessing(size_px=32, resize_px=32)

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of pytorch_resnet_cifar10."""
        return {'akamaster': AKAMASTER}

    @classmethod
    def variants(cls) -> Sequence['ResNetSmall']:
        """One, because the table holds for every depth."""
        return (cls(),)

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'ResNetSmall | None':
        """Depth from the number of blocks in the first stage."""
        blocks = [path for path in shapes if tree.matches('params/stage1/*/conv1/kernel', path)]
        depth = 6 * len(blocks) + 2
        small = shapes.get('params/stem/conv1/kernel', ())[:2] == (3, 3)
        return ResNetSmall(depth=depth) if small and depth in DEPTHS else None


AKAMASTER = (
    PortRule('conv1.weight', 'params/stem/conv1/kernel', CONV),
    *port_rules.batch_norm('bn1', 'stem/bn1'),
    PortRule('layer{s}.{b}.conv{c}.weight', 'params/stage{s}/block{b+1}/conv{c}/kernel', CONV),
    *port_rules.batch_norm('layer{s}.{b}.bn{c}', 'stage{s}/block{b+1}/bn{c}'),
    *port_rules.head('linear'),
)


class SmallStem(nn.Module):
    """3x3 convolution."""

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, 3] to [B, H, W, 16]."""
        x = layers.conv(16, 3, name='conv1')(x)
        return nn.relu(layers.BatchNorm(name='bn1')(x, use_running_average=use_running_average))


class SmallStage(nn.Module):
    """Blocks of one resolution; the first downsamples by `stride`."""

    width: int
    blocks: int
    stride: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        for index in range(self.blocks):
            stride = self.stride if index == 0 else 1
            x = SmallBlock(self.width, stride, name=f'block{index + 1}')(x, use_running_average)
        return x


class SmallBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut subsamples and pads with zero channels."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        y = layers.conv(self.width, 3, stride=self.stride, name='conv1')(x)
        y = nn.relu(layers.BatchNorm(name='bn1')(y, use_running_average=use_running_average))
        y = layers.conv(self.width, 3, name='conv2')(y)
        y = layers.BatchNorm(name='bn2')(y, use_running_average=use_running_average)
        shortcut = x[:, :: self.stride, :: self.stride]
        pad = (self.width - x.shape[-1]) // 2
        return nn.relu(y + jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (pad, pad))))
