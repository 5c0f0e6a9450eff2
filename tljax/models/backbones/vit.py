"""Vision Transformer (Dosovitskiy et al. 2020) with a class token, as in torchvision and timm.

The final layer norm belongs to the last block's stage, so that the stage's output is what the
literature calls the network's features, and the head is a linear layer alone.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax import tree
from tljax.models import layers, transformer
from tljax.models.backbones import vit_tables
from tljax.models.port_rules import PortRule
from tljax.models.positions import PositionResizing
from tljax.types import InputError, MisfitError, Preprocessing

HEAD_WIDTHS = {1280: 80}  # attention head width by model width, where it is not 64
POSITIVE = ('width', 'depth', 'patch_px', 'size_px', 'head_width', 'mlp_ratio', 'epsilon')
# Epsilon of layer norms; torchvision and timm use 1e-6.
EPSILON = {'transformers': 1e-12, 'transformers4': 1e-12}
RESIZING = {'transformers': PositionResizing.PLAIN, 'transformers4': PositionResizing.PLAIN}


@dataclasses.dataclass(slots=True, kw_only=True)
class ViT:
    """Stages `embed, block1 ... blockN`, of class token and patches [B, 1 + patches, width].

    Published sizes, as width and depth: Ti 192, 12; S 384, 12; B 768, 12 (the default); L 1024,
    24; H 1280, 32, whose attention heads are 80 wide instead of 64. `size_px` is the image size of
    the position embeddings; they are resized, as `position_resizing` says, if the model reads
    another size. `drop_path` is the rate of stochastic depth in the last block. `weights` names
    pretrained weights (see the folder `weights`), None for random ones.
    """

    width: int = 768
    depth: int = 12
    patch_px: int = 16
    size_px: int = 224
    head_width: int = 64
    mlp_ratio: float = 4.0
    epsilon: float = 1e-6
    activation: str = 'gelu'
    dropout: float = 0.0
    drop_path: float = 0.0
    position_resizing: PositionResizing = PositionResizing.ANTIALIASED
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = [
            f'{name} is {getattr(self, name)}, wanted more than 0'
            for name in POSITIVE
            if getattr(self, name) <= 0
        ]
        if self.head_width > 0 and self.width % self.head_width:
            problems.append(f'width is {self.width}, wanted a multiple of {self.head_width}')
        if self.patch_px > 0 and self.size_px % self.patch_px:
            problems.append(f'size_px is {self.size_px}, wanted a multiple of {self.patch_px}')
        if self.activation not in transformer.ACTIVATIONS:
            problems.append(
                f'activation is {self.activation!r}, wanted one of {list(transformer.ACTIVATIONS)}'
            )
        problems += [
            f'{name} is {getattr(self, name)}, wanted 0 <= x < 1'
            for name in ('dropout', 'drop_path')
            if not 0 <= getattr(self, name) < 1
        ]
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {
            'embed': Embed(self.width, self.patch_px, self.dropout, self.position_resizing)
        }
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
                last=index == self.depth,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A linear layer on the class token."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """ImageNet's mean and standard deviation; 224 px from 256, other sizes without resizing.

        The ImageNet-21k weights of Google and timm ("augreg") need mean and standard deviation
        0.5, which their hub repositories state and a bare file does not.
        """
        resize_px = 256 if self.size_px == 224 else self.size_px
        return Preprocessing(size_px=self.size_px, resize_px=resize_px)

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision, timm, transformers (two releases) and Google's `.npz` files."""
        return vit_tables.tables(self.depth, self.head_width)

    @classmethod
    def variants(cls) -> Sequence['ViT']:
        """One: of the tables only the last norm's path depends on the depth."""
        return (cls(),)

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'ViT | None':
        """Width and patch from the patch embedding, depth from the blocks, size from positions."""
        patch = shapes.get('params/embed/patch/kernel', ())
        depth = sum(tree.matches('params/*/qkv/kernel', path) for path in shapes)
        positions = shapes.get('params/embed/position_embedding', ())
        mlp = shapes.get('params/block1/fc1/kernel', ())
        if len(patch) != 4 or len(positions) != 3 or len(mlp) != 2 or not depth:
            return None
        grid = math.isqrt(positions[1] - 1)
        head_width = HEAD_WIDTHS.get(patch[3], 64)
        if grid**2 != positions[1] - 1:
            count = positions[1] - 1
            raise MisfitError(f'it has {count} patch positions, wanted a square number')
        if patch[3] % head_width:
            raise MisfitError(
                f'its width {patch[3]} is not a multiple of {head_width}: name the backbone, as in '
                f'ViT(width={patch[3]}, head_width=...)'
            )
        return ViT(
            width=patch[3],
            depth=depth,
            patch_px=patch[0],
            size_px=grid * patch[0],
            head_width=head_width,
            mlp_ratio=mlp[1] / patch[3],
            epsilon=EPSILON.get(naming, 1e-6),
            position_resizing=RESIZING.get(naming, PositionResizing.ANTIALIASED),
        )


class Embed(nn.Module):
    """A class token and the patches as tokens, with position embeddings."""

    width: int
    patch_px: int
    dropout: float
    position_resizing: PositionResizing
    position_prefix: int = 1  # the position of the class token

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, 1 + (H / patch) (W / patch), width].

        Raises:
            InputError: the sides are not multiples of `patch_px`.
        """
        if x.shape[1] % self.patch_px or x.shape[2] % self.patch_px:
            raise InputError(
                f'images are {x.shape[1]} x {x.shape[2]} px, wanted multiples of {self.patch_px}'
            )
        patch = (self.patch_px, self.patch_px)
        x = nn.Conv(self.width, patch, patch, padding='VALID', name='patch')(x)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param('class_token', nn.initializers.zeros, (1, 1, self.width))
        token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
        x = jnp.concatenate([token, x], 1)
        shape = (1, *x.shape[1:])
        x = x + self.param('position_embedding', nn.initializers.normal(0.02), shape)
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)
