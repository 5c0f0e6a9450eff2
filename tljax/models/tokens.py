"""Images as tokens of a vision transformer: patches, class tokens, registers and positions."""

import enum
import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax.models import layers
from tljax.models.positions import PositionResizing
from tljax.types import InputError, MisfitError

POSITIONS = 'params/embed/position_embedding'


class TokenPooling(enum.Enum):
    """What a head reads of the tokens: the class token or the mean of the patches."""

    TOKEN = 'token'
    MEAN = 'mean'


class Embed(nn.Module):
    """The patches as tokens, after special tokens, with position embeddings.

    Attributes:
        width: of a token.
        patch_px: the side of a patch.
        dropout: the rate, after the positions are added.
        position_resizing: how the positions are resized for other images (`weights.adapt`).
        position_prefix: the number of special tokens that have a position.
        class_token: whether the first token is a class token.
        distillation_token: whether a second token follows it (Touvron et al. 2021, DeiT).
        registers: the number of register tokens before the patches (Darcet et al. 2023, "Vision
            transformers need registers").
        positions: whether there are position embeddings; without, blocks rotate their queries.
    """

    width: int
    patch_px: int
    dropout: float = 0.0
    position_resizing: PositionResizing = PositionResizing.ANTIALIASED
    position_prefix: int = 1
    class_token: bool = True
    distillation_token: bool = False
    registers: int = 0
    positions: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, special tokens + (H / patch) (W / patch), width].

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
        special = self._special(x)
        with_position, without = special[: self.position_prefix], special[self.position_prefix :]
        if self.positions:
            x = jnp.concatenate([*with_position, x], 1)
            shape = (1, *x.shape[1:])
            x = x + self.param('position_embedding', nn.initializers.normal(0.02), shape)
        if without:
            first = len(with_position) if self.positions else 0
            x = jnp.concatenate([x[:, :first], *without, x[:, first:]], 1)
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)

    def _special(self, x: jax.Array) -> list[jax.Array]:
        """The special tokens [B, n, width], in their order."""
        numbers = {
            'class_token': int(self.class_token),
            'distillation_token': int(self.distillation_token),
            'registers': self.registers,
        }
        tokens = []
        for name, number in numbers.items():
            if number:
                initial = nn.initializers.normal(1e-6 if name == 'registers' else 0.0)
                token = self.param(name, initial, (1, number, self.width)).astype(x.dtype)
                tokens.append(jnp.broadcast_to(token, (x.shape[0], number, self.width)))
        return tokens


class MeanPool(nn.Module):
    """The mean of the patches and the final layer norm, in either order.

    Attributes:
        special: the number of tokens before the patches.
        epsilon: of the layer norm.
        norm_after: whether the norm follows the mean.
    """

    special: int
    epsilon: float
    norm_after: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T, width] to [B, width]."""
        norm, x = layers.layer_norm(self.epsilon, 'norm'), x[:, self.special :]
        return norm(x.mean(1)) if self.norm_after else norm(x).mean(1)


class DistillationHead(nn.Module):
    """The mean of two linear layers: of the class token and of the distillation token.

    Source: Touvron et al. 2021, "Training data-efficient image transformers & distillation through
    attention", section 4.
    """

    num_classes: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T, width] to [B, K] logits."""
        zeros = nn.initializers.zeros
        first, second = (
            nn.Dense(self.num_classes, kernel_init=zeros, name=name)(x[:, index])
            for index, name in enumerate(('linear', 'distilled'))
        )
        return (first + second) / 2


def grid_of(shapes: Mapping[str, tuple[int, ...]], specials: int) -> tuple[int, int]:
    """The side of the grid of position embeddings, and the number of special tokens with one.

    Args:
        shapes: `{path: shape}` of a network's leaves.
        specials: the number of special tokens that can have a position: all of them have, or none.

    Raises:
        MisfitError: the patches' positions are not a square number.
    """
    count = shapes[POSITIONS][1]
    for prefix in (specials, 0):
        side = math.isqrt(max(count - prefix, 0))
        if side and side**2 == count - prefix:
            return side, prefix
    raise MisfitError(f'it has {count - specials} patch positions, wanted a square number')
