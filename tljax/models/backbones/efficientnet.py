"""EfficientNet B0 to B7 (Tan & Le 2019, "EfficientNet: rethinking model scaling")."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from tljax.models import mbconv, mbconv_tables
from tljax.models.mbconv import BlockShape
from tljax.models.mbconv_network import TENSORFLOW, Convention, MBConvNetwork
from tljax.models.port_rules import PortRule
from tljax.types import Interpolation, Preprocessing

DEPTHS = (1, 2, 2, 3, 3, 4, 1)
WIDTHS = (16, 24, 40, 80, 112, 192, 320)
STEM_WIDTH, TOP_WIDTH = 32, 1280
# The factors of widths and of depths of each size, and torchvision's images: the central square of
# the first size in pixels, after resizing to the second.
SIZES = (
    (1.0, 1.0, 224, 256), (1.0, 1.1, 240, 256), (1.1, 1.2, 288, 288), (1.2, 1.4, 300, 320),
    (1.4, 1.8, 380, 384), (1.6, 2.2, 456, 456), (1.8, 2.6, 528, 528), (2.0, 3.1, 600, 600),
)  # fmt: skip
# torchvision's B5 to B7 have another BatchNorm than its smaller ones.
TORCHVISION_LARGE = Convention(epsilon=1e-3, stats_decay=0.99)
FIRST_LARGE = 5


@dataclasses.dataclass(slots=True, kw_only=True)
class EfficientNet(MBConvNetwork):
    """Stages `stem, stage1 ... stage7, top`; `top` is the last 1x1 convolution.

    The default is B0; `EfficientNet.sized(4)` is B4. `depths` and `widths` are the blocks and the
    channels of each stage. `same_padding` (strided convolutions pad as TensorFlow's `SAME`),
    `epsilon` and `stats_decay` of BatchNorm differ between libraries; the defaults are those of
    torchvision's and timm's B0. `drop_path` is the rate of stochastic depth that a block after the
    last one would have; both train B0 to B4 with 0.2. `weights` names pretrained weights (see the
    folder `weights`), None for random ones.
    """

    CONVENTIONS: ClassVar[Mapping[str, Convention]] = {
        'lukemelas': TENSORFLOW,
        'transformers': TENSORFLOW,
    }
    FLAT: ClassVar[frozenset[str]] = frozenset({'lukemelas', 'transformers'})
    ACTIVATION: ClassVar[str] = 'silu'

    depths: tuple[int, ...] = DEPTHS
    widths: tuple[int, ...] = WIDTHS

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return self.field_problems()

    @classmethod
    def sized(cls, size: int) -> Self:
        """B0 to B7."""
        width, depth, *_ = SIZES[size]
        return cls(
            depths=tuple(math.ceil(count * depth) for count in DEPTHS),
            widths=mbconv.scaled(WIDTHS, width),
            stem_width=mbconv.rounded(STEM_WIDTH * width),
            top_width=mbconv.rounded(TOP_WIDTH * width),
        )

    @classmethod
    def stage_counts(cls) -> tuple[int, ...]:
        """The possible numbers of stages of blocks."""
        return (len(DEPTHS),)

    def size(self) -> int | None:
        """The number of the published network with these depths and widths."""
        same = [
            index
            for index in range(len(SIZES))
            if (b := self.sized(index)).depths == self.depths and b.widths == self.widths
        ]
        return same[0] if same else None

    def convention(self, naming: str) -> Convention:
        """What the library with these names computes."""
        if naming == 'torchvision' and (self.size() or 0) >= FIRST_LARGE:
            return TORCHVISION_LARGE
        return self.CONVENTIONS.get(naming, Convention())

    def blocks(self) -> tuple[tuple[BlockShape, ...], ...]:
        """The shape of every block, by stage."""
        return mbconv.efficient(self.depths, self.widths, self.stem_width, 'silu', squeeze=True)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation, and torchvision's sizes.

        Source: torchvision's EfficientNet_B0_Weights to EfficientNet_B7_Weights.
        """
        *_, size_px, resize_px = SIZES[self.size() or 0]
        return Preprocessing(
            size_px=size_px, resize_px=resize_px, interpolation=Interpolation.BICUBIC
        )

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision, timm, lukemelas' efficientnet_pytorch and transformers."""
        blocks = self.blocks()
        return {
            'torchvision': mbconv_tables.torchvision(blocks, self.stem_width),
            'timm': mbconv_tables.timm(blocks, self.stem_width),
            'lukemelas': mbconv_tables.lukemelas(blocks, self.stem_width),
            'transformers': mbconv_tables.transformers(blocks, self.stem_width),
        }
