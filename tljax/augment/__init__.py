"""On-device augmentation: pure dataclasses, jitted into the train step.

Each is called with one key per example, so that an example's change depends on the seed, the
step and its id alone, whatever the number of hosts or threads.
"""

from tljax.augment.compose import apply, example_keys
from tljax.augment.crops import Affine, RandomCrop, RandomResizedCrop
from tljax.augment.geometric import (
    Elastic,
    HorizontalFlip,
    Perspective,
    QuarterTurn,
    Rotate,
    Scale,
    Shear,
    Translate,
    VerticalFlip,
)

__all__ = [
    'Affine',
    'Elastic',
    'HorizontalFlip',
    'Perspective',
    'QuarterTurn',
    'RandomCrop',
    'RandomResizedCrop',
    'Rotate',
    'Scale',
    'Shear',
    'Translate',
    'VerticalFlip',
    'apply',
    'example_keys',
]
