"""Crops, and an affine map that combines several geometric changes."""

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
    """Crops a square at a random position, after padding the image with its edge on every side.

    `size_px` must not exceed the padded image. With `pad_px` it is the random shift of He et al.
    2015, section 4.2.

    Attributes:
        size_px: side of the crop.
        pad_px: pixels that are added on every side before.
    """

    size_px: int
    pad_px: int = 0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
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
    """Crops a random rectangle of an image and resizes it to a square.

    Its area is uniform in [area_min, area_max] of the image's; its aspect ratio (width over height)
    is log-uniform in [1 / ratio_max, ratio_max]; sides longer than the image's are shortened. Its
    corner can lie between pixels. When it reduces the image it filters: see `resample.bilinear`.

    Attributes:
        size_px: side of the result.
        area_min: smallest area of the rectangle, as a share of the image.
        area_max: largest area.
        ratio_max: largest ratio of width to height; the smallest is its inverse.

    Source: Szegedy et al. 2015, "Going deeper with convolutions", section 6.
    """

    size_px: int = 224
    area_min: float = 0.08
    area_max: float = 1.0
    ratio_max: float = 4 / 3

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = more_than_0(self, 'size_px') + at_least(1, self, 'ratio_max')
        if not 0 < self.area_min <= self.area_max:
            problems.append(
                f'area_min is {self.area_min}, wanted 0 < x <= area_max, {self.area_max}'
            )
        if not self.area_max <= 1:
            problems.append(f'area_max is {self.area_max}, wanted 1 or less')
        return problems

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
        crop_height = jnp.minimum(jnp.sqrt(area * (height * width) / ratio), height)
        crop_width = jnp.minimum(jnp.sqrt(area * (height * width) * ratio), width)
        down, right = crop_height / self.size_px, crop_width / self.size_px
        corner = matrices.translation(
            from_top * (height - crop_height) + (down - 1) / 2,
            from_left * (width - crop_width) + (right - 1) / 2,
        )
        return matrices.product(corner, matrices.scaling(down, right))


@dataclasses.dataclass(slots=True, kw_only=True)
class Affine(Geometric):
    """Rotates, scales, shears and shifts an image at random.

    The angle is uniform in [-rotate_degrees, rotate_degrees], and the horizontal shear likewise;
    the scale is log-uniform in [1 / scale_factor, scale_factor]; the shift along each axis is
    uniform in [-shift_share, shift_share] of the side.

    Attributes:
        rotate_degrees: largest angle.
        shear_degrees: largest angle of the shear.
        scale_factor: largest factor; the smallest is its inverse.
        shift_share: largest shift, as a share of the side.
    """

    rotate_degrees: float = 0.0
    shear_degrees: float = 0.0
    scale_factor: float = 1.0
    shift_share: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = at_least(0, self, 'rotate_degrees', 'shear_degrees', 'shift_share')
        return problems + at_least(1, self, 'scale_factor')

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
        angles = f'{drawn["degrees"]:.0f}° clockwise, {drawn["degrees_shear"]:.0f}° shear'
        return f'Affine {angles}, {drawn["times"]:.2f} times, {left:.0f} % left, {up:.0f} % up'

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        rotate, shear, scale, up, left = self.draw(key).values()
        centred = matrices.product(
            matrices.rotation(-rotate),
            matrices.shearing(jnp.tan(jnp.deg2rad(shear)), 0.0),
            matrices.scaling(1 / scale, 1 / scale),
        )
        shift = matrices.translation(up * height, left * width)
        return matrices.product(shift, matrices.around_centre(centred, height, width))
