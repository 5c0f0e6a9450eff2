"""Weights that change during training, by jittable functions: boosting and gradient alignment."""

import math

import jax
import jax.numpy as jnp

from tljax.types import InputError

LEAST_ERROR, MOST_ERROR = 1e-4, 0.499  # limits of the target error, so that weights stay finite


def tradaboost(
    source_weights: jax.Array,
    target_weights: jax.Array,
    *,
    source_losses: jax.Array,
    target_losses: jax.Array,
    rounds: int,
    corrected: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """One round of TrAdaBoost: wrong source examples lose weight, wrong target examples gain it.

    Args:
        source_weights: [N], 0 or more; all 1 before the first round.
        target_weights: [M], like `source_weights`.
        source_losses: [N], losses of the round's classifier: 1 if it is wrong, or 1 minus the
            probability of the label. Values are clipped to [0, 1].
        target_losses: [M], like `source_losses`.
        rounds: total number of rounds. With more rounds each one changes source weights less.
        corrected: multiply source weights by `2 (1 - error)`. Without it they vanish relative to
            the target's, even if the classifier is right about them.

    Returns:
        New weights [N] and [M], with mean 1 over both together.

    Raises:
        InputError: shapes do not fit, or `rounds` is less than 1.

    Source: Dai et al. 2007, "Boosting for Transfer Learning", figure 1; the correction is that of
    Al-Stouhi and Reddy 2011, "Adaptive Boosting for Transfer Learning using Dynamic Updates".
    """
    pairs = {'source': (source_weights, source_losses), 'target': (target_weights, target_losses)}
    for name, (weights, losses) in pairs.items():
        if weights.ndim != 1 or weights.shape != losses.shape:
            raise InputError(
                f'{name} has weights {list(weights.shape)} and losses {list(losses.shape)}, wanted '
                'one of each per example'
            )
    if rounds < 1:
        raise InputError(f'rounds is {rounds}, wanted 1 or more')
    source_losses, target_losses = source_losses.clip(0, 1), target_losses.clip(0, 1)
    error = (target_weights * target_losses).sum() / target_weights.sum()
    error = error.clip(LEAST_ERROR, MOST_ERROR)
    source = faded(source_weights, source_losses, rounds)
    if corrected:
        source = source * 2 * (1 - error)
    target = target_weights * ((1 - error) / error) ** target_losses
    mean = (source.sum() + target.sum()) / (len(source) + len(target))
    return source / mean, target / mean


def faded(weights: jax.Array, losses: jax.Array, rounds: int | jax.Array) -> jax.Array:
    """The source weights after a round of TrAdaBoost, relative to the sum of the target's weights.

    With the correction of `tradaboost`, the sum of the target's weights and every source weight
    have the factor `2 (1 - error)`, which cancels. The factor `beta ** loss` remains.

    Args:
        weights: [N].
        losses: [N] in [0, 1].
        rounds: total number of rounds.
    """
    return weights * (1 / (1 + jnp.sqrt(2 * math.log(len(weights)) / rounds))) ** losses


def gradient_alignment(
    *,
    source_features: jax.Array,
    source_errors: jax.Array,
    target_features: jax.Array,
    target_errors: jax.Array,
) -> jax.Array:
    """Weights by how much a gradient step on a source example would reduce the target's loss.

    The weight is the product of the two losses' gradients with respect to a shared linear head, or
    0 if the product is negative.

    Args:
        source_features: [N, F], inputs of the head.
        source_errors: [N, K], the gradient of each example's loss with respect to its logits. For
            the cross-entropy it is probabilities minus targets.
        target_features: [M, F].
        target_errors: [M, K].

    Returns:
        [N] with mean 1; all 0 if no source example would help.

    Raises:
        InputError: shapes do not fit.

    Source: Ren et al. 2018, "Learning to Reweight Examples for Robust Deep Learning", equations 12
    to 14, for the last layer.
    """
    shapes = [list(a.shape) for a in (source_features, source_errors)]
    others = [list(a.shape) for a in (target_features, target_errors)]
    fits = all(a[0] == b[0] and len(a) == len(b) == 2 for a, b in (shapes, others))
    if not fits or any(a[1] != b[1] for a, b in zip(shapes, others, strict=True)):
        raise InputError(
            f'source has features and errors of {shapes}, target of {others}, wanted [N, F] and '
            '[N, K], [M, F] and [M, K]'
        )
    gradient = target_features.T @ target_errors / len(target_features)  # [F, K], by the kernel
    return alignment(source_features, source_errors, gradient, target_errors.mean(0))


def alignment(
    features: jax.Array,
    errors: jax.Array,
    slope: jax.Array,
    offset: jax.Array,
    mask: jax.Array | None = None,
) -> jax.Array:
    """`gradient_alignment` with a known gradient of the target's loss.

    Args:
        features: [N, F] of the source.
        errors: [N, K] of the source.
        slope: [F, K], the gradient with respect to the layer's kernel.
        offset: [K], the gradient with respect to its bias.
        mask: [N] bool, the examples to use; None for all. The others get weight 0.
    """
    aligned = ((features @ slope + offset[None]) * errors).sum(1)
    aligned = jnp.maximum(aligned, 0)
    if mask is not None:
        aligned = jnp.where(mask, aligned, 0)
    mean = aligned.mean() if mask is None else aligned.sum() / jnp.maximum(mask.sum(), 1)
    return jnp.where(mean > 0, aligned / jnp.where(mean > 0, mean, 1), 0)
