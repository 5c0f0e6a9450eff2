"""Selecting features of all stages by group lasso (Head2Toe)."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.features.probes.choice import Probe, choose, same_stages
from tljax.features.probes.linear import Linear, checked, scaling
from tljax.types import Array, InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selected:
    """A probe on the most relevant features of all stages.

    Attributes:
        linear: a layer on the concatenated features of all stages, in the order of the stages; the
            weights of features that were not selected are 0.
        strength: of the regularisation of that layer.
        chosen: indices of the selected features, by stage.
        relevance: of every feature, by stage.
        share: the selected share of all features.
        val_accuracy: [S], validation accuracy of each share with its best strength.
    """

    linear: Linear
    strength: float
    chosen: dict[str, np.ndarray]
    relevance: dict[str, np.ndarray]
    share: float
    val_accuracy: np.ndarray


def head2toe(
    train: Mapping[str, Array],
    labels: Array,
    val: Mapping[str, Array],
    val_labels: Array,
    *,
    shares: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    strength: float = 0.1,
    num_classes: int | None = None,
    **options: Any,
) -> Selected:
    """Ranks the features of all stages by group lasso, and selects on validation how many to use.

    Args:
        train: features [N, F] by stage, from the lowest to the highest; F may differ.
        labels: [N].
        val: features [M, F] of the same stages.
        val_labels: [M].
        shares: [S], candidates for the share of all features to use.
        strength: of the lasso, relative to the smallest one that removes every feature.
        num_classes: K; None for one more than the largest label.
        **options: of `choose`, for the probe on the selected features.

    Raises:
        InputError: the stages differ, or a share is out of range; see `choose`.

    Source: Evci et al. 2022, "Head2Toe: Utilizing Intermediate Representations for Better Transfer
    Learning", section 3: the relevance of a feature is the norm of its row of weights. Here the
    features are standardised, and the layer on the selected ones is fitted separately.
    """
    same_stages(train, val)
    if not shares or not all(0 < share <= 1 for share in shares):
        raise InputError(f'shares are {list(shares)}, wanted one or more, each 0 < x <= 1')
    both = [jnp.concatenate([jnp.asarray(x) for x in part.values()], 1) for part in (train, val)]
    scores = np.asarray(relevance(both[0], labels, strength, num_classes=num_classes))
    place = np.argsort(np.argsort(-scores, kind='stable'))
    masks = [place < max(1, round(share * len(place))) for share in shares]

    def probe(mask: np.ndarray, refit: bool) -> Probe:
        # Other features are set to 0 and not removed, so that all shares have one program.
        x, val_x = (part * jnp.asarray(mask)[None] for part in both)
        parts = (x, labels), (val_x, val_labels)
        return choose(*parts, num_classes=num_classes, refit=refit, **options)

    accuracies = np.array([probe(mask, refit=False).best_val_accuracy for mask in masks])
    best = int(np.argmax(accuracies))
    final, mask = probe(masks[best], refit=True), masks[best]
    ends = np.cumsum([np.shape(x)[-1] for x in train.values()])[:-1]
    return Selected(
        linear=Linear(final.linear.kernel * mask[:, None], final.linear.bias),
        strength=final.strength,
        chosen={n: np.flatnonzero(m) for n, m in zip(train, np.split(mask, ends), strict=True)},
        relevance=dict(zip(train, np.split(scores, ends), strict=True)),
        share=shares[best],
        val_accuracy=accuracies,
    )


def relevance(
    x: Array,
    labels: Array,
    strength: float = 0.1,
    *,
    num_classes: int | None = None,
    steps: int = 300,
) -> jax.Array:
    """The relevance of each feature: the norm of its row of weights under a group lasso.

    Minimises `mean cross-entropy + penalty * sum of the rows' norms` on standardised features.

    Args:
        x: [N, F].
        labels: [N] int.
        strength: the penalty, relative to the smallest one that removes every feature; 0 < x < 1.
        num_classes: K; None for one more than the largest label.
        steps: of the minimisation.

    Returns:
        [F], 0 for features that are not used.

    Raises:
        InputError: see `linear.checked`; the strength is out of range.

    Source: FISTA, Beck & Teboulle 2009, with the restarts of O'Donoghue & Candes 2015.
    """
    if not 0 < strength < 1:
        raise InputError(f'strength is {strength}, wanted 0 < x < 1')
    x, labels, classes = checked(x, labels, num_classes)
    kernel, _ = group_lasso(scaling(x).apply(x), labels, classes, strength, steps)
    return jnp.linalg.norm(kernel, axis=1)


@functools.partial(jax.jit, static_argnums=2)
def group_lasso(
    x: jax.Array, labels: jax.Array, classes: int, strength: float, steps: int
) -> tuple[jax.Array, jax.Array]:
    """The kernel [F, K], with rows of zeros, and the bias [K]; see `relevance`."""
    with jax.default_matmul_precision('highest'):
        # The last column is the bias, without a penalty.
        wide = jnp.concatenate([x, jnp.ones((len(x), 1))], 1)
        targets = jax.nn.one_hot(labels, classes)

        def gradient(weights: jax.Array) -> jax.Array:
            return wide.T @ (jax.nn.softmax(wide @ weights) - targets) / len(x)

        # Without features the probabilities of the best fit are the shares of the classes.
        share = targets.mean(0)
        largest = jnp.linalg.norm(x.T @ (targets - share[None]) / len(x), axis=1).max()
        penalty = strength * largest * jnp.append(jnp.ones(x.shape[1]), 0.0)[:, None]
        rate = 1 / _curvature(wide)

        def shrink(weights: jax.Array) -> jax.Array:
            norms = jnp.linalg.norm(weights, axis=1, keepdims=True)
            least = jnp.finfo(jnp.float32).tiny
            return weights * jnp.maximum(1 - rate * penalty / jnp.maximum(norms, least), 0.0)

        def advance(_, carry):
            weights, extrapolated, momentum = carry
            following = shrink(extrapolated - rate * gradient(extrapolated))
            restart = ((extrapolated - following) * (following - weights)).sum() > 0
            momentum = jnp.where(restart, 1.0, momentum)
            next_momentum = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
            share = jnp.where(restart, 0.0, (momentum - 1) / next_momentum)
            return following, following + share * (following - weights), next_momentum

        bias = jnp.log(jnp.maximum(share, 1e-6))
        start = jnp.zeros((wide.shape[1], classes)).at[-1].set(bias)
        weights, _, _ = jax.lax.fori_loop(0, steps, advance, (start, start, 1.0))
        return weights[:-1], weights[-1]


def _curvature(x: jax.Array) -> jax.Array:
    """A bound of the loss's curvature: half the largest eigenvalue of x' x / N (Boehning 1992)."""

    def multiply(_, vector):
        vector = x.T @ (x @ vector)
        return vector / jnp.linalg.norm(vector)

    # The features' magnitudes are hardly ever orthogonal to the first eigenvector.
    start = jnp.sqrt(jnp.square(x).mean(0)) + 1e-3
    vector = jax.lax.fori_loop(0, 50, multiply, start / jnp.linalg.norm(start))
    return 1.05 * jnp.square(x @ vector).mean() / 2
