"""Changes of color: light, contrast, tones.

`strength` draws a factor uniformly from [1 - strength, 1 + strength], not below 0; a factor of 1
changes nothing.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import colors
from tljax.augment.checks import at_least, share
from tljax.augment.compose import Draw, Photometric, whether


def factor(key: jax.Array, strength: float) -> Draw:
    """Uniform in [1 - strength, 1 + strength], not below 0."""
    return {'times': jax.random.uniform(key, minval=max(0.0, 1 - strength), maxval=1 + strength)}


@dataclasses.dataclass(slots=True, kw_only=True)
class Brightness(Photometric):
    """Makes an image darker or lighter."""

    strength: float = 0.4

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return at_least(0, self, 'strength')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return factor(key, self.strength)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return colors.brightness(image, self.draw(key)['times'])


@dataclasses.dataclass(slots=True, kw_only=True)
class Contrast(Photometric):
    """Moves values towards the image's mean gray, or away from it."""

    strength: float = 0.4

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return at_least(0, self, 'strength')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return factor(key, self.strength)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return colors.contrast(image, self.draw(key)['times'])


@dataclasses.dataclass(slots=True, kw_only=True)
class Saturation(Photometric):
    """Makes colors paler or stronger."""

    strength: float = 0.4

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return at_least(0, self, 'strength')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return factor(key, self.strength)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return colors.saturation(image, self.draw(key)['times'])


@dataclasses.dataclass(slots=True, kw_only=True)
class Sharpness(Photometric):
    """Smooths an image over 3 × 3 pixels, or sharpens it."""

    strength: float = 0.9

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return at_least(0, self, 'strength')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return factor(key, self.strength)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return colors.sharpness(image, self.draw(key)['times'])


@dataclasses.dataclass(slots=True, kw_only=True)
class Hue(Photometric):
    """Turns colors on their wheel by an angle from [-degrees, degrees]."""

    degrees: float = 36.0

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return at_least(0, self, 'degrees')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'degrees': self.degrees * jax.random.uniform(key, minval=-1.0, maxval=1.0)}

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        degrees = self.draw(key)['degrees']
        return jnp.where(degrees == 0, image, colors.hue(image, degrees))


@dataclasses.dataclass(slots=True, kw_only=True)
class Grayscale(Photometric):
    """Takes the colors away."""

    probability: float = 0.2

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return jnp.where(self.draw(key)['applied'] > 0, colors.grayscale(image), image)


@dataclasses.dataclass(slots=True, kw_only=True)
class Invert(Photometric):
    """Makes an image its negative."""

    probability: float = 0.5

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return jnp.where(self.draw(key)['applied'] > 0, colors.invert(image), image)


@dataclasses.dataclass(slots=True, kw_only=True)
class Solarize(Photometric):
    """Makes all values from a threshold on (of 0 to 255) negative."""

    threshold: float = 128.0
    probability: float = 0.5

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        fine = 0 <= self.threshold <= 256
        found = [] if fine else [f'threshold is {self.threshold}, wanted 0 <= x <= 256']
        return found + share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        return f'Solarize from {self.threshold:.0f}' if drawn['applied'] else 'no Solarize'

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        changed = colors.solarize(image, self.threshold)
        return jnp.where(self.draw(key)['applied'] > 0, changed, image)


@dataclasses.dataclass(slots=True, kw_only=True)
class Posterize(Photometric):
    """Keeps the upper bits of each value, of 8."""

    bits: int = 4
    probability: float = 0.5

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        fine = 1 <= self.bits <= 8
        found = [] if fine else [f'bits is {self.bits}, wanted 1 <= x <= 8']
        return found + share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        return f'Posterize {self.bits} bits' if drawn['applied'] else 'no Posterize'

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        changed = colors.posterize(image, self.bits)
        return jnp.where(self.draw(key)['applied'] > 0, changed, image)


@dataclasses.dataclass(slots=True, kw_only=True)
class AutoContrast(Photometric):
    """Stretches each channel to the whole range."""

    probability: float = 0.5

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return jnp.where(self.draw(key)['applied'] > 0, colors.autocontrast(image), image)


@dataclasses.dataclass(slots=True, kw_only=True)
class Equalize(Photometric):
    """Spreads each channel's values so that all are about equally frequent."""

    probability: float = 0.5

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        return share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return jnp.where(self.draw(key)['applied'] > 0, colors.equalize(image), image)
