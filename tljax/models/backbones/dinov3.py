"""The vision transformers of DINOv3 (Simeoni et al. 2025): rotary positions, registers, SwiGLU.

The final layer norm belongs to the last block's stage. That stage removes the registers, which no
head reads: its output is the class token and the patches.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn

from tljax import tree
from tljax.models import layers, tokens, transformer
from tljax.models.backbones import dinov3_tables
from tljax.models.port_rules import PortRule
from tljax.models.rotary import Rotary
from tljax.models.tokens import TokenPooling
from tljax.types import Interpolation, Preprocessing

HEAD_WIDTHS = {4096: 128}  # attention head width by model width, where it is not 64
LAYER_SCALE = 1e-5


@dataclasses.dataclass(slots=True, kw_only=True)
class DINOv3:
    """Stages `embed, block1 ... blockN`, of class token, registers and patches as tokens.

    Published sizes, as width and depth: S 384, 12; B 768, 12 (the default); L 1024, 24; with
    `gated`: S+ 384, 12; H+ 1280, 32; 7B 4096, 40, whose attention heads are 128 wide.

    Attributes:
        width: of a token.
        depth: the number of blocks.
        patch_px: the side of a patch.
        size_px: the image size; the positions fit every size.
        head_width: of an attention head.
        mlp_ratio: the width of the hidden layer of an MLP, after the gate, divided by `width`.
        registers: the number of register tokens ("storage tokens").
        gated: whether the MLP is a SwiGLU.
        qkv_bias: whether queries and values have a bias; keys have none.
        pooling: what the head reads: the class token, or the mean of the patches, which is a
            further stage, `pool`, as in timm.
        rope_base: the ratio of the longest period of the positions to the shortest.
        epsilon: of the layer norms.
        activation: of an MLP that is not gated.
        dropout: the rate after linear layers and the patch embedding.
        drop_path: the rate of stochastic depth in the last block.
        weights: pretrained weights (see the folder `weights`); None for random ones.
    """

    width: int = 768
    depth: int = 12
    patch_px: int = 16
    size_px: int = 224
    head_width: int = 64
    mlp_ratio: float = 4.0
    registers: int = 4
    gated: bool = False
    qkv_bias: bool = True
    pooling: TokenPooling = TokenPooling.TOKEN
    rope_base: float = dinov3_tables.BASE
    epsilon: float = 1e-5
    activation: str = 'gelu'
    dropout: float = 0.0
    drop_path: float = 0.0
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = transformer.problems(self)
        if self.registers < 0:
            problems.append(f'registers is {self.registers}, wanted 0 or more')
        if self.rope_base <= 0:
            problems.append(f'rope_base is {self.rope_base}, wanted more than 0')
        if self.head_width % 4:
            problems.append(f'head_width is {self.head_width}, wanted a multiple of 4')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {
            'embed': tokens.Embed(
                width=self.width,
                patch_px=self.patch_px,
                dropout=self.dropout,
                position_prefix=0,
                registers=self.registers,
                positions=False,
            )
        }
        pools = self.pooling is TokenPooling.MEAN
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
                last=index == self.depth and not pools,
                layer_scale=LAYER_SCALE,
                gated=self.gated,
                rotate=Rotary(1 + self.registers, self.rope_base),
                qkv_bias=self.qkv_bias,
                key_bias=False,
                registers=self.registers,
            )
        if pools:
            result['pool'] = tokens.MeanPool(1 + self.registers, self.epsilon, False)
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A linear layer on the class token or the mean of the patches."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation, `size_px` without a crop, bicubic.

        The weights of satellite images (SAT-493M) need others, which their hub repositories state.
        """
        return Preprocessing(
            size_px=self.size_px, resize_px=self.size_px, interpolation=Interpolation.BICUBIC
        )

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of Meta (`facebook`), timm and transformers (two releases)."""
        last = f'block{self.depth}' if self.pooling is TokenPooling.TOKEN else 'pool'
        return dinov3_tables.tables(last, self.gated, self.head_width)

    @classmethod
    def variants(cls) -> Sequence['DINOv3']:
        """Two: a gated MLP has other names."""
        return (cls(), cls(gated=True))

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'DINOv3 | None':
        """Width and patch from the patch embedding, the other sizes from the first block."""
        patch = shapes.get('params/embed/patch/kernel', ())
        depth = sum(tree.matches('params/*/qkv/kernel', path) for path in shapes)
        mlp, fc2 = (shapes.get(f'params/block1/{name}/kernel', ()) for name in ('fc1', 'fc2'))
        needed = ('params/block1/scale1', 'params/embed/class_token')
        if len(patch) != 4 or len(mlp) != 2 or len(fc2) != 2 or not depth:
            return None
        if tokens.POSITIONS in shapes or any(path not in shapes for path in needed):
            return None
        if (mlp[1] == 2 * fc2[0]) != self.gated:
            return None
        pooled = 'params/pool/norm/scale' in shapes
        return DINOv3(
            width=patch[3],
            depth=depth,
            patch_px=patch[0],
            size_px=14 * patch[0],
            head_width=transformer.fitted_head_width(
                patch[3], HEAD_WIDTHS.get(patch[3], 64), 'DINOv3'
            ),
            mlp_ratio=fc2[0] / patch[3],
            registers=shapes.get('params/embed/registers', (1, 0, 0))[1],
            gated=self.gated,
            qkv_bias='params/block1/qkv/bias' in shapes,
            pooling=TokenPooling.MEAN if pooled else TokenPooling.TOKEN,
        )
