"""EfficientNet-Lite 0 to 4: EfficientNet without squeeze-and-excitation, with ReLU6.

The first and last convolutions and the depths of the first and last stages are not scaled.

Source: github.com/tensorflow/tpu, models/official/efficientnet/lite; Tan & Le 2019, "EfficientNet".
"""

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
# The factors of widths and of depths, and the image size in pixels, of each size.
SIZES = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))
RESIZE_MARGIN_PX = 32  # the central square is cut from an image that is larger by this


@dataclasses.dataclass(slots=True, kw_only=True)
class EfficientNetLite(MBConvNetwork):
    """Stages `stem, stage1 ... stage7, top`; `top` is the last 1x1 convolution.

    The default is Lite0; `EfficientNetLite.sized(2)` is Lite2. `depths` and `widths` are the blocks
    and the channels of each stage. `same_padding` (strided convolutions pad as TensorFlow's
    `SAME`), `epsilon` and `stats_decay` of BatchNorm are TensorFlow's by default; timm's
    `efficientnet_lite0` has False, 1e-5 and 0.9. `drop_path` is the rate of stochastic depth that a
    block after the last one would have. `weights` names pretrained weights (see the folder
    `weights`), None for random ones.
    """

    CONVENTIONS: ClassVar[Mapping[str, Convention]] = {'lukemelas': TENSORFLOW}
    FLAT: ClassVar[frozenset[str]] = frozenset({'lukemelas'})

    depths: tuple[int, ...] = DEPTHS
    widths: tuple[int, ...] = WIDTHS
    same_padding: bool = TENSORFLOW.same_padding
    epsilon: float = TENSORFLOW.epsilon
    stats_decay: float = TENSORFLOW.stats_decay

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return self.field_problems()

    @classmethod
    def sized(cls, size: int) -> Self:
        """Lite0 to Lite4."""
        width, depth, _ = SIZES[size]
        middle = tuple(math.ceil(count * depth) for count in DEPTHS[1:-1])
        depths = (DEPTHS[0], *middle, DEPTHS[-1])
        return cls(depths=depths, widths=mbconv.scaled(WIDTHS, width))

    @classmethod
    def stage_counts(cls) -> tuple[int, ...]:
        """The possible numbers of stages of blocks."""
        return (len(DEPTHS),)

    def blocks(self) -> tuple[tuple[BlockShape, ...], ...]:
        """The shape of every block, by stage."""
        return mbconv.efficient(self.depths, self.widths, self.stem_width, 'relu6', squeeze=False)

    def preprocessing(self) -> Preprocessing:
        """224 px from 256 for Lite0 up to 300 px from 332 for Lite4, and values in about [-1, 1].

        timm's own `efficientnet_lite0` reads ImageNet's mean and standard deviation, which its hub
        repository states.

        Source: the original's `efficientnet_lite_builder.py` (mean 127 and deviation 128 of values
        up to 255, size and margin).
        """
        sizes = {
            self.sized(i).widths + self.sized(i).depths: px for i, (*_, px) in enumerate(SIZES)
        }
        size_px = sizes.get(self.widths + self.depths, SIZES[0][2])
        return Preprocessing(
            size_px=size_px,
            resize_px=size_px + RESIZE_MARGIN_PX,
            interpolation=Interpolation.BICUBIC,
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
        )

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of efficientnet_lite_pytorch (after lukemelas' EfficientNet) and timm."""
        blocks = self.blocks()
        return {
            'lukemelas': mbconv_tables.lukemelas(blocks, self.stem_width),
            'timm': mbconv_tables.timm(blocks, self.stem_width),
        }
