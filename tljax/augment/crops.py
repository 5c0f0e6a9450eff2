"""Crops and the affine map, which change an image's size or do several things at once."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import matrices
from tljax.augment.checks import at_least, more_than_0
from tljax.augment.compose import Aligned, Draw, Geometric
from tljax.types import InputError


@dataclasses.dataclass(slots=True, kw_only=True)
class RandomCrop(Aligned):
    """Cuts a square at a random place, after padding the image on every side with its edge.

    `size_px` must not exceed the padded image. With `pad_px` it is the shift of He et al. 2015,
    section 4.2.
    """

    size_px: int
    pad_px: int = 0

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return more_than_0(self, 'size_px') + at_least(0, self, 'pad_px')

    def size(self, height: int, width: int) -> tuple[int, int]:
        """See `compose.Geometric`."""
        height, width = height + 2 * self.pad_px, width + 2 * self.pad_px
        if self.size_px > min(height, width):
            raise InputError(
                f'RandomCrop: size_px is {self.size_px}, the padded images are '
                f'{height} x {width} px'
            )
        return self.size_px, self.size_px

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        return f'RandomCrop {self.size_px} px' + (f', pad {self.pad_px}' if self.pad_px else '')

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        room = jnp.asarray([n + 2 * self.pad_px - self.size_px for n in (height, width)])
        row, column = jax.random.randint(key, (2,), 0, room + 1) - self.pad_px
        return matrices.translation(row, column)


@dataclasses.dataclass(slots=True, kw_only=True)
class RandomResizedCrop(Aligned):
    """Cuts a random rectangle out of an image and resizes it to a square.

    Its area is drawn uniformly from [area_min, area_max] of the image's, its width over its height
    from [1 / ratio_max, ratio_max] on a logarithmic axis; sides that do not fit are shortened to
    the image's. Its corner may be between pixels. An image that may be shrunk is filtered: see
    `resample.bilinear`.

    Source: Szegedy et al. 2015, "Going deeper with convolutions", section 6.
    """

    size_px: int = 224
    area_min: float = 0.08
    area_max: float = 1.0
    ratio_max: float = 4 / 3

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        found = more_than_0(self, 'size_px') + at_least(1, self, 'ratio_max')
        if not 0 < self.area_min <= self.area_max:
            found.append(f'area_min is {self.area_min}, wanted 0 < x <= area_max, {self.area_max}')
        if not self.area_max <= 1:
            found.append(f'area_max is {self.area_max}, wanted 1 or less')
        return found

    def size(self, height: int, width: int) -> tuple[int, int]:
        """See `compose.Geometric`."""
        return self.size_px, self.size_px

    def shrink(self, height: int, width: int) -> float:
        """See `compose.Geometric`."""
        return math.sqrt(self.area_max * height * width) / self.size_px

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        area, ratio, row, column = jax.random.uniform(key, (4,))
        return {
            'of_area': self.area_min + area * (self.area_max - self.area_min),
            'ratio': jnp.exp(jnp.log(self.ratio_max) * (2 * ratio - 1)),
            'from_top': row,
            'from_left': column,
        }

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        area, ratio = 100 * float(drawn['of_area']), float(drawn['ratio'])
        return f'RandomResizedCrop {area:.0f} % of area, ratio {ratio:.2f}'

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        area, ratio, from_top, from_left = self.draw(key).values()
        high = jnp.minimum(jnp.sqrt(area * (height * width) / ratio), height)
        wide = jnp.minimum(jnp.sqrt(area * (height * width) * ratio), width)
        down, right = high / self.size_px, wide / self.size_px
        corner = matrices.translation(
            from_top * (height - high) + (down - 1) / 2,
            from_left * (width - wide) + (right - 1) / 2,
        )
        return matrices.product(corner, matrices.scaling(down, right))


@dataclasses.dataclass(slots=True, kw_only=True)
class Affine(Geometric):
    """Rotates, scales, shears and shifts an image at random.

    Angles are drawn uniformly from [-rotate_degrees, rotate_degrees], likewise the shear, which is
    horizontal; the scale from [1 / scale_factor, scale_factor] on a logarithmic axis; the shift,
    along each axis, from [-shift_share, shift_share] of the image's side.
    """

    rotate_degrees: float = 0.0
    shear_degrees: float = 0.0
    scale_factor: float = 1.0
    shift_share: float = 0.0

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        found = at_least(0, self, 'rotate_degrees', 'shear_degrees', 'shift_share')
        return found + at_least(1, self, 'scale_factor')

    def shrink(self, height: int, width: int) -> float:
        """See `compose.Geometric`."""
        return self.scale_factor

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        rotate, shear, scale, down, right = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
        return {
            'degrees': self.rotate_degrees * rotate,
            'degrees_shear': self.shear_degrees * shear,
            'times': jnp.exp(jnp.log(self.scale_factor) * scale),
            'up': self.shift_share * down,
            'left': self.shift_share * right,
        }

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        left, up = 100 * drawn['left'], 100 * drawn['up']
        turned = f'{drawn["degrees"]:.0f}° clockwise, {drawn["degrees_shear"]:.0f}° shear'
        return f'Affine {turned}, {drawn["times"]:.2f} times, {left:.0f} % left, {up:.0f} % up'

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        rotate, shear, scale, up, left = self.draw(key).values()
        around = matrices.product(
            matrices.rotation(-rotate),
            matrices.shearing(jnp.tan(jnp.deg2rad(shear)), 0.0),
            matrices.scaling(1 / scale, 1 / scale),
        )
        shift = matrices.translation(up * height, left * width)
        return matrices.product(shift, matrices.around_centre(around, height, width))
