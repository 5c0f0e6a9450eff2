"""Geometric operations; `compose` combines them into one map and one sampling."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tljax.augment import matrices
from tljax.augment.checks import at_least, share
from tljax.augment.compose import Aligned, Bent, Draw, Geometric, whether


def symmetric(key: jax.Array, shape: tuple[int, ...] = ()) -> jax.Array:
    """Uniform in [-1, 1]."""
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


@dataclasses.dataclass(slots=True, kw_only=True)
class HorizontalFlip(Aligned):
    """Mirrors an image left to right.

    Attributes:
        probability: share of the images that are changed.
    """

    probability: float = 0.5

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        return matrices.flip(self.draw(key)['applied'], 0.0, height, width)


@dataclasses.dataclass(slots=True, kw_only=True)
class VerticalFlip(Aligned):
    """Mirrors an image top to bottom.

    Attributes:
        probability: share of the images that are changed.
    """

    probability: float = 0.5

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return share(self, 'probability')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return whether(key, self.probability)

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        return matrices.flip(0.0, self.draw(key)['applied'], height, width)


@dataclasses.dataclass(slots=True, kw_only=True)
class QuarterTurn(Geometric):
    """Rotates an image by 0, 90, 180 or 270 degrees, exactly; for images without an up."""

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'degrees': 90.0 * jax.random.randint(key, (), 0, 4)}

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        turn = matrices.rotation(self.draw(key)['degrees'])
        return matrices.around_centre(turn, height, width)


@dataclasses.dataclass(slots=True, kw_only=True)
class Rotate(Geometric):
    """Rotates an image around its centre by an angle uniform in [-degrees, degrees].

    Attributes:
        degrees: largest angle.
    """

    degrees: float = 15.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return at_least(0, self, 'degrees')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'degrees': self.degrees * symmetric(key)}

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        turn = matrices.rotation(self.draw(key)['degrees'])
        return matrices.around_centre(turn, height, width)


@dataclasses.dataclass(slots=True, kw_only=True)
class Shear(Geometric):
    """Shears an image: columns by up to `horizontal_degrees`, rows by `vertical_degrees`.

    Attributes:
        horizontal_degrees: largest angle of columns.
        vertical_degrees: largest angle of rows.
    """

    horizontal_degrees: float = 15.0
    vertical_degrees: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return [
            f'{name} is {getattr(self, name)}, wanted 0 <= x < 90'
            for name in ('horizontal_degrees', 'vertical_degrees')
            if not 0 <= getattr(self, name) < 90
        ]

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        across, down = symmetric(key, (2,))
        return {
            'degrees_across': self.horizontal_degrees * across,
            'degrees_down': self.vertical_degrees * down,
        }

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        across, down = (jnp.tan(jnp.deg2rad(degrees)) for degrees in self.draw(key).values())
        return matrices.around_centre(matrices.shearing(across, down), height, width)


@dataclasses.dataclass(slots=True, kw_only=True)
class Scale(Aligned):
    """Scales an image around its centre, log-uniform in [1 / factor, factor].

    Attributes:
        factor: largest factor; the smallest is its inverse.
    """

    factor: float = 1.2

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return at_least(1, self, 'factor')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'times': jnp.exp(jnp.log(self.factor) * symmetric(key))}

    def shrink(self, height: int, width: int) -> float:
        """See `compose.Geometric`."""
        return self.factor

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        step = 1 / self.draw(key)['times']
        return matrices.around_centre(matrices.scaling(step, step), height, width)


@dataclasses.dataclass(slots=True, kw_only=True)
class Translate(Aligned):
    """Shifts an image along each axis by up to a share of its side, in either direction.

    Attributes:
        side_share: largest shift, as a share of the side.
    """

    side_share: float = 0.1

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return share(self, 'side_share')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        down, right = self.side_share * symmetric(key, (2,))
        return {'down': down, 'right': right}

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        down, right = self.draw(key).values()
        return matrices.translation(-height * down, -width * right)


@dataclasses.dataclass(slots=True, kw_only=True)
class Perspective(Geometric):
    """Changes the perspective: each corner moves by up to a share of the side along each axis.

    Attributes:
        side_share: largest shift of a corner, as a share of the side.
    """

    side_share: float = 0.2

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 <= self.side_share < 0.5  # at 0.5 corners could swap
        return [] if valid else [f'side_share is {self.side_share}, wanted 0 <= x < 0.5']

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'corners': self.side_share * symmetric(key, (4, 2))}

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        return f'Perspective {100 * np.abs(drawn["corners"]).max():.0f} % of side'

    def matrix(self, key: jax.Array, height: int, width: int) -> jax.Array:
        """See `compose.Geometric`."""
        return matrices.quadrilateral(self.draw(key)['corners'], height, width)


@dataclasses.dataclass(slots=True, kw_only=True)
class Elastic(Bent):
    """Moves pixels by a smooth random field: a quadratic B-spline over `cells` × `cells` cells.

    Its control points move along each axis by up to `side_share` of the image's side.

    Attributes:
        side_share: largest shift of a control point, as a share of the side.
        cells: of the spline along each axis.

    Source: Simard et al. 2003, "Best practices for convolutional neural networks", section 2, with
    a spline instead of blurred noise, because it can be evaluated anywhere without another image.
    """

    side_share: float = 0.05
    cells: int = 3

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return share(self, 'side_share') + at_least(1, self, 'cells')

    def draw(self, key: jax.Array) -> Draw:
        """See `compose.Operation`."""
        return {'moves': self.side_share * symmetric(key, (2, self.cells + 2, self.cells + 2))}

    def caption(self, drawn: Mapping[str, np.ndarray]) -> str:
        """See `compose.Operation`."""
        largest = 100 * np.abs(drawn['moves']).max()
        return f'Elastic {largest:.0f} % of side, {self.cells} cells'

    def bend(
        self, key: jax.Array, rows: jax.Array, columns: jax.Array, height: int, width: int
    ) -> tuple[jax.Array, jax.Array]:
        """See `compose.Geometric`; outside the image the border's displacement is used."""
        powers = jnp.asarray(_spline_powers(self.cells))
        moves = matrices.product(powers, self.draw(key)['moves'], powers.T)
        down, right = (
            self._basis(positions * (self.cells / max(size - 1, 1)))
            for positions, size in ((rows, height), (columns, width))
        )
        # Unrolled: scalars times planes fuse into one pass; a matrix product would not.
        shifts = [
            sum(a * sum(move[i, j] * b for j, b in enumerate(right)) for i, a in enumerate(down))
            for move in moves
        ]
        return rows + height * shifts[0], columns + width * shifts[1]

    def _basis(self, positions: jax.Array) -> list[jax.Array]:
        """1, x, x² and, for each knot k between cells, max(x - k, 0)²."""
        x = jnp.clip(positions, 0, self.cells)
        knots = [jnp.maximum(x - k, 0) ** 2 for k in range(1, self.cells)]
        return [jnp.ones_like(x), x, x * x, *knots]


def _spline_powers(cells: int) -> np.ndarray:
    """[cells + 2, cells + 2]: column g is the g-th quadratic B-spline in the basis of `_basis`.

    Its support is [g - 2, g + 1]; it is half of max(x - t, 0)² times 1, -3, 3, -1 for t = g - 2,
    g - 1, g, g + 1. Source: de Boor 1978, "A practical guide to splines", chapter 9.
    """
    result = np.zeros((cells + 2, cells + 2), np.float32)
    for g in range(cells + 2):
        for t, times in zip(range(g - 2, g + 2), (0.5, -1.5, 1.5, -0.5), strict=True):
            if t <= 0:
                result[:3, g] += times * np.asarray([t * t, -2 * t, 1])
            elif t < cells:
                result[t + 2, g] += times
    return result
