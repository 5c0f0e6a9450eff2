"""The form of a corruption with five severities, and its application to a batch.

The severities of ImageNet-C are for images of 224 px. Lengths in pixels (radii, shifts, sizes of
snowflakes) are multiplied by `size_px / 224`, so that an object is corrupted equally at every
image size. Shares, zoom factors and levels of brightness do not depend on the size.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import compose

SEVERITIES = (1, 2, 3, 4, 5)
REFERENCE_PX = 224  # of ImageNet-C

Draws = dict[str, jax.Array]
Strength = dict[str, Any]  # NumPy arrays; equal shapes at all severities need one program only


def no_draws(key: jax.Array, size_px: int) -> Draws:
    """The draws of a deterministic corruption."""
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption:
    """A corruption of square images.

    Attributes:
        name: the name in ImageNet-C.
        group: noise, blur, weather or digital.
        strengths: `size_px -> five strengths`, from severity 1 to 5.
        change: `(image [S, S, 3] in [0, 1], draws, strength) -> image`; values outside of [0, 1]
            are clipped afterwards.
        draw: `(key, size_px) -> draws`, the random values of an image.
    """

    name: str
    group: str
    strengths: Callable[[int], list[Strength]]
    change: Callable[[jax.Array, Draws, Strength], jax.Array]
    draw: Callable[[jax.Array, int], Draws] = no_draws


def scale(size_px: int) -> float:
    """The factor of lengths in pixels."""
    return size_px / REFERENCE_PX


def by_severity(**values: Sequence[float]) -> list[Strength]:
    """Five strengths of scalars, from five values of each scalar."""
    rows = zip(*values.values(), strict=True)
    return [
        {name: np.float32(value) for name, value in zip(values, row, strict=True)} for row in rows
    ]


def uniform(key: jax.Array, **shapes: tuple[int, ...]) -> Draws:
    """Arrays of values uniform in [0, 1), by name; one draw, because a draw compiles slowly."""
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = jnp.split(jax.random.uniform(key, (int(ends[-1]),)), ends[:-1])
    return {
        name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def normal(values: jax.Array) -> jax.Array:
    """Maps values uniform in [0, 1) to values of the standard normal distribution."""
    # 0, and values that round to 1, would give infinity.
    return jax.scipy.special.ndtri(jnp.clip(values, 2.0**-24, 1 - 2.0**-24))


def key_of(corruption: Corruption, seed: int) -> jax.Array:
    """The key of a corruption; it does not depend on the other corruptions."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(corruption.name.encode()))


def corrupt(
    corruption: Corruption, images: jax.Array, ids: jax.Array, severity: int, seed: int = 0
) -> jax.Array:
    """Corrupts images.

    The random values of an image depend on the corruption, the severity, the seed and the id of the
    image, and not on the batch.

    Args:
        corruption: the corruption.
        images: [B, S, S, 3] uint8.
        ids: [B] int.
        severity: 1 to 5.
        seed: of all random values.

    Returns:
        [B, S, S, 3] uint8.
    """
    strength = _strengths(corruption, images.shape[1])[severity - 1]
    keys = (key_of(corruption, seed), jnp.uint32(severity), jnp.asarray(ids).astype(jnp.uint32))
    return _corrupted(corruption, images, strength, *keys)


@functools.lru_cache(maxsize=32)
def _strengths(corruption: Corruption, size_px: int) -> list[Strength]:
    return corruption.strengths(size_px)


@functools.partial(jax.jit, static_argnums=0)
def _corrupted(
    corruption: Corruption,
    images: jax.Array,
    strength: Strength,
    key: jax.Array,
    severity: jax.Array,
    ids: jax.Array,
) -> jax.Array:
    def one(image: jax.Array, key: jax.Array) -> jax.Array:
        draws = corruption.draw(key, image.shape[0])
        return corruption.change(image, draws, strength)

    keys = compose.example_keys(key, severity, ids)
    changed = jax.vmap(one)(images.astype(jnp.float32) / 255, keys)
    return jnp.round(255 * jnp.clip(changed, 0, 1)).astype(jnp.uint8)
