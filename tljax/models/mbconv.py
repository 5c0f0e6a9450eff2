"""The blocks of MobileNets and EfficientNets: inverted residuals with depthwise convolutions."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax

from tljax.models import convolutions, layers

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'relu': nn.relu,
    'relu6': nn.relu6,
    'silu': nn.silu,
    'hard_swish': nn.hard_swish,
}
# As in timm: the fan-out of one channel of a depthwise kernel, which is its fan-in.
depthwise_init = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """What all layers of a network share.

    Attributes:
        same_padding: whether strided convolutions pad as TensorFlow's `SAME`, less before than
            after; otherwise (kernel - 1) // 2 on each side, as in torch.
        epsilon: of BatchNorm.
        stats_decay: of BatchNorm's running statistics.
    """

    same_padding: bool = False
    epsilon: float = 1e-5
    stats_decay: float = 0.9

    def conv(self, width: int, kernel: int, stride: int, name: str, groups: int = 1) -> nn.Conv:
        """A square convolution without a bias."""
        pad = (kernel - 1) // 2
        return nn.Conv(
            width,
            (kernel, kernel),
            strides=stride,
            padding='SAME' if self.same_padding else ((pad, pad), (pad, pad)),
            feature_group_count=groups,
            use_bias=False,
            kernel_init=layers.he_normal if groups == 1 else depthwise_init,
            conv_general_dilated=convolutions.convolve,
            name=name,
        )

    def norm(self, name: str) -> layers.BatchNorm:
        """Batch normalisation."""
        return layers.BatchNorm(epsilon=self.epsilon, stats_decay=self.stats_decay, name=name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockShape:
    """The shape of one block.

    Attributes:
        width: of the output.
        inner: the width between the expansion and the projection; the input's width if the block
            has no expansion.
        kernel: the side of the depthwise convolution, or of the expansion of a fused block.
        stride: of that convolution.
        activation: a key of `ACTIVATIONS`.
        squeeze: the hidden width of squeeze-and-excitation; 0 for none.
        hard_gate: whether its gate is a hard sigmoid after a ReLU (MobileNetV3); otherwise a
            sigmoid after the block's activation.
        fused: whether one full convolution replaces the expansion and the depthwise convolution.
    """

    width: int
    inner: int
    kernel: int
    stride: int
    activation: str
    squeeze: int = 0
    hard_gate: bool = False
    fused: bool = False


class ConvNorm(nn.Module):
    """A convolution, BatchNorm and an activation: the first and the last layer."""

    width: int
    kernel: int
    stride: int
    activation: str
    style: Style

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        x = self.style.conv(self.width, self.kernel, self.stride, 'conv')(x)
        x = self.style.norm('bn')(x, use_running_average=use_running_average)
        return ACTIVATIONS[self.activation](x)


class BlockStage(nn.Module):
    """Blocks of one resolution, the first of which can halve it.

    `drop_path` has the rate of stochastic depth of each block.
    """

    blocks: tuple[BlockShape, ...]
    drop_path: tuple[float, ...]
    style: Style

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        for index, (shape, rate) in enumerate(zip(self.blocks, self.drop_path, strict=True), 1):
            block = Block(shape, self.style, name=f'block{index}')
            path = layers.drop_path(rate, deterministic)
            y = block(x, use_running_average)
            x = x + path(y) if shape.stride == 1 and x.shape[-1] == shape.width else y
        return x


class Block(nn.Module):
    """The branch of a block: expansion, depthwise convolution, squeeze-and-excitation, projection.

    A fused block has a full convolution as its expansion and no depthwise one; without an expansion
    it is a single convolution with an activation.

    Source: Sandler et al. 2018, "MobileNetV2"; Tan & Le 2021, "EfficientNetV2", for fused blocks.
    """

    shape: BlockShape
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        shape = self.shape

        def layer(
            y: jax.Array, width: int, name: str, kernel: int = 1, stride: int = 1, groups: int = 1
        ) -> jax.Array:
            y = self.style.conv(width, kernel, stride, name, groups)(y)
            return self.style.norm(f'{name}_bn')(y, use_running_average=use_running_average)

        active = ACTIVATIONS[shape.activation]
        y, expanded = x, shape.inner != x.shape[-1]
        if shape.fused:
            width, name = (shape.inner, 'expand') if expanded else (shape.width, 'conv')
            y = active(layer(y, width, name, shape.kernel, shape.stride))
            return layer(y, shape.width, 'project') if expanded else y
        if expanded:
            y = active(layer(y, shape.inner, 'expand'))
        y = layer(y, shape.inner, 'depthwise', shape.kernel, shape.stride, shape.inner)
        y = active(y)
        if shape.squeeze:
            y = SqueezeExcite(shape, name='squeeze')(y)
        return layer(y, shape.width, 'project')


class SqueezeExcite(nn.Module):
    """Scales each channel by a function of the means of all channels (Hu et al. 2017)."""

    shape: BlockShape

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to the same."""
        hard = self.shape.hard_gate
        active = nn.relu if hard else ACTIVATIONS[self.shape.activation]
        kernel_init = layers.he_normal
        y = x.mean((1, 2), keepdims=True)
        y = active(nn.Dense(self.shape.squeeze, kernel_init=kernel_init, name='reduce')(y))
        y = nn.Dense(x.shape[-1], kernel_init=kernel_init, name='expand')(y)
        return x * (nn.hard_sigmoid if hard else nn.sigmoid)(y)


def drop_path_rates(
    last: float, depths: tuple[int, ...], after: int = 0
) -> list[tuple[float, ...]]:
    """The rate of every block by stage: `last` times the share of blocks before it.

    The last block's rate is below `last`, unlike `layers.drop_path_rates`. `after` is the number of
    further blocks that the share counts.

    Source: torchvision's EfficientNet and timm's EfficientNetBuilder.
    """
    count, before = sum(depths) + after, 0
    rates = []
    for depth in depths:
        rates.append(tuple(last * (before + index) / count for index in range(depth)))
        before += depth
    return rates


def rounded(width: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, but at least 0.9 `width`.

    Source: `_make_divisible` of the MobileNet in tensorflow/models.
    """
    result = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return result + divisor if result < 0.9 * width else result


def scaled(widths: tuple[int, ...], factor: float) -> tuple[int, ...]:
    """Each width times `factor`, `rounded`."""
    return tuple(rounded(width * factor) for width in widths)


# Kernels, strides and expansions of the stages of EfficientNet (Tan & Le 2019, table 1).
EFFICIENT = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))


def stage(
    depth: int,
    width: int,
    before: int,
    plan: tuple[int, int, int],
    activation: str,
    *,
    squeeze: bool = False,
    fused: bool = False,
) -> tuple[BlockShape, ...]:
    """The blocks of a stage.

    Args:
        depth: the number of blocks.
        width: their output's width.
        before: the input's width.
        plan: kernel, stride of the first block, and expansion: the inner width is a multiple of the
            input's.
        activation: of all layers.
        squeeze: whether they have squeeze-and-excitation, a quarter of the input wide.
        fused: whether they are fused.
    """
    kernel, stride, expansion = plan
    shapes = []
    for index in range(depth):
        read = before if index == 0 else width
        shapes.append(
            BlockShape(
                width=width,
                inner=read * expansion,
                kernel=kernel,
                stride=stride if index == 0 else 1,
                activation=activation,
                squeeze=max(1, read // 4) if squeeze else 0,
                fused=fused,
            )
        )
    return tuple(shapes)


def efficient(
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    stem_width: int,
    activation: str,
    *,
    squeeze: bool,
) -> tuple[tuple[BlockShape, ...], ...]:
    """The blocks of an EfficientNet, by stage."""
    inputs = (stem_width, *widths[:-1])
    return tuple(
        stage(depth, width, before, plan, activation, squeeze=squeeze)
        for depth, width, before, plan in zip(depths, widths, inputs, EFFICIENT, strict=True)
    )
