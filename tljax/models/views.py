"""Test-time augmentation: several views of each image, whose probabilities are averaged.

Views are cropped from the canvas, the central `resize_px` square of an image; the ends of an oblong
image are in no view.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tljax.types import AnyPreprocessing, InputError, Task, TextPreprocessing, Views


@dataclasses.dataclass(slots=True, kw_only=True)
class Centre:
    """The central square, as in validation: one view."""

    @property
    def count(self) -> int:
        """See `types.Views`."""
        return 1

    def __call__(self, canvases: jax.Array, size_px: int) -> jax.Array:
        """See `types.Views`."""
        return centre(canvases, size_px)[:, None]


@dataclasses.dataclass(slots=True, kw_only=True)
class FlipViews:
    """The centre of the canvas, and the centre of its mirror image."""

    @property
    def count(self) -> int:
        """See `types.Views`."""
        return 2

    def __call__(self, canvases: jax.Array, size_px: int) -> jax.Array:
        """See `types.Views`."""
        return jnp.stack([centre(x, size_px) for x in (canvases, canvases[:, :, ::-1])], 1)


@dataclasses.dataclass(slots=True, kw_only=True)
class TenCrop:
    """The four corners and the centre of the canvas, and the same of its mirror image.

    Attributes:
        vertical_flip: whether the mirror image is upside down, not left to right.

    Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural
    Networks", section 4.1, who average softmax probabilities. The crops and their order are those
    of torchvision's `ten_crop`, whose documented example averages logits instead.
    """

    vertical_flip: bool = False

    @property
    def count(self) -> int:
        """See `types.Views`."""
        return 10

    def __call__(self, canvases: jax.Array, size_px: int) -> jax.Array:
        """See `types.Views`.

        Raises:
            InputError: the canvas is not larger than the crops, so all crops would be equal.
        """
        if size_px == min(canvases.shape[1:3]):
            raise InputError(
                f'TenCrop crops {size_px} px from an image of {size_px} px, wanted a larger '
                'resize_px; FlipViews gives the same views'
            )
        mirrored = canvases[:, ::-1] if self.vertical_flip else canvases[:, :, ::-1]
        return jnp.stack([*_five(canvases, size_px), *_five(mirrored, size_px)], 1)


NAMED = {'centre': Centre(), 'flip': FlipViews(), 'ten_crop': TenCrop()}  # on command lines


MIRRORS = {'HorizontalFlip': 'left and right', 'VerticalFlip': 'top and bottom'}
SHIFTS = ('RandomCrop', 'RandomResizedCrop', 'Affine', 'Translate', 'RandAugment', 'TrivialAugment')


def unseen(views: Views, augmentations: Any) -> tuple[str, ...]:
    """A warning for each kind of view that no training image looked like.

    Views of the user's own and augmentations of the user's own are not judged.

    Args:
        views: those of the test images.
        augmentations: the JSON form of `config.augmentations`.
    """
    kinds = set(_kinds(augmentations))
    if not isinstance(views, FlipViews | TenCrop) or not all(own for _, own in kinds):
        return ()
    names, warnings = {name for name, _ in kinds}, []
    mirror = 'VerticalFlip' if getattr(views, 'vertical_flip', False) else 'HorizontalFlip'
    # The other flip and a half turn, or two quarter turns, give the same images.
    turned = 'QuarterTurn' in names and not names.isdisjoint(MIRRORS)
    if mirror not in names and not turned:
        warnings.append(
            f'Warning: training did not mirror {MIRRORS[mirror]} ({mirror}), so the mirrored views '
            'may lower the accuracy.'
        )
    if isinstance(views, TenCrop) and names.isdisjoint(SHIFTS):
        warnings.append(
            'Warning: training cut no crops but the central one (RandomCrop, RandomResizedCrop), '
            'so the views of the corners may lower the accuracy.'
        )
    return tuple(warnings)


def _kinds(encoded: Any) -> Iterator[tuple[str, bool]]:
    """The name of each augmentation that is ever applied, and whether it is one of tljax."""
    for item in encoded if isinstance(encoded, list) else ():
        if isinstance(item, dict) and item.get('probability') != 0:
            module, _, name = str(item.get('class')).partition(':')
            yield name, module.partition('.')[0] == 'tljax'


def centre(images: jax.Array, size_px: int) -> jax.Array:
    """The central square of images [B, H, W, C], rounded as in torchvision's `center_crop`."""
    top, left = (round((n - size_px) / 2) for n in images.shape[1:3])
    return images[:, top : top + size_px, left : left + size_px]


def _five(images: jax.Array, size_px: int) -> list[jax.Array]:
    """The upper left, upper right, lower left, lower right and central crops."""
    down, right = (n - size_px for n in images.shape[1:3])
    corners = [
        images[:, top : top + size_px, left : left + size_px]
        for top in (0, down)
        for left in (0, right)
    ]
    return [*corners, centre(images, size_px)]


def average(logits: jax.Array, task: Task) -> jax.Array:
    """The outputs of the mean prediction of some views; of one view its outputs, unchanged.

    Args:
        logits: [B, V, O].
        task: what the outputs mean.

    Returns:
        [B, O].
    """
    return logits[:, 0] if logits.shape[1] == 1 else task.average(logits)


def check(views: Views, preprocessing: AnyPreprocessing) -> None:
    """Checks the shapes that views give, before anything is compiled.

    Raises:
        InputError: the views do not fit the canvas, or have another count or size than declared; or
            the network reads text and they are not `Centre()`.
    """
    if isinstance(preprocessing, TextPreprocessing):
        if views != Centre():
            raise InputError(f'{views} makes views of images, and the network reads text')
        return
    side, size = preprocessing.resize_px, preprocessing.size_px
    canvas = jax.ShapeDtypeStruct((1, side, side, len(preprocessing.mean)), jnp.uint8)
    shape = jax.eval_shape(lambda x: views(x, size), canvas).shape
    wanted = (1, views.count, size, size, len(preprocessing.mean))
    if shape != wanted:
        raise InputError(f'{views} makes views {list(shape)}, wanted {list(wanted)}')
