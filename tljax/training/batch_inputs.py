"""A batch as a network takes it: augmented, normalised, in parts."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tljax import augment
from tljax.augment.compose import Operation
from tljax.models import stages
from tljax.models.stages import Model
from tljax.types import Augmentation, Batch, InputError


class Part(NamedTuple):
    """Rows of a batch, ready for the network."""

    images: jax.Array  # [B, size, size, 3] float32, normalised; or features
    targets: jax.Array  # [B, K]
    truth: jax.Array  # [B] int32, or [B, K] uint8
    mask: jax.Array  # [B] bool


def parts(whole: Part, count: int) -> list[Part]:
    """Every `count`-th row from each start, so that a row stays on its device.

    Raises:
        InputError: the rows cannot be shared out evenly.
    """
    if count == 1:
        return [whole]
    rows = len(whole.mask)
    if rows % count:
        raise InputError(f'accumulate is {count}, wanted a divisor of the {rows} rows of a batch')
    grouped = jax.tree.map(lambda x: x.reshape(rows // count, count, *x.shape[1:]), whole)
    return [jax.tree.map(lambda x, i=index: x[:, i], grouped) for index in range(count)]


def targets_of(labels: jax.Array, num_classes: int) -> jax.Array:
    """[B, K] float32 of labels [B], or of multi-hot ones [B, K]."""
    if labels.ndim == 2:
        return labels.astype(jnp.float32)
    return jax.nn.one_hot(labels, num_classes)


def as_given(model: Model, batch: Batch) -> Part:
    """A batch with features in the place of images, as it is."""
    features, truth, mask = (jnp.asarray(batch[name]) for name in ('image', 'label', 'mask'))
    return Part(features, targets_of(truth, model.num_classes), truth, mask)


def augmented(
    model: Model,
    augmentations: Sequence[Augmentation],
    key: jax.Array,
    step: jax.Array,
    batch: Batch,
) -> Part:
    """The batch as the network takes it; m times its rows with m copies.

    Rows that are masked out are mixed into no other: see `partners`.
    """
    targets = targets_of(jnp.asarray(batch['label']), model.num_classes)
    images = jnp.asarray(batch['image'])
    if not all(isinstance(one, Operation) for one in augmentations):
        rows = partners(jnp.asarray(batch['mask']))
        images, targets = images[rows], targets[rows]
    if augmentations:
        keys = augment.example_keys(key, step, jnp.asarray(batch['id']))
        images, targets = augment.apply(augmentations, keys, images, targets)
    views = len(images) // len(batch['image'])  # more than one under `augment.Copy`
    truth, mask = (augment.repeat(jnp.asarray(batch[n]), views) for n in ('label', 'mask'))
    return Part(stages.normalise(model.preprocessing, images), targets, truth, mask)


def partners(mask: jax.Array) -> jax.Array:
    """The row whose image each row holds while rows are mixed, [B] int32.

    A row with an image holds its own. One that is masked out holds that of a row with an image, so
    that whatever mixes rows of a batch mixes images alone; it stays masked out. Row i is mixed with
    row i + B // 2 (see `augment.mixing`): where that one is masked out, it holds an image other
    than that of row i, if there are two.

    Args:
        mask: [B] bool.
    """
    rows, real = jnp.arange(len(mask), dtype=jnp.int32), mask.sum()
    with_image = jnp.argsort(~mask, stable=True).astype(jnp.int32)  # those rows first, in order
    place = jnp.roll(jnp.cumsum(mask) - 1, len(mask) // 2)  # among them, of the row it mixes into
    other = with_image[(place + real // 2) % jnp.maximum(real, 1)]
    return jnp.where(mask, rows, other)
