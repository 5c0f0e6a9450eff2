"""Computed images: colored waves, with one direction and color per class."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tljax.types import Examples


@dataclasses.dataclass(slots=True, kw_only=True)
class Synthetic:
    """Noisy waves, for tests of a program and measurements of its speed.

    An image depends only on the seed and its id. A small network learns the classes in one or two
    epochs.

    Attributes:
        num_classes: number of classes.
        train_per_class: training images of each class.
        test_per_class: test images of each class.
        size_px: side of an image.
        noise_levels: standard deviation of the noise, of 255.
        seed: seed of the images.
    """

    num_classes: int = 10
    train_per_class: int = 100
    test_per_class: int = 20
    size_px: int = 32
    noise_levels: float = 40.0
    seed: int = 0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        limits = {
            'num_classes': 2,
            'train_per_class': 1,
            'test_per_class': 1,
            'size_px': 1,
            'noise_levels': 0,
            'seed': 0,
        }
        return [
            f'{name} is {getattr(self, name)}, wanted at least {least}'
            for name, least in limits.items()
            if not getattr(self, name) >= least
        ]

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`."""
        train = self.num_classes * self.train_per_class
        test = self.num_classes * self.test_per_class
        return {'train': self._examples(0, train), 'test': self._examples(train, test)}

    def _examples(self, first_id: int, count: int) -> Examples:
        ids = first_id + np.arange(count)
        return Examples(
            load=lambda i: self._image(first_id + i),
            labels=(ids % self.num_classes).astype(np.int32),
            ids=ids,
            class_names=tuple(f'class{label}' for label in range(self.num_classes)),
        )

    def _image(self, example_id: int) -> np.ndarray:
        """[size_px, size_px, 3] uint8."""
        rng = np.random.default_rng([self.seed, example_id])
        turn = 2 * np.pi * (example_id % self.num_classes) / self.num_classes
        y, x = np.mgrid[: self.size_px, : self.size_px] / self.size_px
        along = x * np.cos(turn / 2) + y * np.sin(turn / 2)
        wave = np.sin(8 * np.pi * along + rng.uniform(0, 2 * np.pi))
        color = np.cos(turn + np.array([0, 2, 4]) * np.pi / 3)
        image = 128 + 50 * wave[..., None] + 50 * color
        image = image + rng.normal(0, self.noise_levels, image.shape)
        return np.clip(np.round(image), 0, 255).astype(np.uint8)
