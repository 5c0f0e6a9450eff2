"""RegNet X and Y (Radosavovic et al. 2020), as in torchvision, timm and transformers."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from tljax import tree
from tljax.models import layers, port_rules
from tljax.models.port_rules import CONV, PortRule
from tljax.types import Preprocessing

STEM_WIDTH = 32
SQUEEZE = 0.25  # channels between squeeze and excitation, over the channels that the block reads


@dataclasses.dataclass(slots=True, kw_only=True)
class RegNet:
    """Stages `stem, stage1, stage2, stage3, stage4`.

    The default is RegNetY 400MF. With `squeeze_excitation=False` it is a RegNetX. `group_width` is
    the number of channels in a group of the 3x3 convolutions. `drop_path` is the rate of stochastic
    depth in the last block. `weights` names pretrained weights (see the folder `weights`), None for
    random ones.

    Attributes:
        depths: blocks of each stage.
        widths: channels of each stage.
        group_width: channels of a group of the 3x3 convolutions.
        squeeze_excitation: whether blocks have squeeze-and-excitation, as in RegNetY.
        drop_path: rate of stochastic depth in the last block; it falls to 0 in the first.
        weights: the pretrained weights (a file, `torchvision:`, `hf:`, `pypi:`); none for random
            ones.
    """

    depths: tuple[int, ...] = (1, 3, 6, 6)
    widths: tuple[int, ...] = (48, 104, 208, 440)
    group_width: int = 8
    squeeze_excitation: bool = True
    drop_path: float = 0.0
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = [
            f'{name} is {values}, wanted four values more than 0'
            for name, values in (('depths', self.depths), ('widths', self.widths))
            if len(values) != 4 or min(values) < 1
        ]
        if self.group_width < 1:
            problems.append(f'group_width is {self.group_width}, wanted more than 0')
        elif any(width % min(width, self.group_width) for width in self.widths if width > 0):
            problems.append(f'widths is {self.widths}, wanted multiples of {self.group_width}')
        if not 0 <= self.drop_path < 1:
            problems.append(f'drop_path is {self.drop_path}, wanted 0 <= x < 1')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'stem': Stem()}
        rates = iter(layers.drop_path_rates(self.drop_path, sum(self.depths)))
        for index, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), 1):
            result[f'stage{index}'] = RegNetStage(
                width,
                groups=max(1, width // self.group_width),
                squeeze_excitation=self.squeeze_excitation,
                drop_path=tuple(itertools.islice(rates, depth)),
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """Global average pooling and a linear layer."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """Torchvision's `IMAGENET1K_V1`: resize to 256, crop 224."""
        return Preprocessing()

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision, timm and transformers."""
        return TABLES[self.squeeze_excitation]

    @classmethod
    def variants(cls) -> Sequence['RegNet']:
        """Y and X, because transformers counts the layers of a block."""
        return (cls(), cls(squeeze_excitation=False))

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'RegNet | None':
        """Depths from the blocks, widths and groups from their 3x3 convolutions."""
        kernels = [
            [shapes[p] for p in shapes if tree.matches(f'params/stage{s}/*/conv2/kernel', p)]
            for s in (1, 2, 3, 4)
        ]
        squeeze = 'params/stage1/block1/squeeze/kernel' in shapes
        stem = shapes.get('params/stem/conv/kernel', ())
        if not all(kernels) or stem[:2] != (3, 3) or squeeze != self.squeeze_excitation:
            return None
        return RegNet(
            depths=tuple(map(len, kernels)),
            widths=tuple(stage[0][3] for stage in kernels),
            group_width=max(stage[0][2] for stage in kernels),
            squeeze_excitation=squeeze,
        )


def _convolution(
    foreign: str, conv: str, norm: str, ours: str, number: str | int = ''
) -> tuple[PortRule, ...]:
    """A convolution without bias and its BatchNorm: `conv1` and `bn1` here."""
    return (
        PortRule(f'{foreign}{conv}.weight', f'params/{ours}conv{number}/kernel', CONV),
        *port_rules.batch_norm(f'{foreign}{norm}', f'{ours}bn{number}'),
    )


def _squeeze(first: str, second: str, ours: str) -> tuple[PortRule, ...]:
    return (
        *port_rules.layer(first, f'{ours}squeeze', CONV),
        *port_rules.layer(second, f'{ours}excite', CONV),
    )


def _torchvision() -> tuple[PortRule, ...]:
    """The block of stage s and number b is `trunk_output.block{s}.block{s}-{b}`."""
    rules = _convolution('stem.', '0', '1', 'stem/')
    for s in (1, 2, 3, 4):
        theirs, ours = f'trunk_output.block{s}.block{s}-{{b}}', f'stage{s}/block{{b+1}}/'
        for part, number in (('a', 1), ('b', 2), ('c', 3)):
            rules += _convolution(f'{theirs}.f.{part}.', '0', '1', ours, number)
        rules += _convolution(f'{theirs}.proj.', '0', '1', f'{ours}downsample_')
        rules += _squeeze(f'{theirs}.f.se.fc1', f'{theirs}.f.se.fc2', ours)
    return (*rules, *port_rules.head('fc'))


def _timm() -> tuple[PortRule, ...]:
    theirs, ours = 's{s}.b{b}', 'stage{s}/block{b}/'
    return (
        *_convolution('stem.', 'conv', 'bn', 'stem/'),
        *_convolution(f'{theirs}.conv{{c}}.', 'conv', 'bn', ours, '{c}'),
        *_convolution(f'{theirs}.downsample.', 'conv', 'bn', f'{ours}downsample_'),
        *_squeeze(f'{theirs}.se.fc1', f'{theirs}.se.fc2', ours),
        *port_rules.head('head.fc'),
    )


def _transformers(squeeze_excitation: bool) -> tuple[PortRule, ...]:
    """The third layer of a block of RegNetY is the squeeze-and-excitation."""
    theirs, ours = 'regnet.encoder.stages.{s}.layers.{b}', 'stage{s+1}/block{b+1}/'
    parts = 'convolution', 'normalization'
    rules = (
        *_convolution('regnet.embedder.embedder.', *parts, 'stem/'),
        *_convolution(f'{theirs}.shortcut.', *parts, f'{ours}downsample_'),
    )
    for layer, number in ((0, 1), (1, 2), (2 + squeeze_excitation, 3)):
        rules += _convolution(f'{theirs}.layer.{layer}.', *parts, ours, number)
    if squeeze_excitation:
        attention = f'{theirs}.layer.2.attention'
        rules += _squeeze(f'{attention}.0', f'{attention}.2', ours)
    return (*rules, *port_rules.without_prefix(rules, 'regnet.'), *port_rules.head('classifier.1'))


TORCHVISION, TIMM = _torchvision(), _timm()
TABLES = {
    squeeze: {
        'torchvision': TORCHVISION,
        'timm': TIMM,
        'transformers': _transformers(squeeze),
    }
    for squeeze in (True, False)
}


class Stem(nn.Module):
    """3x3 convolution with stride 2."""

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / 2, W / 2, 32]."""
        x = layers.conv(STEM_WIDTH, 3, stride=2, name='conv')(x)
        return nn.relu(layers.BatchNorm(name='bn')(x, use_running_average=use_running_average))


class RegNetStage(nn.Module):
    """Blocks of one resolution; the first has stride 2."""

    width: int
    groups: int
    squeeze_excitation: bool
    drop_path: tuple[float, ...]  # of each block

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H / 2, W / 2, width]."""
        for index, rate in enumerate(self.drop_path):
            block = RegNetBlock(
                self.width,
                self.groups,
                stride=2 if index == 0 else 1,
                squeeze_excitation=self.squeeze_excitation,
                drop_path=rate,
                name=f'block{index + 1}',
            )
            x = block(x, deterministic, use_running_average)
        return x


class RegNetBlock(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions of equal width, and a shortcut."""

    width: int
    groups: int
    stride: int
    squeeze_excitation: bool
    drop_path: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool, use_running_average: bool) -> jax.Array:
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""

        def norm(y: jax.Array, name: str) -> jax.Array:
            return layers.BatchNorm(name=name)(y, use_running_average=use_running_average)

        middle = layers.conv(self.width, 3, stride=self.stride, groups=self.groups, name='conv2')
        y = nn.relu(norm(layers.conv(self.width, 1, name='conv1')(x), 'bn1'))
        y = nn.relu(norm(middle(y), 'bn2'))
        if self.squeeze_excitation:
            y = y * self._excitation(y, round(SQUEEZE * x.shape[-1]))
        y = norm(layers.conv(self.width, 1, name='conv3')(y), 'bn3')
        if x.shape != y.shape:
            conv = layers.conv(self.width, 1, stride=self.stride, name='downsample_conv')
            x = norm(conv(x), 'downsample_bn')
        return nn.relu(x + layers.drop_path(self.drop_path, deterministic)(y))

    def _excitation(self, y: jax.Array, width: int) -> jax.Array:
        """[B, 1, 1, C] in [0, 1] from the mean of each channel (Hu et al. 2018)."""
        squeeze = layers.conv(width, 1, use_bias=True, name='squeeze')
        excite = layers.conv(y.shape[-1], 1, use_bias=True, name='excite')
        return nn.sigmoid(excite(nn.relu(squeeze(y.mean((1, 2), keepdims=True)))))
