"""Cross-validated linear probes of features, and transferability scores."""

import dataclasses
from typing import NamedTuple

import numpy as np

from tljax.advise.held_out import HeldOutPredictions
from tljax.features import probes, transferability
from tljax.features.probes import Linear

# Weight decays in units of the features' total variance. 600 photographs need about 1e-3.
DECAYS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TOLERANCE, MAX_STEPS = 1e-4, 150  # of L-BFGS; enough to rank stages
TRAIN_LIMIT = 1500  # images that a probe is fitted to
MIN_IMAGES_PER_FEATURE = 5  # below it the shrunk H-score misleads


class CrossValidated(NamedTuple):
    """Probes of every weight decay on held-out images.

    `predictions` has one entry per decay. `first` [L, ...] was fitted without the first fold.
    """

    predictions: list[HeldOutPredictions]
    decays: np.ndarray
    first: Linear

    @property
    def best(self) -> HeldOutPredictions:
        """The predictions with the smallest loss."""
        return min(self.predictions, key=lambda one: one.losses_at(1.0).mean())


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledFolds:
    """Labelled images and the folds in which they are held out.

    Attributes:
        ids: [M] of the images.
        labels: [M] int.
        partitions: each [M] int, the fold of every image; -1 for images that are never held out.
        evaluated: [M] bool, the images that are evaluated when they are held out.
        num_classes: K.
    """

    ids: np.ndarray
    labels: np.ndarray
    partitions: tuple[np.ndarray, ...]
    evaluated: np.ndarray
    num_classes: int

    def cross_validate(
        self, x: np.ndarray, partition: int = 0, *, train_share: float = 1.0
    ) -> CrossValidated:
        """Fits logistic regressions of every weight decay on all folds but one, for each fold.

        Args:
            x: features [M, F].
            partition: which of the partitions.
            train_share: share of the training images that is used.
        """
        fold_of = self.partitions[partition]
        decays = np.asarray(DECAYS) * max(float(x.var(0).sum()), 1e-12)
        logits, held_out, layers = [], [], []
        rng = np.random.default_rng(0)
        for index in range(fold_of.max() + 1):
            rows = np.flatnonzero((fold_of == index) & self.evaluated)
            if not len(rows):
                continue
            train = rng.permutation(np.flatnonzero(fold_of != index))[:TRAIN_LIMIT]
            train = train[: max(2, round(train_share * len(train)))]
            fit = probes.logistic(
                x[train],
                self.labels[train],
                decays,
                num_classes=self.num_classes,
                tolerance=TOLERANCE,
                max_steps=MAX_STEPS,
            )
            logits.append(np.asarray(fit.linear.logits(x[rows])))
            held_out.append(rows)
            layers.append(fit.linear)
        rows = np.concatenate(held_out)
        return CrossValidated(
            predictions=[
                HeldOutPredictions(ids=self.ids[rows], labels=self.labels[rows], logits=one)
                for one in np.concatenate(logits, 1)
            ],
            decays=decays,
            first=layers[0],
        )


def transferability_scores(x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Transferability scores that do not overfit to so many features.

    The shrunk H-score rates almost any features as good if there are few images per feature
    (docs/transferability.md), and is then left out. H-score, TransRate and SFDA always are.

    Args:
        x: features [N, F].
        labels: [N] int.
    """
    present = np.unique(labels)
    indices = np.searchsorted(present, labels)
    result = {'LogME': transferability.logme(x, indices), 'GBC': transferability.gbc(x, indices)}
    if len(x) > 5:
        result['k-NN'] = transferability.knn_accuracy(x, indices)
    if len(x) > MIN_IMAGES_PER_FEATURE * x.shape[1]:
        result['H-score, shrunk'] = transferability.shrunk_h_score(x, indices)
    return result
