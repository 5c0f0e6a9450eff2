"""Classification by the means of classes: the nearest one, and linear discriminant analysis."""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.features.probes.linear import Linear, checked
from tljax.types import Array, InputError


class Distance(enum.Enum):
    """Between features."""

    EUCLIDEAN = 'euclidean'
    COSINE = 'cosine'


def normalised(x: jax.Array) -> jax.Array:
    """Features [N, F] brought to length 1; zeros stay zeros."""
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.maximum(length, jnp.finfo(jnp.float32).tiny)


def nearest_mean(
    x: Array,
    labels: Array,
    *,
    num_classes: int | None = None,
    distance: Distance = Distance.EUCLIDEAN,
) -> Linear:
    """The layer whose largest logit is that of the class with the nearest mean.

    By cosine, the means are of normalised features; features to classify need not be normalised.
    Source: Mensink et al. 2013, "Distance-Based Image Classification"; a class without examples is
    never the nearest.

    Args:
        x: [N, F].
        labels: [N] int.
        num_classes: K; None for one more than the largest label.
        distance: between features and means.

    Raises:
        InputError: see `linear.checked`.
    """
    x, labels, classes = checked(x, labels, num_classes)
    if distance is Distance.COSINE:
        means, counts = _class_means(normalised(x), labels, classes)
        return Linear(normalised(means).T, jnp.where(counts > 0, 0.0, -jnp.inf))
    centre = x.mean(0)  # distances from it are smaller, and their squares have more digits left
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
    """Linear discriminant analysis, its covariance shrunk towards a multiple of the identity.

    The covariance within classes becomes `(1 - s) S + s tr(S) / F`, for every s from one
    eigendecomposition; scikit-learn's of the same `shrinkage` agrees. By default s is that of
    Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices",
    section 3.3, of the features less their class's mean.

    Args:
        x: [N, F].
        labels: [N] int, every class at least once.
        shrinkages: [L], more than 0 and at most 1; None for Ledoit and Wolf's.
        num_classes: K; None for one more than the largest label.

    Returns:
        Kernels [L, F, K] and biases [L, K]; [F, K] and [K] for None.

    Raises:
        InputError: see `linear.checked`; a class without examples; a shrinkage out of range.
    """
    x, labels, classes = checked(x, labels, num_classes)
    counts = np.bincount(np.asarray(labels), minlength=classes)
    if not counts.all():
        raise InputError(f'classes {np.flatnonzero(counts == 0).tolist()} have no examples')
    told = None if shrinkages is None else np.atleast_1d(np.asarray(shrinkages, np.float32))
    if told is not None and not ((told > 0) & (told <= 1)).all():
        raise InputError(f'shrinkages are {told.tolist()}, wanted 0 < s <= 1')
    found = _discriminant(x, labels, classes, None if told is None else jnp.asarray(told))
    return found.at(0) if told is None else found


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
            shrinkages = ledoit_wolf(rest, covariance)[None]
        values, vectors = jnp.linalg.eigh(covariance)
        kept, added = 1 - shrinkages, shrinkages * level
        inverse = 1 / (kept[:, None] * jnp.maximum(values, 0.0)[None] + added[:, None])
        turned = vectors.T @ means.T  # [F, K]
        kernel = jnp.einsum('fr,lrk->lfk', vectors, inverse[:, :, None] * turned[None])
        halves = jnp.einsum('kf,lfk->lk', means, kernel) / 2
        bias = jnp.log(counts / len(x))[None] - halves - jnp.einsum('f,lfk->lk', centre, kernel)
        return Linear(kernel, bias)


def ledoit_wolf(centred: jax.Array, covariance: jax.Array) -> jax.Array:
    """The shrinkage of least expected error, of centred features [N, F] and their covariance."""
    examples, size = centred.shape
    level = jnp.trace(covariance) / size
    total = jnp.square(covariance).sum()
    # The mean over examples of |x x' - S|^2, written without a matrix for each.
    fourth = jnp.square(jnp.square(centred).sum(-1)).mean()
    error = (fourth - total) / examples
    spread = total - size * jnp.square(level)
    return jnp.clip(error / jnp.maximum(spread, jnp.finfo(jnp.float32).tiny), 1e-6, 1.0)


def _class_means(x: jax.Array, labels: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
    """[K, F] and the number of examples of each, [K]."""
    members = jax.nn.one_hot(labels, classes)
    counts = members.sum(0)
    with jax.default_matmul_precision('highest'):
        return members.T @ x / jnp.maximum(counts, 1.0)[:, None], counts
