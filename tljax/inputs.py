"""A batch as a network takes it: augmented, normalised, in parts."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tljax import augment
from tljax import model as models
from tljax.model import Model
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
    """The batch as the network takes it; m times its rows with m copies."""
    targets = targets_of(jnp.asarray(batch['label']), model.num_classes)
    images = jnp.asarray(batch['image'])
    if augmentations:
        keys = augment.example_keys(key, step, jnp.asarray(batch['id']))
        images, targets = augment.apply(augmentations, keys, images, targets)
    views = len(images) // len(batch['image'])  # more than one under `augment.Copy`
    truth, mask = (augment.repeat(jnp.asarray(batch[n]), views) for n in ('label', 'mask'))
    return Part(models.normalise(model.preprocessing, images), targets, truth, mask)
