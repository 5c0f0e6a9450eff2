"""A linear layer on chosen features of all stages."""

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
    """A probe of the most relevant features of all stages.

    Attributes:
        linear: of the stages' features one behind the other, in their order; 0 where not chosen.
        strength: of the regularisation of that layer.
        chosen: the indices of the chosen features, by stage.
        relevance: of every feature, by stage.
        share: of all features that was chosen.
        val_accuracy: [S], of each share with its best strength.
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
    """Chooses features of all stages by group lasso, and their share on validation.

    Source: Evci et al. 2022, "Head2Toe: Utilizing Intermediate Representations for Better Transfer
    Learning", section 3: a feature's relevance is the norm of its row of weights. Here features
    are standardised, and the layer on the chosen ones is a probe of its own.

    Args:
        train: features [N, F] by stage, from the lowest to the highest; F may differ.
        labels: [N].
        val: features [M, F] of the same stages.
        val_labels: [M].
        shares: of all features, S of them.
        strength: of the lasso, as a share of the least one that leaves no feature.
        num_classes: K; None for one more than the largest label.
        **options: of `choose`, for the layer on what was chosen.

    Raises:
        InputError: the stages differ, a share is out of range; see `choose`.
    """
    same_stages(train, val)
    if not shares or not all(0 < share <= 1 for share in shares):
        raise InputError(f'shares are {list(shares)}, wanted one or more, each 0 < x <= 1')
    both = [jnp.concatenate([jnp.asarray(x) for x in part.values()], 1) for part in (train, val)]
    scores = np.asarray(relevance(both[0], labels, strength, num_classes=num_classes))
    place = np.argsort(np.argsort(-scores, kind='stable'))
    masks = [place < max(1, round(share * len(place))) for share in shares]

    def probe(mask: np.ndarray, refit: bool) -> Probe:
        # Zeros in the place of what is not chosen, so that all shares are one program.
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
    """How much a linear layer needs of each feature: norms of rows under a group lasso.

    Minimises `mean cross-entropy + penalty * sum of the rows' norms` on standardised features, by
    FISTA (Beck & Teboulle 2009) with the restarts of O'Donoghue & Candes 2015.

    Args:
        x: [N, F].
        labels: [N] int.
        strength: the penalty, as a share of the least one that leaves no feature; 0 < x < 1.
        num_classes: K; None for one more than the largest label.
        steps: of the minimisation.

    Returns:
        [F], 0 for features that are not needed.

    Raises:
        InputError: see `linear.checked`; a strength out of range.
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
    """A layer whose kernel [F, K] has rows of zeros, and its bias [K]; see `relevance`."""
    with jax.default_matmul_precision('highest'):
        # A column of ones is the bias; it is not penalised.
        wide = jnp.concatenate([x, jnp.ones((len(x), 1))], 1)
        targets = jax.nn.one_hot(labels, classes)

        def gradient(weights: jax.Array) -> jax.Array:
            return wide.T @ (jax.nn.softmax(wide @ weights) - targets) / len(x)

        # At the bias alone that fits best, probabilities are the classes' shares.
        share = targets.mean(0)
        largest = jnp.linalg.norm(x.T @ (targets - share[None]) / len(x), axis=1).max()
        penalty = strength * largest * jnp.append(jnp.ones(x.shape[1]), 0.0)[:, None]
        rate = 1 / _curvature(wide)

        def shrink(weights: jax.Array) -> jax.Array:
            norms = jnp.linalg.norm(weights, axis=1, keepdims=True)
            least = jnp.finfo(jnp.float32).tiny
            return weights * jnp.maximum(1 - rate * penalty / jnp.maximum(norms, least), 0.0)

        def advance(_, carry):
            weights, ahead, momentum = carry
            following = shrink(ahead - rate * gradient(ahead))
            back = ((ahead - following) * (following - weights)).sum() > 0
            momentum = jnp.where(back, 1.0, momentum)
            grown = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
            share = jnp.where(back, 0.0, (momentum - 1) / grown)
            return following, following + share * (following - weights), grown

        bias = jnp.log(jnp.maximum(share, 1e-6))
        start = jnp.zeros((wide.shape[1], classes)).at[-1].set(bias)
        weights, _, _ = jax.lax.fori_loop(0, steps, advance, (start, start, 1.0))
        return weights[:-1], weights[-1]


def _curvature(x: jax.Array) -> jax.Array:
    """A bound of the cross-entropy's: half the largest eigenvalue of x' x / N (Boehning 1992)."""

    def turn(_, vector):
        vector = x.T @ (x @ vector)
        return vector / jnp.linalg.norm(vector)

    # The root of the rows' sizes is not orthogonal to the first eigenvector by accident.
    start = jnp.sqrt(jnp.square(x).mean(0)) + 1e-3
    vector = jax.lax.fori_loop(0, 50, turn, start / jnp.linalg.norm(start))
    return 1.05 * jnp.square(x @ vector).mean() / 2
