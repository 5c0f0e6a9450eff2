"""Policies that draw operations from one set: RandAugment, TrivialAugment, AugMix.

The set is AutoAugment's; `NAMES` lists the geometric operations first, then the photometric ones.
All geometric operations of several layers become one matrix; the photometric ones run in order.
Under `vmap` a switch computes all its branches; they fuse, and nothing is faster on accelerators.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import colors, matrices, resample
from tljax.augment.checks import at_least
from tljax.augment.compose import Draw, Geometric, Photometric

IDENTITY = 0
MOVES = ('shear across', 'shear down', 'translate across', 'translate down', 'rotate')
SHADES = (
    'brightness', 'saturation', 'contrast', 'sharpness', 'posterize', 'solarize', 'auto-contrast',
    'equalize',
)  # fmt: skip
NAMES = ('identity', *MOVES, *SHADES)


@dataclasses.dataclass(frozen=True)
class Ranges:
    """The changes at strength 1."""

    shear: float  # columns per row
    translate: float  # share of the side
    degrees: float
    factor: float  # distance from 1
    lost_bits: int  # of 8


# Cubuk et al. 2019, "AutoAugment", table 6: 150 px of 331, and 4 bits kept.
STANDARD = Ranges(shear=0.3, translate=150 / 331, degrees=30.0, factor=0.9, lost_bits=4)
# Müller and Hutter 2021, "TrivialAugment", table 1 (wide): 32 px of 224, and 2 bits kept.
WIDE = Ranges(shear=0.99, translate=32 / 224, degrees=135.0, factor=0.99, lost_bits=6)


def move(
    index: jax.Array, strength: jax.Array, ranges: Ranges, height: int, width: int
) -> jax.Array:
    """The matrix [3, 3] of the operation `index`; the identity if it is photometric.

    Args:
        index: into `NAMES`.
        strength: from -1 to 1.
        ranges: the changes at strength 1.
        height: of the image.
        width: of the image.
    """
    across, down, right, below, turn = (
        jnp.where(index == 1 + i, strength, 0.0) for i in range(len(MOVES))
    )
    shear = matrices.shearing(ranges.shear * across, ranges.shear * down)
    centred = matrices.product(shear, matrices.rotation(ranges.degrees * turn))
    shift = matrices.translation(
        ranges.translate * height * below, ranges.translate * width * right
    )
    return matrices.product(shift, matrices.around_centre(centred, height, width))


def shade(index: jax.Array, strength: jax.Array, ranges: Ranges, image: jax.Array) -> jax.Array:
    """One image [H, W, 3], changed by the operation `index`; arguments as for `move`."""
    factor, amount = 1 + ranges.factor * strength, jnp.abs(strength)
    branches = (
        lambda x: x,
        lambda x: colors.brightness(x, factor),
        lambda x: colors.saturation(x, factor),
        lambda x: colors.contrast(x, factor),
        lambda x: colors.sharpness(x, factor),
        lambda x: colors.posterize(x, 8 - jnp.round(ranges.lost_bits * amount)),
        lambda x: colors.solarize(x, 256 * (1 - amount)),
        colors.autocontrast,
        colors.equalize,
    )
    return jax.lax.switch(jnp.maximum(index - len(MOVES), 0), branches, image)


def describe(index: int, strength: float, ranges: Ranges) -> str:
    """A text of an operation and its strength."""
    name, amount = NAMES[index], abs(strength)
    values = {
        'shear': f'{ranges.shear * strength:.2g}',
        'translate': f'{100 * ranges.translate * strength:.0f} %',
        'rotate': f'{ranges.degrees * strength:.0f}°',
        'posterize': f'{8 - round(ranges.lost_bits * amount)} bits',
        'solarize': f'from {256 * (1 - amount):.0f}',
        **dict.fromkeys(SHADES[:4], f'{1 + ranges.factor * strength:.2g} times'),
    }
    return f'{name} {values.get(name.split()[0], "")}'.strip()


def _pick(chance: jax.Array, count: int) -> jax.Array:
    """Uniform [0, 1) to an index below `count`; fewer generator calls compile faster."""
    return jnp.floor(chance * count).astype(jnp.int32)


def _sign(chance: jax.Array) -> jax.Array:
    return jnp.where(chance < 0.5, -1.0, 1.0)


@dataclasses.dataclass(slots=True, kw_only=True)
class RandAugment(Geometric, Photometric):
    """Applies `layers` operations, drawn with replacement, with one magnitude from 0 to 10.

    Attributes:
        layers: operations for each image.
        magnitude: strength of the operations, of 10.

    Source: Cubuk et al. 2020, "RandAugment".
    """

    layers: int = 2
    magnitude: float = 9.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 <= self.magnitude <= 10
        problems = [] if valid else [f'magnitude is {self.magnitude}, wanted 0 <= x <= 10']
        return at_least(1, self, 'layers') + problems

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`; per layer an index into `NAMES` and a strength."""
        which, sign = jax.random.uniform(key, (2, self.layers))
        return {
            'index': _pick(which, len(NAMES)),
            'strength': self.magnitude / 10 * _sign(sign),
        }

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        pairs = zip(drawn['index'], drawn['strength'], strict=True)
        return 'RandAugment ' + ', '.join(describe(i, s, STANDARD) for i, s in pairs)

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        return _moves(self.draw(key), STANDARD, height, width)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return _shades(self.draw(key), STANDARD, image)


@dataclasses.dataclass(slots=True, kw_only=True)
class TrivialAugment(Geometric, Photometric):
    """Applies one operation with a strength drawn uniformly from a wide range.

    Source: Müller and Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data
    augmentation".
    """

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`; an index into `NAMES` and a strength, [1] each."""
        which, sign, size = jax.random.uniform(key, (3, 1))
        return {'index': _pick(which, len(NAMES)), 'strength': size * _sign(sign)}

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        (index,), (strength,) = drawn['index'], drawn['strength']
        return 'TrivialAugment ' + describe(index, strength, WIDE)

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        return _moves(self.draw(key), WIDE, height, width)

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        return _shades(self.draw(key), WIDE, image)


@dataclasses.dataclass(slots=True, kw_only=True)
class AugMix(Photometric):
    """Mixes an image with several chains of one to three operations on it.

    Each chain samples the image once. The chains' weights are from Dirichlet(1, ...) and the
    mixture's share from Beta(1, 1), and operations similar to the corruptions of ImageNet-C are
    left out, as in the paper. Its consistency loss is not included.

    Attributes:
        chains: of operations that are mixed.
        max_depth: most operations of a chain.
        magnitude: the largest that is drawn, of 10.

    Source: Hendrycks et al. 2020, "AugMix: a simple data processing method to improve robustness
    and uncertainty", algorithm 1.
    """

    chains: int = 3
    max_depth: int = 3
    magnitude: float = 3.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 <= self.magnitude <= 10
        problems = [] if valid else [f'magnitude is {self.magnitude}, wanted 0 <= x <= 10']
        return at_least(1, self, 'chains', 'max_depth') + problems

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`; for chains C of depth D, indices and strengths [C, D]."""
        allowed = jnp.asarray([i for i, name in enumerate(NAMES) if i and name not in SHADES[:4]])
        chances = jax.random.uniform(key, (self.chains, 3 * self.max_depth + 3))
        which, sign, size = jnp.split(chances[:, :-3], 3, 1)
        depth = 1 + _pick(chances[:, -3:-2], self.max_depth)
        weight = -jnp.log1p(-chances[:, -2])  # normalised exponentials are Dirichlet's
        return {
            'index': jnp.where(
                jnp.arange(self.max_depth)[None] < depth,
                allowed[_pick(which, len(allowed))],
                IDENTITY,
            ),
            'strength': self.magnitude / 10 * size * _sign(sign),
            'weight': weight / jnp.maximum(weight.sum(), 1e-9),
            'part': chances[0, -1],
        }

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        return f'AugMix {100 * float(drawn["part"]):.0f} % of {self.chains} chains'

    def shade(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """See `compose.Photometric`."""
        drawn = self.draw(key)
        grid = resample.grid(*image.shape[:2])

        def view(index: jax.Array, strength: jax.Array) -> jax.Array:
            layers = {'index': index, 'strength': strength}
            positions = resample.project(_moves(layers, STANDARD, *image.shape[:2]), *grid)
            return _shades(layers, STANDARD, resample.bilinear(image, *positions))

        views = jax.vmap(view)(drawn['index'], drawn['strength'])
        mixed = (drawn['weight'][:, None, None, None] * views).sum(0)
        return jnp.clip(image + drawn['part'] * (mixed - image), 0, 255)


def _moves(drawn: Draw, ranges: Ranges, height: int, width: int) -> jax.Array:
    layers = zip(drawn['index'], drawn['strength'], strict=True)
    return matrices.product(*(move(*layer, ranges, height, width) for layer in layers))


def _shades(drawn: Draw, ranges: Ranges, image: jax.Array) -> jax.Array:
    def layer(image: jax.Array, drawn: Draw) -> tuple[jax.Array, None]:
        return shade(drawn['index'], drawn['strength'], ranges, image), None

    # `scan`, because compiling all branches of all layers took 15 s for AugMix.
    return jax.lax.scan(layer, image, drawn)[0]
