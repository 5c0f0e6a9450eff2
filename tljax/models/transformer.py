"""The block of vision transformers, with the variants that published families have."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax.models import layers

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'gelu': functools.partial(nn.gelu, approximate=False),
    'gelu_tanh': functools.partial(nn.gelu, approximate=True),
    'quick_gelu': lambda x: x * nn.sigmoid(1.702 * x),  # CLIP's
    'relu': nn.relu,
    'silu': nn.silu,
}

Rotate = Callable[[jax.Array], jax.Array]


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

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        deterministic: bool,
        use_running_average: bool,
        rotate: Rotate | None = None,
    ) -> jax.Array:
        """[B, T, width] to [B, T, width], T tokens.

        `rotate` changes queries and keys [B, T, heads, head_width] (rotary positions).
        """
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        path = layers.drop_path(self.drop_path, deterministic)
        y = layers.layer_norm(self.epsilon, 'norm1')(x)
        qkv = layers.dense(3 * self.width, 'qkv')(y)
        q, k, v = jnp.split(qkv.reshape(*qkv.shape[:2], -1, self.head_width), 3, axis=2)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        y = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
        y = drop(layers.dense(self.width, 'out')(y))
        x = x + path(self._scaled(y, 'scale1'))
        y = layers.layer_norm(self.epsilon, 'norm2')(x)
        y = layers.dense((1 + self.gated) * self.inner, 'fc1')(y)
        y = drop(self._activated(y))
        y = drop(layers.dense(self.width, 'fc2')(y))
        x = x + path(self._scaled(y, 'scale2'))
        return layers.layer_norm(self.epsilon, 'norm')(x) if self.last else x

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
