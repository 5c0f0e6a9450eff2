"""The embedded digits, rotated by known angles, which are the numbers to predict."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from tljax.data.digits import Digits
from tljax.metrics.tasks.ordered import Ordered
from tljax.metrics.tasks.values import Values
from tljax.types import Examples

SIDE_PX = 32  # digits are enlarged from 8 px first, so that a rotation loses little
STREAM = 7  # added to seeds, so that angles are independent of other random draws


@dataclasses.dataclass(slots=True, kw_only=True)
class RotatedDigits:
    """Handwritten digits, each rotated counterclockwise by a random angle in degrees.

    The angle is what a network predicts. People write with a slant of their own, so that no network
    can know it exactly. The splits are those of `Digits`.

    With `groups`, the labels are ordered classes instead: ranges of the angle of equal width.

    Attributes:
        degrees: angles are uniform in [-degrees, degrees].
        seed: seed of the angles.
        groups: ordered classes; none for the angle as a number.
    """

    degrees: float = 60.0
    seed: int = 0
    groups: int | None = None

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        valid = 0 < self.degrees <= 180
        problems = [] if valid else [f'degrees is {self.degrees}, wanted 0 < x <= 180']
        if self.groups is not None and self.groups < 2:
            problems.append(f'groups is {self.groups}, wanted 2 or more')
        return problems if self.seed >= 0 else [*problems, f'seed is {self.seed}, wanted 0 or more']

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`."""
        task = Values(changed_by=('rotation', 'mirroring', 'shear', 'bending'))
        return {name: self._rotated(split, task) for name, split in Digits().splits().items()}

    def _rotated(self, split: Examples, task: Values) -> Examples:
        angles = np.array(
            [np.random.default_rng([self.seed, STREAM, i]).uniform(-1, 1) for i in split.ids]
        )
        angles *= self.degrees

        @functools.cache
        def load(index: int) -> np.ndarray:
            return rotated(split.load(index), float(angles[index]))

        if self.groups is not None:
            return self._grouped(split, load, angles)
        return Examples(
            load=load,
            labels=angles[:, None].astype(np.float32),
            ids=split.ids,
            class_names=('angle',),
            task=task,
        )

    def _grouped(
        self, split: Examples, load: Callable[[int], np.ndarray], angles: np.ndarray
    ) -> Examples:
        assert self.groups is not None
        ends = np.linspace(-self.degrees, self.degrees, self.groups + 1)
        names = [f'{low:g} to {high:g}' for low, high in itertools.pairwise(ends)]
        return Examples(
            load=load,
            labels=np.digitize(angles, ends[1:-1]).astype(np.int32),
            ids=split.ids,
            class_names=tuple(names),
            task=Ordered(),
        )


def rotated(image: np.ndarray, degrees: float) -> np.ndarray:
    """An image [h, w, 3] uint8, enlarged and rotated counterclockwise on black."""
    large = Image.fromarray(image).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    return np.asarray(large.rotate(degrees, Image.Resampling.BICUBIC))
