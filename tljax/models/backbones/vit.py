"""Vision Transformer (Dosovitskiy et al. 2020), with the variants of DeiT, MAE and MoCo v3.

With a class token, as in torchvision and timm, the final layer norm belongs to the last block's
stage, so that the stage's output is what the literature calls the network's features, and the head
is a linear layer alone. The mean of the patches is a stage of its own, `pool`, with that norm.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn

from tljax import tree
from tljax.models import layers, tokens, transformer
from tljax.models.backbones import vit_tables
from tljax.models.port_rules import PortRule
from tljax.models.positions import PositionResizing
from tljax.models.tokens import TokenPooling
from tljax.types import Preprocessing

HEAD_WIDTHS = {1280: 80}  # attention head width by model width, where it is not 64
# Epsilon of layer norms; torchvision and timm use 1e-6.
EPSILON = {'transformers': 1e-12, 'transformers4': 1e-12}
RESIZING = {'transformers': PositionResizing.PLAIN, 'transformers4': PositionResizing.PLAIN}


@dataclasses.dataclass(slots=True, kw_only=True)
class ViT:
    """Stages `embed, block1 ... blockN`, of class token and patches [B, 1 + patches, width].

    Published sizes, as width and depth: Ti 192, 12; S 384, 12; B 768, 12 (the default); L 1024,
    24; H 1280, 32, whose attention heads are 80 wide instead of 64.

    Attributes:
        width: of a token.
        depth: the number of blocks.
        patch_px: the side of a patch.
        size_px: the image size of the position embeddings; they are resized, as
            `position_resizing` says, if the model reads another size.
        head_width: of an attention head; 32 in MoCo v3's S.
        mlp_ratio: the width of the hidden layer of an MLP, divided by `width`.
        class_token: whether the first token is a class token.
        class_position: whether the special tokens have position embeddings.
        distillation_token: whether a second special token follows, as in DeiT.
        distillation_head: whether a second linear layer reads that token; the logits are the mean
            of both layers'.
        pooling: what the head reads: the class token, or the mean of the patches, which is a
            further stage, `pool`.
        norm_after_pooling: whether the final layer norm follows the pooling instead of preceding
            it (`fc_norm` in timm and MAE).
        epsilon: of the layer norms.
        activation: of the MLPs.
        dropout: the rate after linear layers and the positions.
        drop_path: the rate of stochastic depth in the last block.
        position_resizing: see `PositionResizing`.
        weights: pretrained weights (see the folder `weights`); None for random ones.
    """

    width: int = 768
    depth: int = 12
    patch_px: int = 16
    size_px: int = 224
    head_width: int = 64
    mlp_ratio: float = 4.0
    class_token: bool = True
    class_position: bool = True
    distillation_token: bool = False
    distillation_head: bool = False
    pooling: TokenPooling = TokenPooling.TOKEN
    norm_after_pooling: bool = False
    epsilon: float = 1e-6
    activation: str = 'gelu'
    dropout: float = 0.0
    drop_path: float = 0.0
    position_resizing: PositionResizing = PositionResizing.ANTIALIASED
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = transformer.problems(self)
        if not self.class_token and self.pooling is TokenPooling.TOKEN:
            problems.append('pooling is TOKEN, but class_token is False')
        if not self.class_token and self.distillation_token:
            problems.append('distillation_token is True, but class_token is False')
        if self.distillation_head and not self.distillation_token:
            problems.append('distillation_head is True, but distillation_token is False')
        if self.distillation_head and self.pooling is not TokenPooling.TOKEN:
            problems.append(f'distillation_head is True, but pooling is {self.pooling.name}')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        special = self.class_token + self.distillation_token
        result: dict[str, nn.Module] = {
            'embed': tokens.Embed(
                width=self.width,
                patch_px=self.patch_px,
                dropout=self.dropout,
                position_resizing=self.position_resizing,
                position_prefix=special * self.class_position,
                class_token=self.class_token,
                distillation_token=self.distillation_token,
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
                activation=self.activation,
                dropout=self.dropout,
                drop_path=rate,
                last=index == self.depth and not pools,
            )
        if pools:
            result['pool'] = tokens.MeanPool(special, self.epsilon, self.norm_after_pooling)
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A linear layer on the class token or the mean, and one on the distillation token."""
        if self.distillation_head:
            return tokens.DistillationHead(num_classes)
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation; 224 px from 256, other sizes without resizing.

        The ImageNet-21k weights of Google and timm ("augreg") need mean and standard deviation
        0.5, which their hub repositories state and a bare file does not.
        """
        resize_px = 256 if self.size_px == 224 else self.size_px
        return Preprocessing(size_px=self.size_px, resize_px=resize_px)

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision, timm, transformers (two releases) and Google's `.npz` files.

        Meta's MAE and MoCo v3 and DeiT's authors have the names of timm.
        """
        last = f'block{self.depth}' if self.pooling is TokenPooling.TOKEN else 'pool'
        return vit_tables.tables(
            last,
            self.head_width,
            self.norm_after_pooling,
            self.distillation_token,
            self.distillation_head,
        )

    @classmethod
    def variants(cls) -> Sequence['ViT']:
        """Two: timm has another name for the last norm if it follows the pooling."""
        return (cls(), cls(pooling=TokenPooling.MEAN, norm_after_pooling=True))

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'ViT | None':
        """Width and patch from the patch embedding, depth from the blocks, size from positions."""
        patch = shapes.get('params/embed/patch/kernel', ())
        depth = sum(tree.matches('params/*/qkv/kernel', path) for path in shapes)
        mlp = shapes.get('params/block1/fc1/kernel', ())
        if len(patch) != 4 or len(mlp) != 2 or len(shapes.get(tokens.POSITIONS, ())) != 3:
            return None
        pooled = 'params/pool/norm/scale' in shapes
        if not depth or pooled != self.norm_after_pooling:
            return None
        token, distillation = (
            f'params/embed/{name}' in shapes for name in ('class_token', 'distillation_token')
        )
        special = token + distillation
        grid, prefix = tokens.grid_of(shapes, special)
        return ViT(
            width=patch[3],
            depth=depth,
            patch_px=patch[0],
            size_px=grid * patch[0],
            head_width=transformer.fitted_head_width(
                patch[3], HEAD_WIDTHS.get(patch[3], 64), 'ViT'
            ),
            mlp_ratio=mlp[1] / patch[3],
            class_token=token,
            class_position=prefix == special,
            distillation_token=distillation,
            distillation_head='params/head/distilled/kernel' in shapes,
            pooling=TokenPooling.TOKEN if token and not pooled else TokenPooling.MEAN,
            norm_after_pooling=pooled,
            epsilon=EPSILON.get(naming, 1e-6),
            position_resizing=RESIZING.get(naming, PositionResizing.ANTIALIASED),
        )
