"""Rotary positions of patches in the plane, as in DINOv3."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from tljax.types import InputError


@dataclasses.dataclass(frozen=True)
class Rotary:
    """Rotates queries or keys of patches by angles in proportion to row and column.

    The first half of a head's pairs is rotated by the row, the second half by the column. Both
    coordinates are in [-1, 1], so that the angles do not depend on the size of the image.

    Attributes:
        special: the number of tokens before the patches, which are not rotated.
        base: the ratio of the longest period to the shortest.

    Source: Su et al. 2021, "RoFormer"; Simeoni et al. 2025, "DINOv3": `RopePositionEmbedding` with
    separately normalised coordinates.
    """

    special: int
    base: float = 100.0

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, heads, head_width] to the same, in float32 or wider before the result is rounded.

        Raises:
            InputError: the patches are not a square.
        """
        patches = x.shape[1] - self.special
        side = math.isqrt(patches)
        if side**2 != patches:
            raise InputError(f'{patches} patches, wanted those of a square image')
        angles = self._angles(side, x.shape[-1])
        exact = jnp.promote_types(x.dtype, jnp.float32)
        cosine, sine = (jnp.asarray(f(angles), exact) for f in (np.cos, np.sin))
        rest = x[:, self.special :].astype(exact)
        first, second = jnp.split(rest, 2, axis=-1)
        rotated = rest * cosine + jnp.concatenate([-second, first], -1) * sine
        return jnp.concatenate([x[:, : self.special], rotated.astype(x.dtype)], 1)

    def _angles(self, side: int, head_width: int) -> np.ndarray:
        """[1, side^2, 1, head_width] float32."""
        count = head_width // 4
        one = np.float32(1)
        frequencies = one / np.float32(self.base) ** (np.arange(count, dtype=np.float32) / count)
        centres = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
        centres = np.float32(2) * centres - one
        rows, columns = np.meshgrid(centres, centres, indexing='ij')
        places = np.stack([rows.ravel(), columns.ravel()], -1)
        angles = np.float32(2 * math.pi) * places[:, :, None] * frequencies.astype(np.float32)
        return np.tile(angles.reshape(side**2, -1), 2).astype(np.float32)[None, :, None]
