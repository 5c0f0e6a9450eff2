"""MobileNetV2 (Sandler et al. 2018) and MobileNetV3 Large and Small (Howard et al. 2019)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax

from tljax.models import layers, mbconv, mbconv_tables
from tljax.models.mbconv import BlockShape
from tljax.models.mbconv_network import Convention, MBConvNetwork
from tljax.models.port_rules import PortRule

# Kernel, stride and expansion of each stage of MobileNetV2.
V2 = ((3, 1, 1), (3, 2, 6), (3, 2, 6), (3, 2, 6), (3, 1, 6), (3, 2, 6), (3, 1, 6))
# Kernel, stride, squeeze-and-excitation and activation of each stage of MobileNetV3, by the number
# of stages: Large has six and Small five.
V3 = {
    6: (
        (3, 1, False, 'relu'), (3, 2, False, 'relu'), (5, 2, True, 'relu'),
        (3, 2, False, 'hard_swish'), (3, 1, True, 'hard_swish'), (5, 2, True, 'hard_swish'),
    ),
    5: (
        (3, 2, True, 'relu'), (3, 2, False, 'relu'), (5, 2, True, 'hard_swish'),
        (5, 1, True, 'hard_swish'), (5, 2, True, 'hard_swish'),
    ),
}  # fmt: skip
LARGE = {
    'depths': (1, 2, 3, 4, 2, 3),
    'widths': (16, 24, 40, 80, 112, 160),
    'inner': (16, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960),
    'top_width': 960,
    'fc_width': 1280,
}
SMALL = {
    'depths': (1, 2, 3, 2, 3),
    'widths': (16, 24, 40, 48, 96),
    'inner': (16, 72, 88, 96, 240, 240, 120, 144, 288, 576, 576),
    'top_width': 576,
    'fc_width': 1024,
}
SQUEEZE = 4  # inner widths are divided by this
V2_TOP_WIDTH = 1280  # which factors below 1 do not scale


@dataclasses.dataclass(slots=True, kw_only=True)
class MobileNetV2(MBConvNetwork):
    """Stages `stem, stage1 ... stage7, top`; `top` is the last 1x1 convolution.

    `MobileNetV2.scaled(1.4)` has all widths times 1.4. `depths` and `widths` are the blocks and the
    channels of each stage. `same_padding` (strided convolutions pad as TensorFlow's `SAME`),
    `epsilon` and `stats_decay` of BatchNorm are those of torchvision and timm by default.
    `drop_path` is the rate of stochastic depth that a block after the last one would have.
    `weights` names pretrained weights (see the folder `weights`), None for random ones.
    """

    depths: tuple[int, ...] = (1, 2, 3, 4, 3, 3, 1)
    widths: tuple[int, ...] = (16, 24, 32, 64, 96, 160, 320)

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return self.field_problems()

    @classmethod
    def scaled(cls, width: float) -> Self:
        """The network with widths times `width`."""
        usual = cls()
        return cls(
            widths=mbconv.scaled(usual.widths, width),
            stem_width=mbconv.rounded(usual.stem_width * width),
            top_width=mbconv.rounded(V2_TOP_WIDTH * max(1.0, width)),
        )

    @classmethod
    def stage_counts(cls) -> tuple[int, ...]:
        """The possible numbers of stages of blocks."""
        return (len(V2),)

    def blocks(self) -> tuple[tuple[BlockShape, ...], ...]:
        """The shape of every block, by stage."""
        inputs = (self.stem_width, *self.widths[:-1])
        rows = zip(self.depths, self.widths, inputs, V2, strict=True)
        return tuple(mbconv.stage(*row, 'relu6') for row in rows)

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """One: torchvision's names depend on the depths, which its widths share."""
        return (cls(),)

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision and timm."""
        blocks = self.blocks()
        return {
            'torchvision': mbconv_tables.torchvision_v2(blocks, self.stem_width),
            'timm': mbconv_tables.timm(blocks, self.stem_width),
        }


@dataclasses.dataclass(slots=True, kw_only=True)
class MobileNetV3(MBConvNetwork):
    """Stages `stem, stage1 ... stage6, top, fc` of Large, or up to `stage5` of Small.

    `top` is the last 1x1 convolution of maps; `fc` pools them and has the hidden linear layer of
    the published network. The default is Large; `MobileNetV3.small()` is Small. `depths` and
    `widths` are the blocks and the channels of each stage, `inner` the width of every block between
    expansion and projection. `same_padding` (strided convolutions pad as TensorFlow's `SAME`),
    `epsilon` and `stats_decay` of BatchNorm differ between libraries; the defaults are
    torchvision's. `drop_path` is the rate of stochastic depth that a block after the last one would
    have. `weights` names pretrained weights (see the folder `weights`), None for random ones.

    Attributes:
        inner: channels of each block between expansion and projection.
        fc_width: width of the hidden linear layer.
    """

    CONVENTIONS: ClassVar[Mapping[str, Convention]] = {
        'torchvision': Convention(epsilon=1e-3, stats_decay=0.99)
    }
    ACTIVATION: ClassVar[str] = 'hard_swish'
    BLOCKS_AFTER: ClassVar[int] = 1  # timm's last stage is `top`

    depths: tuple[int, ...] = LARGE['depths']
    widths: tuple[int, ...] = LARGE['widths']
    inner: tuple[int, ...] = LARGE['inner']
    stem_width: int = 16
    top_width: int = LARGE['top_width']
    fc_width: int = LARGE['fc_width']
    epsilon: float = 1e-3
    stats_decay: float = 0.99

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = self.field_problems()
        if len(self.inner) != sum(self.depths) or min(self.inner, default=0) < 1:
            wanted = sum(self.depths)
            problems.append(f'inner is {self.inner}, wanted {wanted} values more than 0')
        if self.fc_width < 1:
            problems.append(f'fc_width is {self.fc_width}, wanted more than 0')
        return problems

    @classmethod
    def small(cls) -> Self:
        """MobileNetV3 Small."""
        return cls(**SMALL)

    @classmethod
    def stage_counts(cls) -> tuple[int, ...]:
        """The possible numbers of stages of blocks."""
        return tuple(V3)

    def blocks(self) -> tuple[tuple[BlockShape, ...], ...]:
        """The shape of every block, by stage."""
        inner = iter(self.inner)
        result = []
        for depth, width, plan in zip(self.depths, self.widths, V3[len(self.depths)], strict=True):
            kernel, stride, squeeze, activation = plan
            widths = [next(inner) for _ in range(depth)]
            result.append(
                tuple(
                    BlockShape(
                        width=width,
                        inner=middle,
                        kernel=kernel,
                        stride=stride if index == 0 else 1,
                        activation=activation,
                        squeeze=mbconv.rounded(middle / SQUEEZE) if squeeze else 0,
                        hard_gate=True,
                    )
                    for index, middle in enumerate(widths)
                )
            )
        return tuple(result)

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        return {**MBConvNetwork.stages(self), 'fc': Hidden(self.fc_width)}

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """Two: the names depend on the depths, which are Large's or Small's."""
        return (cls(), cls.small())

    def others(self, shapes: Mapping[str, tuple[int, ...]], inner: list[int]) -> dict[str, Any]:
        """The inner widths, and that of the hidden layer."""
        hidden = shapes.get('params/fc/linear/kernel', (0, self.fc_width))
        return {'inner': tuple(inner), 'fc_width': hidden[-1]}

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision and timm."""
        blocks = self.blocks()
        return {
            'torchvision': mbconv_tables.torchvision_v3(blocks, self.stem_width),
            'timm': mbconv_tables.timm_v3(blocks, self.stem_width),
        }


class Hidden(nn.Module):
    """Global average pooling, a linear layer and a hard swish."""

    width: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, width]."""
        x = nn.Dense(self.width, kernel_init=layers.he_normal, name='linear')(layers.pool(x))
        return nn.hard_swish(x)
