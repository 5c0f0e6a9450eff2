"""The block of vision transformers, with the variants that published families have."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax.models import layers
from tljax.types import MisfitError

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'gelu': functools.partial(nn.gelu, approximate=False),
    'gelu_tanh': functools.partial(nn.gelu, approximate=True),
    'quick_gelu': lambda x: x * nn.sigmoid(1.702 * x),  # CLIP's
    'relu': nn.relu,
    'silu': nn.silu,
}

Rotate = Callable[[jax.Array], jax.Array]

POSITIVE = ('width', 'depth', 'patch_px', 'size_px', 'head_width', 'mlp_ratio', 'epsilon')


def problems(backbone: Any) -> list[str]:
    """Messages for `validate` on the fields that vision transformers share."""
    result = [
        f'{name} is {getattr(backbone, name)}, wanted more than 0'
        for name in POSITIVE
        if getattr(backbone, name) <= 0
    ]
    if backbone.head_width > 0 and backbone.width % backbone.head_width:
        result.append(f'width is {backbone.width}, wanted a multiple of {backbone.head_width}')
    if backbone.patch_px > 0 and backbone.size_px % backbone.patch_px:
        result.append(f'size_px is {backbone.size_px}, wanted a multiple of {backbone.patch_px}')
    if backbone.activation not in ACTIVATIONS:
        result.append(f'activation is {backbone.activation!r}, wanted one of {list(ACTIVATIONS)}')
    return result + [
        f'{name} is {getattr(backbone, name)}, wanted 0 <= x < 1'
        for name in ('dropout', 'drop_path')
        if not 0 <= getattr(backbone, name) < 1
    ]


def fitted_head_width(width: int, usual: int, network: str) -> int:
    """The width of an attention head, which entries do not show: `usual` if it divides `width`.

    Args:
        width: of a token.
        usual: the family's width of a head.
        network: the class to name in the message.

    Raises:
        MisfitError: it does not divide it.
    """
    if width % usual:
        raise MisfitError(
            f'its width {width} is not a multiple of {usual}: name the backbone, as in '
            f'{network}(width={width}, head_width=...)'
        )
    return usual


class MaskedKeyBias(nn.Module):
    """A linear layer for queries, keys and values that ignores the keys' part of its bias.

    Source: `LinearKMaskedBias`, dinov3/layers/attention.py of github.com/facebookresearch/dinov3.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., F] to [..., features]."""
        shape = (x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.truncated_normal(0.02), shape)
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        q, _, v = jnp.split(bias, 3)
        bias = jnp.concatenate([q, jnp.zeros_like(q), v]).astype(x.dtype)
        return x @ kernel.astype(x.dtype) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class Block(nn.Module):
    """Self-attention and an MLP, each after a layer norm; the last block ends with another norm.

    Attributes:
        width: of a token.
        head_width: of an attention head.
        inner: the width of the hidden layer of the MLP.
        epsilon: of the layer norms.
        activation: a key of `ACTIVATIONS`.
        dropout: the rate after both linear layers and the attention.
        drop_path: the rate at which an example skips a branch.
        last: whether the final layer norm of the network follows.
        layer_scale: the initial scale of each branch, a parameter per channel (Touvron et al. 2021,
            "Going deeper with image transformers"); None for branches without a scale.
        gated: whether the MLP is a SwiGLU (Shazeer 2020): the activation of the first half of `fc1`
            times its second half.
        rotate: changes queries and keys [B, T, heads, head_width], as `rotary.Rotary`; None for no
            change.
        qkv_bias: whether queries, keys and values have a bias.
        key_bias: whether the keys' part of that bias is used.
        registers: the number of tokens after the first that the last block removes at its end.
    """

    width: int
    head_width: int
    inner: int
    epsilon: float
    activation: str = 'gelu'
    dropout: float = 0.0
    drop_path: float = 0.0
    last: bool = False
    layer_scale: float | None = None
    gated: bool = False
    rotate: Rotate | None = None
    qkv_bias: bool = True
    key_bias: bool = True
    registers: int = 0

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T, width] to [B, T, width], T tokens; [B, T - registers, width] if it is the last.

        Maps [B, H, W, width], which networks without a class token have, to maps.
        """
        shape, x = x.shape, x.reshape(x.shape[0], -1, self.width)
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        path = layers.drop_path(self.drop_path, deterministic)
        y = layers.layer_norm(self.epsilon, 'norm1')(x)
        qkv = self._qkv(y)
        q, k, v = jnp.split(qkv.reshape(*qkv.shape[:2], -1, self.head_width), 3, axis=2)
        if self.rotate is not None:
            q, k = self.rotate(q), self.rotate(k)
        y = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
        y = drop(layers.dense(self.width, 'out')(y))
        x = layers.stored(x + path(self._scaled(y, 'scale1')))
        y = layers.layer_norm(self.epsilon, 'norm2')(x)
        y = layers.dense((1 + self.gated) * self.inner, 'fc1')(y)
        y = drop(self._activated(y))
        y = drop(layers.dense(self.width, 'fc2')(y))
        x = layers.stored(x + path(self._scaled(y, 'scale2')))
        if not self.last:
            return x.reshape(shape)
        if self.registers:
            x = jnp.concatenate([x[:, :1], x[:, 1 + self.registers :]], 1)
            shape = x.shape
        return layers.layer_norm(self.epsilon, 'norm')(x).reshape(shape)

    def _qkv(self, y: jax.Array) -> jax.Array:
        """Queries, keys and values [B, T, 3 width]."""
        features = 3 * self.width
        if self.key_bias or not self.qkv_bias:
            return layers.dense(features, 'qkv', use_bias=self.qkv_bias)(y)
        return MaskedKeyBias(features, name='qkv')(y)

    def _activated(self, y: jax.Array) -> jax.Array:
        activation = ACTIVATIONS[self.activation]
        if not self.gated:
            return activation(y)
        gate, value = jnp.split(y, 2, axis=-1)
        return activation(gate) * value

    def _scaled(self, y: jax.Array, name: str) -> jax.Array:
        if self.layer_scale is None:
            return y
        initial = nn.initializers.constant(self.layer_scale)
        return y * self.param(name, initial, (self.width,)).astype(y.dtype).reshape(1, 1, -1)


class AttentionPool(nn.Module):
    """Attention pooling: a learned query attends to all tokens, and an MLP follows.

    A stage of its own in a network that was trained with it. It fits any vision transformer.

    Source: Lee et al. 2019, "Set transformer"; Zhai et al. 2022, "Scaling vision transformers"
    (MAPHead in big_vision, `AttentionPoolLatent` in timm).

    Attributes:
        width: of a token.
        head_width: of an attention head.
        inner: the width of the hidden layer of the MLP.
        epsilon: of the layer norm.
        activation: a key of `ACTIVATIONS`.
        dropout: the rate after both linear layers and the attention.
    """

    width: int
    head_width: int
    inner: int
    epsilon: float
    activation: str = 'gelu'
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T, width] or maps [B, H, W, width] to [B, width]."""
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        x = x.reshape(x.shape[0], -1, self.width)
        initial = nn.initializers.truncated_normal(self.width**-0.5)
        probe = self.param('probe', initial, (1, 1, self.width)).astype(x.dtype)
        probe = jnp.broadcast_to(probe, (x.shape[0], 1, self.width))
        qkv = layers.dense(3 * self.width, 'qkv')(jnp.concatenate([probe, x], 1))
        q, k, v = jnp.split(qkv.reshape(*qkv.shape[:2], -1, self.head_width), 3, axis=2)
        y = jax.nn.dot_product_attention(q[:, :1], k[:, 1:], v[:, 1:])
        x = drop(layers.dense(self.width, 'out')(y.reshape(-1, self.width)))
        y = layers.layer_norm(self.epsilon, 'norm')(x)
        y = drop(ACTIVATIONS[self.activation](layers.dense(self.inner, 'fc1')(y)))
        return x + drop(layers.dense(self.width, 'fc2')(y))
