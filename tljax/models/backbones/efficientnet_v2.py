"""EfficientNetV2 S, M, L and B0 to B3 (Tan & Le 2021, "EfficientNetV2")."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from tljax.models import mbconv, mbconv_tables
from tljax.models.mbconv import BlockShape
from tljax.models.mbconv_network import Convention, MBConvNetwork
from tljax.models.port_rules import PortRule
from tljax.types import Preprocessing

# Kernel, stride and expansion of each stage; the first three are fused, and S has six.
PLANS = ((3, 1, 1), (3, 2, 4), (3, 2, 4), (3, 2, 4), (3, 1, 6), (3, 2, 6), (3, 1, 6))
FUSED = 3
# Depths, widths and the image size in pixels, of torchvision's networks.
SIZES = {
    's': ((2, 4, 4, 6, 9, 15), (24, 48, 64, 128, 160, 256), 384),
    'm': ((3, 5, 5, 7, 14, 18, 5), (24, 48, 80, 160, 176, 304, 512), 480),
    'l': ((4, 7, 7, 10, 19, 25, 7), (32, 64, 96, 192, 224, 384, 640), 480),
}


@dataclasses.dataclass(slots=True, kw_only=True)
class EfficientNetV2(MBConvNetwork):
    """Stages `stem, stage1 ... stage6, top`, or up to `stage7`; the first three are fused.

    The default is S; `EfficientNetV2.sized('m')` is M. `depths` and `widths` are the blocks and the
    channels of each stage. `same_padding` (strided convolutions pad as TensorFlow's `SAME`),
    `epsilon` and `stats_decay` of BatchNorm differ between libraries; the defaults are
    torchvision's. `drop_path` is the rate of stochastic depth that a block after the last one would
    have. `weights` names pretrained weights (see the folder `weights`), None for random ones.
    """

    CONVENTIONS: ClassVar[Mapping[str, Convention]] = {
        'torchvision': Convention(epsilon=1e-3),
        # All its published networks with these blocks are `tf_efficientnetv2_*`.
        'timm': Convention(same_padding=True, epsilon=1e-3),
    }
    ACTIVATION: ClassVar[str] = 'silu'

    depths: tuple[int, ...] = SIZES['s'][0]
    widths: tuple[int, ...] = SIZES['s'][1]
    stem_width: int = 24
    epsilon: float = 1e-3

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return self.field_problems()

    @classmethod
    def sized(cls, size: str) -> Self:
        """The network `s`, `m` or `l`."""
        depths, widths, _ = SIZES[size]
        return cls(depths=depths, widths=widths, stem_width=widths[0])

    @classmethod
    def stage_counts(cls) -> tuple[int, ...]:
        """The possible numbers of stages of blocks."""
        return (len(PLANS) - 1, len(PLANS))

    def blocks(self) -> tuple[tuple[BlockShape, ...], ...]:
        """The shape of every block, by stage."""
        inputs = (self.stem_width, *self.widths[:-1])
        rows = enumerate(zip(self.depths, self.widths, inputs, strict=True))
        return tuple(
            mbconv.stage(*row, PLANS[index], 'silu', squeeze=index >= FUSED, fused=index < FUSED)
            for index, row in rows
        )

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation; 384 px for S, 480 px for M and L.

        torchvision's L and timm's networks have mean and standard deviation 0.5.

        Source: torchvision's EfficientNet_V2_S_Weights to EfficientNet_V2_L_Weights.
        """
        sizes = {(depths, widths): px for depths, widths, px in SIZES.values()}
        size_px = sizes.get((self.depths, self.widths), SIZES['s'][2])
        half = self.same_padding or self.widths == SIZES['l'][1]
        images = Preprocessing(size_px=size_px, resize_px=size_px)
        return dataclasses.replace(images, mean=(0.5,) * 3, std=(0.5,) * 3) if half else images

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision and timm."""
        blocks = self.blocks()
        return {
            'torchvision': mbconv_tables.torchvision(blocks, self.stem_width),
            'timm': mbconv_tables.timm(blocks, self.stem_width),
        }
