"""The image towers of CLIP (Radford et al. 2021): ViT with a layer norm before the first block.

The final layer norm belongs to the last block's stage, whose first token is what is usually
transferred. CLIP's projection into the space that images share with texts has no stage: it is the
head of its files, so that a new head replaces it and `head='pretrained'` keeps it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax import tree
from tljax.models import layers, transformer
from tljax.models.backbones import clip_tables
from tljax.models.layers import Pooling
from tljax.models.port_rules import PortRule
from tljax.models.positions import PositionResizing
from tljax.types import InputError, Interpolation, MisfitError, Preprocessing

# Source: CLIP/clip/clip.py of github.com/openai/CLIP.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
# Attention head width by model width, where it is not 64: open_clip's H, g and bigG.
HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}
# What OpenAI's files have; a file under timm's names says in its configuration if it has it.
ACTIVATIONS = {'openai': 'quick_gelu', 'transformers': 'quick_gelu'}
PROJECTION = 'params/head/projection/kernel'


@dataclasses.dataclass(slots=True, kw_only=True)
class CLIP:
    """Stages `embed, block1 ... blockN`, of class token and patches [B, 1 + patches, width].

    Published sizes, as width and depth: B 768, 12 (the default); L 1024, 24; H 1280, 32; g 1408,
    40; bigG 1664, 48.

    Attributes:
        width: of a token.
        depth: the number of blocks.
        patch_px: the side of a patch.
        size_px: the image size of the position embeddings; they are resized, as
            `position_resizing` says, if the model reads another size.
        head_width: of an attention head.
        mlp_ratio: the width of the hidden layer of an MLP, divided by `width`.
        epsilon: of the layer norms.
        activation: `quick_gelu` for OpenAI's weights, `gelu` for most of open_clip's.
        dropout: the rate after linear layers and the positions.
        drop_path: the rate of stochastic depth in the last block.
        final_norm: whether the last block ends with a layer norm. False is the network of
            transformers' `CLIPForImageClassification`, whose head reads the mean of the patches.
        projection: the width of CLIP's embeddings, which the head of a file computes. A head with
            another number of outputs is a classifier with a bias; None if all are.
        position_resizing: antialiased as in open_clip and timm; `PLAIN` in transformers.
        weights: pretrained weights (see the folder `weights`); None for random ones.
    """

    width: int = 768
    depth: int = 12
    patch_px: int = 32
    size_px: int = 224
    head_width: int = 64
    mlp_ratio: float = 4.0
    epsilon: float = 1e-5
    activation: str = 'quick_gelu'
    dropout: float = 0.0
    drop_path: float = 0.0
    final_norm: bool = True
    projection: int | None = None
    position_resizing: PositionResizing = PositionResizing.ANTIALIASED
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = transformer.problems(self)
        if self.projection is not None and self.projection < 1:
            problems.append(f'projection is {self.projection}, wanted more than 0 or None')
        if self.projection is not None and not self.final_norm:
            problems.append('projection is set, but it reads the final norm, which is off')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {
            'embed': Embed(
                self.width, self.patch_px, self.epsilon, self.dropout, self.position_resizing
            )
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
                last=self.final_norm and index == self.depth,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """CLIP's projection if it has as many outputs, else a linear layer."""
        if num_classes == self.projection:
            return layers.ProjectionHead(num_classes)
        pooling = Pooling.AVERAGE if self.final_norm else Pooling.MEAN
        return layers.ClassifierHead(num_classes, pooling=pooling)

    def preprocessing(self) -> Preprocessing:
        """OpenAI's mean and standard deviation; the short side is resized to `size_px`."""
        return Preprocessing(
            size_px=self.size_px,
            resize_px=self.size_px,
            interpolation=Interpolation.BICUBIC,
            mean=MEAN,
            std=STD,
        )

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of OpenAI (and open_clip), transformers, timm, and open_clip's timm towers."""
        return clip_tables.tables(self.depth, self.final_norm, self.projection is not None)

    @classmethod
    def variants(cls) -> Sequence['CLIP']:
        """Two: transformers' classifier does not use the last norm of its file."""
        return (cls(projection=512), cls(final_norm=False))

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'CLIP | None':
        """Width and patch from the patch embedding, the other sizes from the first block."""
        patch = shapes.get('params/embed/patch/kernel', ())
        positions = shapes.get('params/embed/position_embedding', ())
        mlp = shapes.get('params/block1/fc1/kernel', ())
        depth = sum(tree.matches('params/*/norm2/scale', path) for path in shapes)
        if len(patch) != 4 or len(positions) != 3 or len(mlp) != 2 or not depth:
            return None
        if 'params/embed/norm/scale' not in shapes:
            return None
        grid = math.isqrt(max(positions[1] - 1, 0))
        if grid**2 != positions[1] - 1:
            count = positions[1] - 1
            raise MisfitError(f'it has {count} patch positions, wanted a square number')
        of_transformers = naming == 'transformers'
        return CLIP(
            width=patch[3],
            depth=depth,
            patch_px=patch[0],
            size_px=grid * patch[0],
            head_width=transformer.fitted_head_width(
                patch[3], HEAD_WIDTHS.get(patch[3], 64), 'CLIP'
            ),
            mlp_ratio=mlp[1] / patch[3],
            activation=ACTIVATIONS.get(naming, 'gelu'),
            final_norm=self.final_norm,
            projection=shapes[PROJECTION][1] if PROJECTION in shapes else None,
            position_resizing=PositionResizing.PLAIN
            if of_transformers
            else PositionResizing.ANTIALIASED,
        )


class Embed(nn.Module):
    """A class token and the patches as tokens, with position embeddings, and a layer norm."""

    width: int
    patch_px: int
    epsilon: float
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
        x = nn.Conv(self.width, patch, patch, padding='VALID', use_bias=False, name='patch')(x)
        x = x.reshape(x.shape[0], -1, self.width)
        initial = nn.initializers.normal(self.width**-0.5)
        token = self.param('class_token', initial, (1, 1, self.width)).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.width)), x], 1)
        x = x + self.param('position_embedding', initial, (1, *x.shape[1:]))
        x = nn.Dropout(self.dropout)(x, deterministic=deterministic)
        return layers.layer_norm(self.epsilon, 'norm')(x)
