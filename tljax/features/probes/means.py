"""Classifiers from class means: nearest mean and linear discriminant analysis."""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.features.probes.linear import Linear, checked
from tljax.features.shrinkage import ledoit_wolf
from tljax.types import Array, InputError


class Distance(enum.Enum):
    """The distance between two feature vectors."""

    EUCLIDEAN = 'euclidean'
    COSINE = 'cosine'


def normalised(x: jax.Array) -> jax.Array:
    """Features [N, F] scaled to length 1; zeros stay zeros."""
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.maximum(length, jnp.finfo(jnp.float32).tiny)


def nearest_mean(
    x: Array,
    labels: Array,
    *,
    num_classes: int | None = None,
    distance: Distance = Distance.EUCLIDEAN,
) -> Linear:
    """A linear layer whose largest logit belongs to the class with the nearest mean.

    With the cosine, the means are those of normalised features; the layer's input need not be
    normalised. A class without examples is never the nearest.

    Args:
        x: [N, F].
        labels: [N] int.
        num_classes: K; None for one more than the largest label.
        distance: between features and means.

    Raises:
        InputError: see `linear.checked`.

    Source: Mensink et al. 2013, "Distance-Based Image Classification".
    """
    x, labels, classes = checked(x, labels, num_classes)
    if distance is Distance.COSINE:
        means, counts = _class_means(normalised(x), labels, classes)
        return Linear(normalised(means).T, jnp.where(counts > 0, 0.0, -jnp.inf))
    centre = x.mean(0)  # centred features are smaller, so their squares lose fewer digits
    means, counts = _class_means(x - centre[None], labels, classes)
    bias = -jnp.square(means).sum(-1) / 2 - means @ centre
    return Linear(means.T, jnp.where(counts > 0, bias, -jnp.inf))


def discriminant(
    x: Array,
    labels: Array,
    shrinkages: Any = None,
    *,
    num_classes: int | None = None,
) -> Linear:
    """Linear discriminant analysis with a covariance shrunk towards a multiple of the identity.

    The covariance S within classes becomes `(1 - s) S + s tr(S) / F`. One eigendecomposition serves
    all s. The result agrees with scikit-learn's for the same `shrinkage`. By default s is Ledoit
    and Wolf's for the features minus their class mean (see `shrinkage.ledoit_wolf`).

    Args:
        x: [N, F].
        labels: [N] int, every class at least once.
        shrinkages: [L], more than 0 and at most 1; None for Ledoit and Wolf's.
        num_classes: K; None for one more than the largest label.

    Returns:
        Kernels [L, F, K] and biases [L, K]; [F, K] and [K] if `shrinkages` is None.

    Raises:
        InputError: see `linear.checked`; a class has no examples, or a shrinkage is out of range.
    """
    x, labels, classes = checked(x, labels, num_classes)
    counts = np.bincount(np.asarray(labels), minlength=classes)
    if not counts.all():
        raise InputError(f'classes {np.flatnonzero(counts == 0).tolist()} have no examples')
    if shrinkages is None:
        return _discriminant(x, labels, classes, None).at(0)
    values = np.atleast_1d(np.asarray(shrinkages, np.float32))
    if not ((values > 0) & (values <= 1)).all():
        raise InputError(f'shrinkages are {values.tolist()}, wanted 0 < s <= 1')
    return _discriminant(x, labels, classes, jnp.asarray(values))


@jax.jit(static_argnums=2)
def _discriminant(
    x: jax.Array, labels: jax.Array, classes: int, shrinkages: jax.Array | None
) -> Linear:
    with jax.default_matmul_precision('highest'):
        centre = x.mean(0)
        x = x - centre[None]
        means, counts = _class_means(x, labels, classes)
        rest = x - means[labels]
        covariance = rest.T @ rest / len(x)
        level = jnp.trace(covariance) / len(covariance)
        if shrinkages is None:
            trace, squares = jnp.trace(covariance), jnp.square(covariance).sum()
            error, distance = ledoit_wolf(rest, trace, squares)
            shrinkage = error / jnp.maximum(distance, jnp.finfo(jnp.float32).tiny)
            shrinkages = jnp.clip(shrinkage, 1e-6, 1.0)[None]
        values, vectors = jnp.linalg.eigh(covariance)
        kept, added = 1 - shrinkages, shrinkages * level
        inverse = 1 / (kept[:, None] * jnp.maximum(values, 0.0)[None] + added[:, None])
        turned = vectors.T @ means.T  # [F, K]
        kernel = jnp.einsum('fr,lrk->lfk', vectors, inverse[:, :, None] * turned[None])
        halves = jnp.einsum('kf,lfk->lk', means, kernel) / 2
        bias = jnp.log(counts / len(x))[None] - halves - jnp.einsum('f,lfk->lk', centre, kernel)
        return Linear(kernel, bias)


def _class_means(x: jax.Array, labels: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
    """The mean [K, F] and the number of examples [K] of each class."""
    members = jax.nn.one_hot(labels, classes)
    counts = members.sum(0)
    with jax.default_matmul_precision('highest'):
        return members.T @ x / jnp.maximum(counts, 1.0)[:, None], counts
