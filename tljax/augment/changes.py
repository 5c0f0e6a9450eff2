"""What augmentations change in an image, for labels that depend on it, such as an angle."""

from collections.abc import Sequence

from tljax.augment import crops
from tljax.types import Augmentation, Views

KINDS = ('rotation', 'mirroring', 'scale', 'shift', 'shear', 'bending', 'color')
_POLICY = ('rotation', 'shift', 'shear', 'color')
# By the name of the class. Augmentations that are not listed change noise, sharpness or parts.
CHANGES: dict[str, tuple[str, ...]] = {
    'RandomCrop': ('shift',),
    'RandomResizedCrop': ('scale', 'shift'),
    'HorizontalFlip': ('mirroring',),
    'VerticalFlip': ('mirroring',),
    'QuarterTurn': ('rotation',),
    'Rotate': ('rotation',),
    'Shear': ('shear',),
    'Scale': ('scale',),
    'Translate': ('shift',),
    'Perspective': ('bending', 'scale', 'shear'),
    'Elastic': ('bending',),
    'RandAugment': _POLICY,
    'TrivialAugment': _POLICY,
    'AugMix': _POLICY,
    **dict.fromkeys(
        (
            'AutoContrast', 'Brightness', 'Contrast', 'Equalize', 'Grayscale', 'Hue', 'Invert',
            'Posterize', 'Saturation', 'Solarize',
        ),
        ('color',),
    ),
    'FlipViews': ('mirroring',),
    'TenCrop': ('mirroring', 'shift'),
}  # fmt: skip


def of(one: Augmentation | Views) -> tuple[str, ...]:
    """The kinds of change of an augmentation, or of test-time views.

    A class of the user's own states them in an attribute `changes`.
    """
    if isinstance(one, crops.Affine):
        used = {
            'rotation': one.rotate_degrees > 0,
            'shear': one.shear_degrees > 0,
            'scale': one.scale_factor > 1,
            'shift': one.shift_share > 0,
        }
        return tuple(kind for kind, present in used.items() if present)
    return tuple(getattr(one, 'changes', CHANGES.get(type(one).__name__, ())))


def conflicts(one: Augmentation | Views, changed_by: Sequence[str]) -> str:
    """The kinds of change that a label depends on, as text; empty without a conflict."""
    return ' and '.join(kind for kind in of(one) if kind in changed_by)
