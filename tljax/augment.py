"""On-device augmentation: pure dataclasses, jitted into the train step.

Each is called with one key per example, so that an example's change depends on the seed, the
step and its id alone, whatever the number of hosts or threads.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tljax.types import Augmentation, InputError


def apply(
    augmentations: Sequence[Augmentation],
    keys: jax.Array,
    images: jax.Array,
    targets: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Applies augmentations in order, each with keys of its own.

    Args:
        augmentations: what to apply.
        keys: [B] keys.
        images: [B, H, W, 3] float32 in [0, 255].
        targets: [B, K] distributions.
    """
    for index, augmentation in enumerate(augmentations):
        own_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        images, targets = augmentation(own_keys, images, targets)
    return images, targets


@dataclasses.dataclass(slots=True, kw_only=True)
class HorizontalFlip:
    """Mirrors an image left to right."""

    probability: float = 0.5

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        fine = 0 <= self.probability <= 1
        return [] if fine else [f'probability is {self.probability}, wanted 0 <= x <= 1']

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`."""
        flip = jax.vmap(lambda k: jax.random.bernoulli(k, self.probability))(key)
        return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images), targets


@dataclasses.dataclass(slots=True, kw_only=True)
class RandomCrop:
    """Cuts a square at a random place, after padding the image on every side with its edge.

    `size_px` must not exceed the padded image. With `pad_px` it is the shift of He et al. 2015,
    section 4.2.
    """

    size_px: int
    pad_px: int = 0

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        found = []
        if self.size_px < 1:
            found.append(f'size_px is {self.size_px}, wanted more than 0')
        if self.pad_px < 0:
            found.append(f'pad_px is {self.pad_px}, wanted 0 or more')
        return found

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`."""
        pad = (self.pad_px, self.pad_px)
        images = jnp.pad(images, ((0, 0), pad, pad, (0, 0)), mode='edge')
        room = jnp.asarray([n - self.size_px for n in images.shape[1:3]])
        if min(n - self.size_px for n in images.shape[1:3]) < 0:
            raise InputError(
                f'RandomCrop: size_px is {self.size_px}, the padded images are '
                f'{images.shape[1]} x {images.shape[2]} px'
            )
        corners = jax.vmap(lambda k: jax.random.randint(k, (2,), 0, room + 1))(key)

        def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
            size = (self.size_px, self.size_px, image.shape[-1])
            return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), size)

        return jax.vmap(cut)(images, corners), targets


@dataclasses.dataclass(slots=True, kw_only=True)
class Affine:
    """Rotates, scales, shears and shifts an image at random, with one bilinear interpolation.

    What comes in from outside is the image's edge. Angles are drawn uniformly from
    [-rotate_degrees, rotate_degrees], likewise the shear, which is horizontal; the scale from
    [1 / scale_factor, scale_factor] on a logarithmic axis; the shift, along each axis, from
    [-shift_share, shift_share] of the image's side.
    """

    rotate_degrees: float = 0.0
    shear_degrees: float = 0.0
    scale_factor: float = 1.0
    shift_share: float = 0.0

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        found = [
            f'{name} is {getattr(self, name)}, wanted 0 or more'
            for name in ('rotate_degrees', 'shear_degrees', 'shift_share')
            if not getattr(self, name) >= 0
        ]
        if not self.scale_factor >= 1:
            found.append(f'scale_factor is {self.scale_factor}, wanted 1 or more')
        return found

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `types.Augmentation`."""
        return jax.vmap(self._warp)(key, images), targets

    def _warp(self, key: jax.Array, image: jax.Array) -> jax.Array:
        height, width = image.shape[:2]
        draw = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
        angle = jnp.deg2rad(self.rotate_degrees) * draw[0]
        shear = jnp.tan(jnp.deg2rad(self.shear_degrees) * draw[1])
        scale = jnp.exp(jnp.log(self.scale_factor) * draw[2])
        shift = (self.shift_share * draw[3:] * jnp.asarray([height, width])).reshape(1, 1, 2)
        rotation = jnp.asarray(
            [[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]
        )
        matrix = rotation @ jnp.asarray([[1.0, 0.0], [shear, 1.0]]) / scale
        centre = jnp.asarray([[[(height - 1) / 2, (width - 1) / 2]]])
        grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing='ij'), -1)
        where = (grid - centre) @ matrix.T + centre + shift
        return _bilinear(image, where)


def _bilinear(image: jax.Array, where: jax.Array) -> jax.Array:
    """[H, W, 3] read at `where` [h, w, 2] (row, column); outside is the edge."""
    last = jnp.asarray(image.shape[:2]).reshape(1, 1, 2) - 1
    where = jnp.clip(where, 0, last)
    low = jnp.minimum(jnp.floor(where).astype(jnp.int32), jnp.maximum(last - 1, 0))
    high = jnp.minimum(low + 1, last)
    (row_share, col_share) = jnp.moveaxis((where - low)[..., None], 2, 0)
    top = image[low[..., 0], low[..., 1]] * (1 - col_share)
    top += image[low[..., 0], high[..., 1]] * col_share
    bottom = image[high[..., 0], low[..., 1]] * (1 - col_share)
    bottom += image[high[..., 0], high[..., 1]] * col_share
    return top * (1 - row_share) + bottom * row_share
