"""The block of a Swin Transformer: attention in windows and an MLP, of V1 and V2."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tljax.models import layers, windows

EPSILON = 1e-5
MLP_RATIO = 4
# Of V2: the hidden layer and the range of the position bias, the initial and the largest scale.
BIAS_WIDTH = 512
LARGEST_BIAS = 16
INITIAL_SCALE, LARGEST_SCALE = 10, 100
LEAST_NORM = 1e-12  # torch.nn.functional.normalize


class SwinBlock(nn.Module):
    """Attention in windows and an MLP, each with a layer norm before (V1) or after it (V2)."""

    version: int
    width: int
    heads: int
    window: int
    pretrained_window: int
    shifted: bool
    drop_path: float

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        """[B, H, W, width] to the same."""
        path = layers.drop_path(self.drop_path, deterministic)
        norm1, norm2 = (layers.layer_norm(EPSILON, name) for name in ('norm1', 'norm2'))
        if self.version == 1:
            x = layers.stored(x + path(self._attention(norm1(x))))
            return layers.stored(x + path(self._mlp(norm2(x))))
        x = layers.stored(x + path(norm1(self._attention(x))))
        return layers.stored(x + path(norm2(self._mlp(x))))

    def _mlp(self, x: jax.Array) -> jax.Array:
        x = nn.gelu(layers.dense(MLP_RATIO * self.width, 'fc1')(x), approximate=False)
        return layers.dense(self.width, 'fc2')(x)

    def _attention(self, x: jax.Array) -> jax.Array:
        """Padded, rolled if `shifted`, split into windows; and back."""
        height, width = x.shape[1:3]
        x = windows.padded(x, self.window)
        rows, columns = x.shape[1:3]
        shift = windows.shifts(rows, columns, self.window) if self.shifted else (0, 0)
        tokens = windows.split(jnp.roll(x, (-shift[0], -shift[1]), (1, 2)), self.window)
        mask = windows.mask(rows, columns, self.window, shift) if any(shift) else None
        y = windows.joined(self._attended(tokens, mask), self.window, rows, columns)
        return jnp.roll(y, shift, (1, 2))[:, :height, :width]

    def _attended(self, x: jax.Array, mask: np.ndarray | None) -> jax.Array:
        """Attention among the tokens of each window [B, windows, T, width].

        Logits and softmax are in float32 or wider.
        """
        q, k, v = jnp.split(self._qkv(x).reshape(*x.shape[:3], 3 * self.heads, -1), 3, axis=3)
        exact = jnp.promote_types(x.dtype, jnp.float32)
        q, k = q.astype(exact), k.astype(exact)
        if self.version == 1:
            q = q / math.sqrt(q.shape[-1])
        else:
            q, k = self._scale(exact) * _unit(q), _unit(k)
        logits = jnp.einsum('bwqhc,bwkhc->bwhqk', q, k) + self._bias(exact)
        if mask is not None:
            logits = logits + jnp.asarray(mask, exact)[None, :, None]
        weights = jax.nn.softmax(logits, -1).astype(x.dtype)
        y = jnp.einsum('bwhqk,bwkhc->bwqhc', weights, v).reshape(x.shape)
        return layers.dense(self.width, 'out')(y)

    def _qkv(self, x: jax.Array) -> jax.Array:
        """[B, windows, T, 3 width]; the bias of keys has no effect in V2, as in torchvision."""
        if self.version == 1:
            return layers.dense(3 * self.width, 'qkv')(x)
        return NoKeyBias(self.width, name='qkv')(x)

    def _scale(self, dtype: jnp.dtype) -> jax.Array:
        """V2's factor of the cosines of each head, a parameter in logarithms."""
        initial = nn.initializers.constant(math.log(INITIAL_SCALE))
        scale = self.param('logit_scale', initial, (self.heads, 1, 1)).astype(dtype)
        return jnp.exp(jnp.minimum(scale, math.log(LARGEST_SCALE))).reshape(1, 1, 1, -1, 1)

    def _bias(self, dtype: jnp.dtype) -> jax.Array:
        """The bias of each head for each pair of positions [1, 1, heads, T, T]."""
        index = windows.relative_index(self.window)
        if self.version == 1:
            shape = ((2 * self.window - 1) ** 2, self.heads)
            table = self.param('position_bias', nn.initializers.truncated_normal(0.02), shape)
            table = table.astype(dtype)
        else:
            table = LARGEST_BIAS * nn.sigmoid(self._continuous_bias(dtype))
        return table[index.reshape(-1)].reshape(*index.shape, -1).transpose(2, 0, 1)[None, None]

    def _continuous_bias(self, dtype: jnp.dtype) -> jax.Array:
        """V2's table [(2 window - 1)^2, heads], which an MLP computes from coordinates."""
        steps = windows.relative_coordinates(self.window, self.pretrained_window)
        x = layers.dense(BIAS_WIDTH, 'bias_fc1')(jnp.asarray(steps.reshape(-1, 2), dtype))
        initial = nn.initializers.truncated_normal(0.02)
        fc2 = nn.Dense(self.heads, use_bias=False, kernel_init=initial, name='bias_fc2')
        return fc2(nn.relu(x))


class NoKeyBias(nn.Module):
    """A linear layer for queries, keys and values, without the keys' part of its bias."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., width] to [..., 3 width]."""
        initial = nn.initializers.truncated_normal(0.02)
        kernel = self.param('kernel', initial, (x.shape[-1], 3 * self.width))
        bias = self.param('bias', nn.initializers.zeros, (3 * self.width,))
        used = np.repeat([1, 0, 1], self.width)
        bias = jnp.where(used, bias, 0).astype(x.dtype)
        return x @ kernel.astype(x.dtype) + bias.reshape(*(1,) * (x.ndim - 1), -1)


def _unit(x: jax.Array) -> jax.Array:
    """Vectors along the last axis divided by their norms; zero stays zero."""
    square = jnp.square(x).sum(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, LEAST_NORM**2))
