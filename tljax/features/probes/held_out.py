"""Probabilities of each example from a linear probe that was fitted without it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tljax.features.probes.choice import DECAYS
from tljax.features.probes.lbfgs import logistic
from tljax.features.probes.linear import checked, cross_entropy, scaling
from tljax.types import Array, InputError


def held_out_probabilities(
    x: Array,
    labels: Array,
    *,
    folds: int = 5,
    decays: Sequence[float] = DECAYS,
    num_classes: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Out-of-sample probabilities [N, K] float64, by cross-validation of a logistic probe.

    Folds are stratified and differ by one example at most. The decay is the one with the lowest
    cross-entropy over all folds.

    Args:
        x: features [N, F] of a network that was not trained on these labels.
        labels: [N] int.
        folds: 2 to N.
        decays: strengths to choose from.
        num_classes: K; None for one more than the largest label.
        seed: of the folds.

    Raises:
        InputError: see `linear.checked`; another number of folds.
    """
    x, labels, classes = checked(x, labels, num_classes)
    if not 2 <= folds <= len(x):
        raise InputError(f'folds is {folds}, wanted 2 to {len(x)}, the number of examples')
    scale = scaling(x)  # without labels, so that no fold leaks any
    x = scale.apply(x)
    place = _folds(np.asarray(labels), folds, seed)
    size = len(x) - -(-len(x) // folds)  # one size for all folds, so that they are one program
    logits = np.zeros((len(decays), len(x), classes), np.float32)
    for fold in range(folds):
        rows = np.flatnonzero(place != fold)[:size]
        linear = logistic(x[rows], labels[rows], decays, num_classes=classes).linear
        held = np.flatnonzero(place == fold)
        logits[:, held] = np.asarray(linear.logits(x[held]))
    losses = np.asarray(cross_entropy(jnp.asarray(logits), labels))
    best = jnp.asarray(logits[int(losses.argmin())])
    found = np.asarray(jax.nn.softmax(best), np.float64)
    return found / found.sum(-1, keepdims=True)


def _folds(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold [N] of each example: those of a class are dealt in turn, in random order."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind='stable')]
    place = np.empty(len(labels), int)
    place[by_class] = np.arange(len(labels)) % count
    return place
