"""Out-of-sample class probabilities by cross-validation of a linear probe."""

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
    """Class probabilities of every example, from logistic regressions that were fitted without it.

    Folds are stratified and differ by one example at most. The decay with the lowest cross-entropy
    over all folds is used.

    Args:
        x: features [N, F] of a network that was not trained on these labels.
        labels: [N] int.
        folds: 2 to N.
        decays: candidates for the strength of the regularisation.
        num_classes: K; None for one more than the largest label.
        seed: of the folds.

    Returns:
        [N, K] float64.

    Raises:
        InputError: see `linear.checked`; `folds` is out of range.
    """
    x, labels, classes = checked(x, labels, num_classes)
    if not 2 <= folds <= len(x):
        raise InputError(f'folds is {folds}, wanted 2 to {len(x)}, the number of examples')
    scale = scaling(x)  # does not use labels, so no fold leaks any
    x = scale.apply(x)
    place = _folds(np.asarray(labels), folds, seed)
    size = len(x) - -(-len(x) // folds)  # the same for all folds, so that they share one program
    logits = np.zeros((len(decays), len(x), classes), np.float32)
    for fold in range(folds):
        rows = np.flatnonzero(place != fold)[:size]
        linear = logistic(x[rows], labels[rows], decays, num_classes=classes).linear
        held = np.flatnonzero(place == fold)
        logits[:, held] = np.asarray(linear.logits(x[held]))
    losses = np.asarray(cross_entropy(jnp.asarray(logits), labels))
    best = jnp.asarray(logits[int(losses.argmin())])
    probabilities = np.asarray(jax.nn.softmax(best), np.float64)
    return probabilities / probabilities.sum(-1, keepdims=True)


def _folds(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold [N] of each example; the examples of a class are dealt to the folds in turn."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind='stable')]
    place = np.empty(len(labels), int)
    place[by_class] = np.arange(len(labels)) % count
    return place
