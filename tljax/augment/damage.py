"""Operations that remove information: blur, noise, erased rectangles."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import colors
from tljax.augment.checks import at_least, share
from tljax.augment.compose import Draw, Photometric


@dataclasses.dataclass(slots=True, kw_only=True)
class Blur(Photometric):
    """Gaussian blur with sigma uniform in [sigma_min_px, sigma_max_px].

    Attributes:
        sigma_min_px: the smallest sigma.
        sigma_max_px: the largest sigma.
        probability: share of the images that are changed.

    Source: Chen et al. 2020, "A simple framework for contrastive learning", appendix A.
    """

    sigma_min_px: float = 0.1
    sigma_max_px: float = 2.0
    probability: float = 0.5

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = at_least(0, self, 'sigma_min_px', 'sigma_max_px') + share(self, 'probability')
        if self.sigma_min_px > self.sigma_max_px:
            problems.append(
                f'sigma_min_px is {self.sigma_min_px}, wanted at most sigma_max_px, '
                f'{self.sigma_max_px}'
            )
        return problems

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        size, chance = jax.random.uniform(key, (2,))
        sigma = self.sigma_min_px + size * (self.sigma_max_px - self.sigma_min_px)
        return {'px_sigma': jnp.where(chance < self.probability, sigma, 0.0)}

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        sigma = self.draw(key)['px_sigma']
        blurred = colors.blur(image, sigma, reach_px=math.ceil(3 * self.sigma_max_px))
        return jnp.where(sigma > 0, blurred, image)


@dataclasses.dataclass(slots=True, kw_only=True)
class GaussianNoise(Photometric):
    """Adds noise with a standard deviation uniform in [0, max_levels], of 255.

    Attributes:
        max_levels: largest standard deviation, of 255.
    """

    max_levels: float = 20.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return at_least(0, self, 'max_levels')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'grey_levels': self.max_levels * jax.random.uniform(key)}

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        noise = jax.random.normal(jax.random.fold_in(key, 1), image.shape)
        return jnp.clip(image + self.draw(key)['grey_levels'] * noise, 0, 255)


@dataclasses.dataclass(slots=True, kw_only=True)
class SaltAndPepper(Photometric):
    """Makes a share of the pixels, uniform in [0, pixel_share], black or white.

    Attributes:
        pixel_share: largest share of the pixels.
    """

    pixel_share: float = 0.05

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return share(self, 'pixel_share')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'of_pixels': self.pixel_share * jax.random.uniform(key)}

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        half = self.draw(key)['of_pixels'] / 2
        chance = jax.random.uniform(jax.random.fold_in(key, 1), (*image.shape[:2], 1))
        return jnp.where(chance < half, 0.0, jnp.where(chance >= 1 - half, 255.0, image))


@dataclasses.dataclass(slots=True, kw_only=True)
class Cutout(Photometric):
    """Erases a square centred anywhere in the image; its part outside the image is lost.

    Attributes:
        side_share: side of the square, as a share of the side of the image.
        value: that fills the square, of 255.

    Source: DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with
    cutout".
    """

    side_share: float = 0.25
    value: float = 127.5

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = (
            [] if 0 <= self.value <= 255 else [f'value is {self.value}, wanted 0 <= x <= 255']
        )
        return share(self, 'side_share') + problems

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        row, column = jax.random.uniform(key, (2,))
        return {'from_top': row, 'from_left': column}

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        return f'Cutout {100 * self.side_share:.0f} % of side'

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        middle = jnp.stack([*self.draw(key).values()])
        return colors.erase(image, middle, jnp.full(2, self.side_share), self.value)


@dataclasses.dataclass(slots=True, kw_only=True)
class RandomErasing(Photometric):
    """Fills a random rectangle with noise.

    Its area is uniform in [area_min, area_max] of the image's; its aspect ratio (width over height)
    is log-uniform in [1 / ratio_max, ratio_max]; sides longer than the image's are shortened.

    Attributes:
        probability: share of the images that are changed.
        area_min: smallest area of the rectangle, as a share of the image.
        area_max: largest area.
        ratio_max: largest ratio of width to height; the smallest is its inverse.

    Source: Zhong et al. 2020, "Random erasing data augmentation".
    """

    probability: float = 0.25
    area_min: float = 0.02
    area_max: float = 1 / 3
    ratio_max: float = 10 / 3

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = share(self, 'probability', 'area_max') + at_least(1, self, 'ratio_max')
        if not 0 <= self.area_min <= self.area_max:
            problems.append(
                f'area_min is {self.area_min}, wanted 0 <= x <= area_max, {self.area_max}'
            )
        return problems

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        chance, area, ratio, row, column = jax.random.uniform(key, (5,))
        area = self.area_min + area * (self.area_max - self.area_min)
        return {
            'of_area': jnp.where(chance < self.probability, area, 0.0),
            'ratio': jnp.exp(jnp.log(self.ratio_max) * (2 * ratio - 1)),
            'from_top': row,
            'from_left': column,
        }

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        area = 100 * float(drawn['of_area'])
        return f'RandomErasing {area:.0f} % of area' if area else 'no RandomErasing'

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        area, ratio, from_top, from_left = self.draw(key).values()
        height, width = image.shape[:2]
        # Sides as shares: a pixel is another share of each side unless the image is square.
        ratio = ratio * height / width
        sides = jnp.minimum(jnp.stack([jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)]), 1.0)
        middle = sides / 2 + (1 - sides) * jnp.stack([from_top, from_left])
        noise = 255 * jax.random.uniform(jax.random.fold_in(key, 1), image.shape)
        return colors.erase(image, middle, sides, noise)
