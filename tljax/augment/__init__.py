"""On-device augmentation: pure dataclasses, compiled into the training step.

Each is called with one key per example, so an example's change depends only on the seed, the step
and its id, for any number of hosts and threads.
"""

from tljax.augment.compose import (
    apply,
    example_keys,
)
from tljax.augment.crops import (
    Affine,
    RandomCrop,
    RandomResizedCrop,
)
from tljax.augment.damage import (
    Blur,
    Cutout,
    GaussianNoise,
    RandomErasing,
    SaltAndPepper,
)
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
from tljax.augment.mixing import (
    Copy,
    CutMix,
    MixUp,
    MixUpOrCutMix,
    repeat,
)
from tljax.augment.photometric import (
    AutoContrast,
    Brightness,
    Contrast,
    Equalize,
    Grayscale,
    Hue,
    Invert,
    Posterize,
    Saturation,
    Sharpness,
    Solarize,
)
from tljax.augment.policies import (
    AugMix,
    RandAugment,
    TrivialAugment,
)

__all__ = [
    'Affine',
    'AugMix',
    'AutoContrast',
    'Blur',
    'Brightness',
    'Contrast',
    'Copy',
    'CutMix',
    'Cutout',
    'Elastic',
    'Equalize',
    'GaussianNoise',
    'Grayscale',
    'HorizontalFlip',
    'Hue',
    'Invert',
    'MixUp',
    'MixUpOrCutMix',
    'Perspective',
    'Posterize',
    'QuarterTurn',
    'RandAugment',
    'RandomCrop',
    'RandomErasing',
    'RandomResizedCrop',
    'Rotate',
    'SaltAndPepper',
    'Saturation',
    'Scale',
    'Sharpness',
    'Shear',
    'Solarize',
    'Translate',
    'TrivialAugment',
    'VerticalFlip',
    'apply',
    'example_keys',
    'repeat',
]
