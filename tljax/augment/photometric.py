"""Photometric operations: brightness, contrast, colors, tones.

A factor is uniform in [1 - strength, 1 + strength], but at least 0; 1 changes nothing.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import colors
from tljax.augment.checks import at_least, share
from tljax.augment.compose import Draw, Photometric, whether


class _Factor(Photometric):
    """An operation with a random factor.

    Attributes:
        strength: the largest change of the factor from 1.
    """

    __slots__ = ()
    strength: float

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return at_least(0, self, 'strength')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        low = max(0.0, 1 - self.strength)
        return {'times': jax.random.uniform(key, minval=low, maxval=1 + self.strength)}


class _Chance(Photometric):
    """An operation that is applied with a probability.

    Attributes:
        probability: share of the images that are changed.
    """

    __slots__ = ()
    probability: float

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def change(self, image: jax.Array) -> jax.Array:
        """The changed image [H, W, 3]."""
        raise NotImplementedError

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return jnp.where(self.draw(key)['applied'] > 0, self.change(image), image)


@dataclasses.dataclass(slots=True, kw_only=True)
class Brightness(_Factor):
    """Makes an image darker or brighter."""

    strength: float = 0.4

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return colors.brightness(image, self.draw(key)['times'])


@dataclasses.dataclass(slots=True, kw_only=True)
class Contrast(_Factor):
    """Moves values towards the image's mean gray or away from it."""

    strength: float = 0.4

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return colors.contrast(image, self.draw(key)['times'])


@dataclasses.dataclass(slots=True, kw_only=True)
class Saturation(_Factor):
    """Makes colors weaker or stronger."""

    strength: float = 0.4

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return colors.saturation(image, self.draw(key)['times'])


@dataclasses.dataclass(slots=True, kw_only=True)
class Sharpness(_Factor):
    """Smooths an image over 3 × 3 pixels, or sharpens it."""

    strength: float = 0.9

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return colors.sharpness(image, self.draw(key)['times'])


@dataclasses.dataclass(slots=True, kw_only=True)
class Hue(Photometric):
    """Rotates the hue by an angle uniform in [-degrees, degrees].

    Attributes:
        degrees: largest angle.
    """

    degrees: float = 36.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return at_least(0, self, 'degrees')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'degrees': self.degrees * jax.random.uniform(key, minval=-1.0, maxval=1.0)}

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        degrees = self.draw(key)['degrees']
        return jnp.where(degrees == 0, image, colors.hue(image, degrees))


@dataclasses.dataclass(slots=True, kw_only=True)
class Grayscale(_Chance):
    """Removes the colors."""

    probability: float = 0.2

    def change(self, image: jax.Array) -> jax.Array:
        """See `_Chance`."""
        return colors.grayscale(image)


@dataclasses.dataclass(slots=True, kw_only=True)
class Invert(_Chance):
    """Replaces an image by its negative."""

    probability: float = 0.5

    def change(self, image: jax.Array) -> jax.Array:
        """See `_Chance`."""
        return colors.invert(image)


@dataclasses.dataclass(slots=True, kw_only=True)
class Solarize(_Chance):
    """Inverts all values from a threshold (of 0 to 255) up.

    Attributes:
        threshold: the value from which values are inverted, of 255.
    """

    threshold: float = 128.0
    probability: float = 0.5

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 <= self.threshold <= 256
        problems = [] if valid else [f'threshold is {self.threshold}, wanted 0 <= x <= 256']
        return problems + share(self, 'probability')

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        return f'Solarize from {self.threshold:.0f}' if drawn['applied'] else 'no Solarize'

    def change(self, image: jax.Array) -> jax.Array:
        """See `_Chance`."""
        return colors.solarize(image, self.threshold)


@dataclasses.dataclass(slots=True, kw_only=True)
class Posterize(_Chance):
    """Keeps the upper bits of the 8 bits of each value.

    Attributes:
        bits: that are kept, of 8.
    """

    bits: int = 4
    probability: float = 0.5

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 1 <= self.bits <= 8
        problems = [] if valid else [f'bits is {self.bits}, wanted 1 <= x <= 8']
        return problems + share(self, 'probability')

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        return f'Posterize {self.bits} bits' if drawn['applied'] else 'no Posterize'

    def change(self, image: jax.Array) -> jax.Array:
        """See `_Chance`."""
        return colors.posterize(image, self.bits)


@dataclasses.dataclass(slots=True, kw_only=True)
class AutoContrast(_Chance):
    """Stretches each channel to the full range."""

    probability: float = 0.5

    def change(self, image: jax.Array) -> jax.Array:
        """See `_Chance`."""
        return colors.autocontrast(image)


@dataclasses.dataclass(slots=True, kw_only=True)
class Equalize(_Chance):
    """Equalises the histogram of each channel."""

    probability: float = 0.5

    def change(self, image: jax.Array) -> jax.Array:
        """See `_Chance`."""
        return colors.equalize(image)
