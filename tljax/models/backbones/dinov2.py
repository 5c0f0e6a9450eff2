"""DINOv2 (Oquab et al. 2023), with and without registers (Darcet et al. 2023).

The final layer norm belongs to the last block's stage. That stage removes the registers, which no
head reads: its output is the class token and the patches.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn

from tljax import tree
from tljax.models import layers, tokens, transformer
from tljax.models.backbones import dinov2_tables
from tljax.models.layers import Pooling
from tljax.models.port_rules import PortRule
from tljax.models.positions import PositionResizing
from tljax.types import Interpolation, Preprocessing

LAYER_SCALE = 1e-5  # the initial scale: `layerscale` in Meta's ssl_default_config.yaml


@dataclasses.dataclass(slots=True, kw_only=True)
class DINOv2:
    """Stages `embed, block1 ... blockN`, of class token, registers and patches as tokens.

    Published sizes, as width and depth: S 384, 12; B 768, 12 (the default); L 1024, 24; g 1536, 40
    with `gated` and `mlp_ratio` 8 / 3.

    Attributes:
        width: of a token.
        depth: the number of blocks.
        patch_px: the side of a patch.
        size_px: the image size of the position embeddings; they are resized, as
            `position_resizing` says, if the model reads another size.
        head_width: of an attention head.
        mlp_ratio: the width of the hidden layer of an MLP, after the gate, divided by `width`.
        registers: the number of register tokens: 0 or 4 in published networks.
        class_position: whether the class token has a position embedding; timm adds it to the
            token itself in networks with registers.
        gated: whether the MLP is a SwiGLU.
        epsilon: of the layer norms.
        activation: of an MLP that is not gated.
        dropout: the rate after linear layers and the positions.
        drop_path: the rate of stochastic depth in the last block.
        position_resizing: Meta's `OFFSET` without registers and `ANTIALIASED` with them.
        head_pooling: what the head reads: the class token, or with `CONCATENATED` the mean of the
            patches too, as in transformers' classifiers.
        weights: pretrained weights (see the folder `weights`); None for random ones.
    """

    width: int = 768
    depth: int = 12
    patch_px: int = 14
    size_px: int = 518
    head_width: int = 64
    mlp_ratio: float = 4.0
    registers: int = 0
    class_position: bool = True
    gated: bool = False
    epsilon: float = 1e-6
    activation: str = 'gelu'
    dropout: float = 0.0
    drop_path: float = 0.0
    position_resizing: PositionResizing = PositionResizing.OFFSET
    head_pooling: Pooling = Pooling.AVERAGE
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = transformer.problems(self)
        if self.registers < 0:
            problems.append(f'registers is {self.registers}, wanted 0 or more')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {
            'embed': tokens.Embed(
                width=self.width,
                patch_px=self.patch_px,
                dropout=self.dropout,
                position_resizing=self.position_resizing,
                position_prefix=int(self.class_position),
                registers=self.registers,
            )
        }
        rates = layers.drop_path_rates(self.drop_path, self.depth)
        for index, rate in enumerate(rates, 1):
            result[f'block{index}'] = transformer.Block(
                width=self.width,
                head_width=self.head_width,
                inner=round(self.width * self.mlp_ratio),
                epsilon=self.epsilon,
                activation='silu' if self.gated else self.activation,
                dropout=self.dropout,
                drop_path=rate,
                last=index == self.depth,
                layer_scale=LAYER_SCALE,
                gated=self.gated,
                registers=self.registers,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A linear layer on the class token, or on what `head_pooling` says."""
        return layers.ClassifierHead(num_classes, pooling=self.head_pooling)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation, `size_px` without a crop, bicubic, as in timm.

        Meta and transformers evaluate at 224 px, from 256.
        """
        return Preprocessing(
            size_px=self.size_px, resize_px=self.size_px, interpolation=Interpolation.BICUBIC
        )

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of timm, Meta (`facebook`) and transformers (two releases)."""
        return dinov2_tables.tables(self.depth, self.gated, self.registers > 0)

    @classmethod
    def variants(cls) -> Sequence['DINOv2']:
        """Two: the MLP of g has other names."""
        return (cls(), cls(gated=True))

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'DINOv2 | None':
        """Width and patch from the patch embedding, the other sizes from the first block."""
        patch = shapes.get('params/embed/patch/kernel', ())
        depth = sum(tree.matches('params/*/qkv/kernel', path) for path in shapes)
        mlp, fc2 = (shapes.get(f'params/block1/{name}/kernel', ()) for name in ('fc1', 'fc2'))
        needed = ('params/block1/scale1', 'params/embed/class_token', tokens.POSITIONS)
        if len(patch) != 4 or len(mlp) != 2 or len(fc2) != 2 or not depth:
            return None
        if any(path not in shapes for path in needed):
            return None
        if (mlp[1] == 2 * fc2[0]) != self.gated:
            return None
        grid, prefix = tokens.grid_of(shapes, 1)
        registers = shapes.get('params/embed/registers', (1, 0, 0))[1]
        return DINOv2(
            width=patch[3],
            depth=depth,
            patch_px=patch[0],
            size_px=grid * patch[0],
            head_width=transformer.fitted_head_width(patch[3], 64, 'DINOv2'),
            mlp_ratio=fc2[0] / patch[3],
            registers=registers,
            class_position=prefix == 1,
            gated=self.gated,
            position_resizing=_resizing(naming, registers),
            head_pooling=_head_pooling(shapes),
        )


def _head_pooling(shapes: Mapping[str, tuple[int, ...]]) -> Pooling:
    """A head that reads the class token and the mean of the patches is twice as wide."""
    kernel = shapes.get('params/head/linear/kernel', ())
    token = shapes['params/embed/class_token']
    return Pooling.CONCATENATED if kernel[:1] == (2 * token[2],) else Pooling.AVERAGE


def _resizing(naming: str, registers: int) -> PositionResizing:
    """How each library resizes positions: all antialiased with registers, and timm without.

    Source: dinov2/hub/backbones.py of github.com/facebookresearch/dinov2; transformers,
    modeling_dinov2.py.
    """
    if registers or naming == 'timm':
        return PositionResizing.ANTIALIASED
    if naming.startswith('transformers'):
        return PositionResizing.PLAIN
    return PositionResizing.OFFSET
