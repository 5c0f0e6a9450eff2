"""The image towers of SigLIP (Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025).

They have no class token, so the blocks have maps [B, H / patch, W / patch, width], which other
poolings can read as those of a convolutional network. The final layer norm belongs to the last
block's stage, and attention pooling is the stage `pool`, which can be frozen, trained or cut off.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from tljax import tree
from tljax.models import layers, transformer
from tljax.models.backbones import siglip_tables
from tljax.models.port_rules import PortRule
from tljax.models.positions import PositionResizing
from tljax.types import InputError, Interpolation, MisfitError, Preprocessing

# Attention head width by model width, where it is not 64: So400m and g-opt.
HEAD_WIDTHS = {1152: 72, 1536: 96}


@dataclasses.dataclass(slots=True, kw_only=True)
class SigLIP:
    """Stages `embed, block1 ... blockN, pool`; maps, and vectors [B, width] after `pool`.

    Published sizes, as width and depth: B 768, 12 (the default); L 1024, 24; So400m 1152, 27 with
    `mlp_ratio` 4304 / 1152; g-opt 1536, 40.

    Attributes:
        width: of a token.
        depth: the number of blocks.
        patch_px: the side of a patch. Images can have a rest that makes no patch, which is not
            read: So400m/14 reads 378 of 384 px.
        size_px: the image size of the position embeddings; they are resized, as
            `position_resizing` says, if the model reads another number of patches.
        head_width: of an attention head.
        mlp_ratio: the width of the hidden layer of an MLP, divided by `width`.
        epsilon: of the layer norms.
        activation: `gelu_tanh`; timm has `gelu` in most of its copies.
        dropout: the rate after linear layers and the positions.
        drop_path: the rate of stochastic depth in the last block.
        attention_pool: whether there is the stage `pool`. Without, the head reads the mean of the
            patches, as in transformers' `SiglipForImageClassification` and timm's `siglip_gap`.
        position_resizing: antialiased as in timm, open_clip and big_vision; `PLAIN` in
            transformers.
        weights: pretrained weights (see the folder `weights`); None for random ones.
    """

    width: int = 768
    depth: int = 12
    patch_px: int = 16
    size_px: int = 224
    head_width: int = 64
    mlp_ratio: float = 4.0
    epsilon: float = 1e-6
    activation: str = 'gelu_tanh'
    dropout: float = 0.0
    drop_path: float = 0.0
    attention_pool: bool = True
    position_resizing: PositionResizing = PositionResizing.ANTIALIASED
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return transformer.problems(self)

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        shared = {
            'width': self.width,
            'head_width': self.head_width,
            'inner': round(self.width * self.mlp_ratio),
            'epsilon': self.epsilon,
            'activation': self.activation,
            'dropout': self.dropout,
        }
        result: dict[str, nn.Module] = {
            'embed': Embed(self.width, self.patch_px, self.dropout, self.position_resizing)
        }
        rates = layers.drop_path_rates(self.drop_path, self.depth)
        for index, rate in enumerate(rates, 1):
            last = index == self.depth
            result[f'block{index}'] = transformer.Block(**shared, drop_path=rate, last=last)
        if self.attention_pool:
            result['pool'] = transformer.AttentionPool(**shared)
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A linear layer on the pooled vector, or on the mean of the patches."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """Mean and standard deviation 0.5, bicubic, without a crop."""
        return Preprocessing(
            size_px=self.size_px,
            resize_px=self.size_px,
            interpolation=Interpolation.BICUBIC,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        )

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of transformers, timm, open_clip and big_vision's `.npz` files."""
        return siglip_tables.tables(self.depth, self.head_width, self.attention_pool)

    @classmethod
    def variants(cls) -> Sequence['SigLIP']:
        """Two: transformers' classifier does not use the attention pooling of its file."""
        return (cls(), cls(attention_pool=False))

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'SigLIP | None':
        """Width and patch from the patch embedding, the other sizes from the first block."""
        patch = shapes.get('params/embed/patch/kernel', ())
        positions = shapes.get('params/embed/position_embedding', ())
        mlp = shapes.get('params/block1/fc1/kernel', ())
        depth = sum(tree.matches('params/*/norm2/scale', path) for path in shapes)
        others = ('params/embed/class_token', 'params/embed/norm/scale', 'params/block1/scale1')
        if len(patch) != 4 or len(positions) != 3 or len(mlp) != 2 or not depth:
            return None
        if any(path in shapes for path in others):
            return None
        if ('params/pool/probe' in shapes) != self.attention_pool:
            return None
        grid = math.isqrt(positions[1])
        if grid**2 != positions[1]:
            raise MisfitError(f'it has {positions[1]} patch positions, wanted a square number')
        of_transformers = naming == 'transformers'
        return SigLIP(
            width=patch[3],
            depth=depth,
            patch_px=patch[0],
            size_px=grid * patch[0],
            head_width=transformer.fitted_head_width(
                patch[3], HEAD_WIDTHS.get(patch[3], 64), 'SigLIP'
            ),
            mlp_ratio=mlp[1] / patch[3],
            activation=_activation(naming, patch[3], patch[0], grid),
            attention_pool=self.attention_pool,
            position_resizing=PositionResizing.PLAIN
            if of_transformers
            else PositionResizing.ANTIALIASED,
        )


def _activation(naming: str, width: int, patch_px: int, grid: int) -> str:
    """The tanh approximation, but exact GELU in the networks that timm copied first.

    Source: timm, models/vision_transformer.py, `act_layer` of the functions `vit_*_siglip_*`.
    """
    of_timm = naming in ('timm', 'open_clip')
    later = patch_px == 32 or width == 1536 or (width, patch_px) == (1152, 16)
    return 'gelu' if of_timm and not later and (width, grid) != (1024, 32) else 'gelu_tanh'


class Embed(nn.Module):
    """The patches of an image, with position embeddings."""

    width: int
    patch_px: int
    dropout: float
    position_resizing: PositionResizing
    position_prefix: int = 0  # there is no class token

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H // patch, W // patch, width].

        Raises:
            InputError: the images are smaller than a patch.
        """
        if min(x.shape[1:3]) < self.patch_px:
            raise InputError(
                f'images are {x.shape[1]} x {x.shape[2]} px, wanted {self.patch_px} px or more'
            )
        patch = (self.patch_px, self.patch_px)
        x = nn.Conv(self.width, patch, patch, padding='VALID', name='patch')(x)
        initial = nn.initializers.normal(self.width**-0.5)
        shape = (1, x.shape[1] * x.shape[2], self.width)
        positions = self.param('position_embedding', initial, shape)
        x = x + positions.reshape(1, *x.shape[1:])
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)
