"""The inputs of a network from a batch: augmented and normalised images, targets and masks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tljax import augment
from tljax.augment.compose import Operation
from tljax.models import stages
from tljax.models.stages import Model
from tljax.types import Augmentation, Batch, InputError


class Inputs(NamedTuple):
    """Rows of a batch, ready for the network."""

    images: jax.Array  # [B, size, size, 3] float32, normalised; or cached features
    targets: jax.Array  # [B, K]
    truth: jax.Array  # [B, ...], the labels
    mask: jax.Array  # [B] bool


def parts(inputs: Any, count: int) -> list[Any]:
    """Splits rows into `count` parts: each takes every `count`-th row, which stays on its device.

    Args:
        inputs: a named tuple of arrays [B, ...] with a `mask`.
        count: the number of parts.

    Raises:
        InputError: `count` does not divide the rows.
    """
    if count == 1:
        return [inputs]
    rows = len(inputs.mask)
    if rows % count:
        raise InputError(f'accumulate is {count}, wanted a divisor of the {rows} rows of a batch')
    grouped = jax.tree.map(lambda x: x.reshape(rows // count, count, *x.shape[1:]), inputs)
    return [jax.tree.map(lambda x, i=index: x[:, i], grouped) for index in range(count)]


def cached(model: Model, batch: Batch) -> Inputs:
    """The inputs from a batch with cached features instead of images."""
    features, truth, mask = (jnp.asarray(batch[name]) for name in ('image', 'label', 'mask'))
    return Inputs(features, model.targets(truth), truth, mask)


def augmented(
    model: Model,
    augmentations: Sequence[Augmentation],
    key: jax.Array,
    step: jax.Array,
    batch: Batch,
) -> Inputs:
    """The inputs from a batch of images; an augmentation with m copies gives m times its rows.

    Masked rows are mixed into no other row: see `partners`.
    """
    targets = model.targets(jnp.asarray(batch['label']))
    images = jnp.asarray(batch['image'])
    if not all(isinstance(one, Operation) for one in augmentations):
        rows = partners(jnp.asarray(batch['mask']))
        images, targets = images[rows], targets[rows]
    if augmentations:
        keys = augment.example_keys(key, step, jnp.asarray(batch['id']))
        images, targets = augment.apply(augmentations, keys, images, targets)
    views = len(images) // len(batch['image'])  # more than one under `augment.Copy`
    truth, mask = (augment.repeat(jnp.asarray(batch[n]), views) for n in ('label', 'mask'))
    return Inputs(stages.normalise(model.preprocessing, images), targets, truth, mask)


def partners(mask: jax.Array) -> jax.Array:
    """The row whose image each row holds while rows are mixed, [B] int32.

    An unmasked row holds its own image. A masked row holds the image of an unmasked row, so that
    only real images are mixed; it stays masked. Row i is mixed with row i + B // 2 (see
    `augment.mixing`). If that row is masked, it holds the image of a row other than i, if there
    are two unmasked rows.

    Args:
        mask: [B] bool.
    """
    rows, real = jnp.arange(len(mask), dtype=jnp.int32), mask.sum()
    unmasked = jnp.argsort(~mask, stable=True).astype(jnp.int32)  # unmasked rows first, in order
    place = jnp.roll(jnp.cumsum(mask) - 1, len(mask) // 2)  # the mixed row's, among those
    other = unmasked[(place + real // 2) % jnp.maximum(real, 1)]
    return jnp.where(mask, rows, other)
