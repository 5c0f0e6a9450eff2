"""JPEG compression and decompression, without a file.

Source: ITU-T T.81 annexes A and K, and libjpeg's defaults: 4:2:0 chroma subsampling, tables scaled
by quality, triangular chroma upsampling.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from tljax.augment.corruptions.corruption import Corruption, Draws, Strength

BLOCK = 8
QUALITIES = (25, 18, 15, 10, 7)
# Tables K.1 and K.2 of T.81.
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMINANCE = np.full((BLOCK, BLOCK), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
DCT = np.asarray(scipy.fft.dct(np.eye(BLOCK), axis=0, norm='ortho'), np.float32)


def tables(quality: int) -> np.ndarray:
    """The quantisation tables [2, 8, 8] of luminance and chrominance at a quality below 50."""
    scaled = (np.stack([LUMINANCE, CHROMINANCE]) * (5000 // quality) + 50) // 100
    return np.clip(scaled, 1, 255).astype(np.float32)


def _compressed(channel: jax.Array, table: jax.Array) -> jax.Array:
    """Quantises a channel [h, w] in [0, 255] in blocks; h and w are multiples of 8."""
    height, width = channel.shape
    blocks = channel.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK) - 128
    with jax.default_matmul_precision('highest'):
        spectrum = jnp.einsum('ij,ajbk,lk->aibl', DCT, blocks, DCT)
        steps = table[None, :, None, :]
        spectrum = jnp.round(spectrum / steps) * steps
        blocks = jnp.einsum('ji,ajbk,kl->aibl', DCT, spectrum, DCT)
    return jnp.clip(jnp.round(blocks.reshape(height, width) + 128), 0, 255)


def _halved(channel: jax.Array) -> jax.Array:
    """Means of 2 × 2 pixels; as in libjpeg, halves round down and up in turn along a row."""
    height, width = channel.shape
    sums = channel.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
    bias = 1 + jnp.arange(width // 2) % 2
    return jnp.floor((sums + bias[None]) / 4)


def _doubled(channel: jax.Array) -> jax.Array:
    """[h, w] to [2h, 2w]: in each direction 3/4 of the nearest value plus 1/4 of the next one."""
    padded = jnp.pad(channel, 1, mode='edge')
    up, down = (3 * padded[1:-1] + padded[other] for other in (slice(None, -2), slice(2, None)))
    rows = jnp.stack([up, down], 1).reshape(-1, padded.shape[1])
    left = jnp.floor((3 * rows[:, 1:-1] + rows[:, :-2] + 8) / 16)
    right = jnp.floor((3 * rows[:, 1:-1] + rows[:, 2:] + 7) / 16)
    return jnp.stack([left, right], 2).reshape(len(rows), -1)


def _jpeg(image: jax.Array, draws: Draws, strength: Strength) -> jax.Array:
    size = len(image)
    red, green, blue = jnp.moveaxis(jnp.round(255 * image), -1, 0)
    channels = (
        0.299 * red + 0.587 * green + 0.114 * blue,
        0.5 * blue - 0.168736 * red - 0.331264 * green + 128,
        0.5 * red - 0.418688 * green - 0.081312 * blue + 128,
    )
    pad = (0, -size % 16)
    ycc = [jnp.pad(jnp.round(channel), (pad, pad), mode='edge') for channel in channels]
    luminance, chrominance = jnp.asarray(strength['tables'])
    y = _compressed(ycc[0], luminance)[:size, :size]
    half = -(-size // 2)
    blue, red = (
        _doubled(_compressed(_halved(one), chrominance)[:half, :half])[:size, :size] - 128
        for one in ycc[1:]
    )
    rgb = (y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue)
    return jnp.clip(jnp.round(jnp.stack(rgb, -1)), 0, 255) / 255


JPEG = Corruption(
    name='jpeg_compression',
    group='digital',
    strengths=lambda size_px: [{'tables': tables(quality)} for quality in QUALITIES],
    change=_jpeg,
)
