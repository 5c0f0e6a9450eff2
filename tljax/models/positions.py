"""Position embeddings resized to another grid of patches, as the original implementations do it."""

import enum
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.types import InputError

TORCH_A = -0.75  # of the cubic kernel of torch's `interpolate` without antialiasing
OFFSET = 0.1  # added to the new number of patches by DINOv2, models/vision_transformer.py


class PositionResizing(enum.Enum):
    """How an implementation resizes position embeddings.

    `ANTIALIASED`: timm's `resample_abs_pos_embed`: cubic with antialiasing. `PLAIN`: torch's
    bicubic `interpolate`, as in transformers. `OFFSET`: the same, by the ratio of (new + 0.1) to
    old patches, as in Meta's DINOv2.
    """

    ANTIALIASED = 'antialiased'
    PLAIN = 'plain'
    OFFSET = 'offset'


def resize(
    embedding: np.ndarray,
    tokens: int,
    *,
    prefix: int = 1,
    resizing: PositionResizing = PositionResizing.ANTIALIASED,
) -> np.ndarray:
    """Position embeddings for another number of patches.

    Args:
        embedding: [1, prefix + g^2, F].
        tokens: prefix + the new number of patches.
        prefix: the embeddings before those of the patches, which stay: of the class token.
        resizing: the implementation to follow.

    Returns:
        [1, tokens, F].

    Raises:
        InputError: a number of patches is not a square number.
    """
    before, after = (math.isqrt(n - prefix) for n in (embedding.shape[1], tokens))
    if before**2 + prefix != embedding.shape[1] or after**2 + prefix != tokens:
        raise InputError(
            f'{embedding.shape[1] - prefix} and {tokens - prefix} patches, wanted squares'
        )
    width = embedding.shape[2]
    grid = embedding[0, prefix:].reshape(before, before, width)
    if resizing is PositionResizing.ANTIALIASED:
        shape = (after, after, width)
        resized: Any = jax.image.resize(jnp.asarray(grid), shape, 'cubic', antialias=True)
    else:
        step = before / (after + OFFSET) if resizing is PositionResizing.OFFSET else before / after
        matrix = _cubic(before, after, step)
        resized = np.einsum('ih,hwf,jw->ijf', matrix, grid, matrix)
    patches = np.asarray(resized, embedding.dtype).reshape(1, -1, width)
    return np.concatenate([embedding[:, :prefix], patches], 1)


def _cubic(before: int, after: int, step: float) -> np.ndarray:
    """The [after, before] matrix of torch's cubic interpolation, whose edges are repeated.

    Source: Keys 1981, "Cubic convolution interpolation"; torch's `upsample_bicubic2d`.
    """
    matrix = np.zeros((after, before))
    for i in range(after):
        place = (i + 0.5) * step - 0.5
        first = math.floor(place) - 1
        for j in range(first, first + 4):
            matrix[i, min(max(j, 0), before - 1)] += _keys(abs(place - j))
    return matrix


def _keys(x: float) -> float:
    if x <= 1:
        return (TORCH_A + 2) * x**3 - (TORCH_A + 3) * x**2 + 1
    return TORCH_A * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0
