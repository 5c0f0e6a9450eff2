"""What a linear layer reads out of features, on images that it was not fitted to, and scores."""

from typing import NamedTuple

import numpy as np

from tljax.features import probes, transferability
from tljax.features.probes import Linear

# Decays of probes, in units of the features' total variance: 600 photographs want about 1e-3.
DECAYS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TOLERANCE, MOST_STEPS = 1e-4, 150  # of the probes' L-BFGS: a ranking wants no more
TRAIN_LIMIT = 1500  # images that a probe is fitted to
MISLEADING = 5  # features for a label from which scores that fit them are not shown


class Fitted(NamedTuple):
    """Linear layers of every strength, and what they say of what they have not seen."""

    logits: np.ndarray  # [L, M, K]
    rows: np.ndarray  # [M], that were held out, fold after fold
    decays: np.ndarray  # [L]
    first: Linear  # [L, ...], fitted without the first fold


def cross_validated(
    x: np.ndarray,
    labels: np.ndarray,
    place: np.ndarray,
    shown: np.ndarray,
    num_classes: int,
    *,
    share: float = 1.0,
) -> Fitted:
    """Logistic regressions of every strength, on the images that each has not seen.

    Args:
        x: features [N, F].
        labels: [N] int.
        place: [N] the fold of each, -1 for those that are always fitted to.
        shown: [N] bool, those that count when they are held out.
        num_classes: K.
        share: of the images to be fitted to that are used.
    """
    decays = np.asarray(DECAYS) * max(float(x.var(0).sum()), 1e-12)
    logits, held_out, layers = [], [], []
    rng = np.random.default_rng(0)
    for index in range(place.max() + 1):
        rows = np.flatnonzero((place == index) & shown)
        if not len(rows):
            continue
        fitted = rng.permutation(np.flatnonzero(place != index))[:TRAIN_LIMIT]
        fitted = fitted[: max(2, round(share * len(fitted)))]
        fit = probes.logistic(
            x[fitted],
            labels[fitted],
            decays,
            num_classes=num_classes,
            tolerance=TOLERANCE,
            max_steps=MOST_STEPS,
        )
        logits.append(np.asarray(fit.linear.logits(x[rows])))
        held_out.append(rows)
        layers.append(fit.linear)
    return Fitted(np.concatenate(logits, 1), np.concatenate(held_out), decays, layers[0])


def scores(x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores of transferability that hold out, have a prior, or have examples enough.

    With few examples for a feature the shrunk H-score calls almost any features good
    (docs/transferability.md), and is left out; H-score, TransRate and SFDA always are.
    """
    present = np.unique(labels)
    known = np.searchsorted(present, labels)
    found = {'LogME': transferability.logme(x, known), 'GBC': transferability.gbc(x, known)}
    if len(x) > 5:
        found['k-NN'] = transferability.knn_accuracy(x, known)
    if len(x) > MISLEADING * x.shape[1]:
        found['H-score, shrunk'] = transferability.shrunk_h_score(x, known)
    return found
