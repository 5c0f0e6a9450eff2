"""Out-of-distribution scores: larger for images like those of training.

All functions compute in NumPy float64, from logits [N, K] or from features [N, F], the pooled
input of the head. Features are compared with those of the training images.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy.linalg
import scipy.special

from tljax.types import Array, InputError

NEIGHBOURS = 10
BLOCK = 256  # images whose distances to the training images are in memory at a time
OF_LOGITS = ('max_softmax', 'energy', 'max_logit')
OF_FEATURES = ('mahalanobis', 'knn', 'vim')
SCORES = (*OF_LOGITS, *OF_FEATURES)


def max_softmax(logits: Array) -> np.ndarray:
    """The largest probability. Source: Hendrycks & Gimpel 2017."""
    return scipy.special.softmax(np.asarray(logits, np.float64), -1).max(-1)


def energy(logits: Array) -> np.ndarray:
    """Minus the free energy, the logarithm of the sum of exponentials of the logits.

    Source: Liu et al. 2020, "Energy-based out-of-distribution detection", at temperature 1.
    """
    return np.asarray(scipy.special.logsumexp(np.asarray(logits, np.float64), -1))


def max_logit(logits: Array) -> np.ndarray:
    """The largest logit. Source: Hendrycks et al. 2022, "Scaling out-of-distribution detection"."""
    return np.asarray(logits, np.float64).max(-1)


@dataclasses.dataclass(frozen=True)
class Mahalanobis:
    """Minus the squared Mahalanobis distance to the nearest class mean.

    Attributes:
        means: [K', F], of the K' classes that have training images.
        precision: [F, F], the pseudoinverse of the covariance within classes.
    """

    means: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, features: Array, labels: Array) -> 'Mahalanobis':
        """Fits the means and the covariance, which all classes share.

        Source: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
        samples", equation 1.

        Args:
            features: [N, F], of training images.
            labels: [N] int.
        """
        x, labels = np.asarray(features, np.float64), np.asarray(labels)
        classes, indices = np.unique(labels, return_inverse=True)
        means = np.stack([x[labels == label].mean(0) for label in classes])
        within = x - means[indices]
        return cls(means, np.asarray(scipy.linalg.pinvh(within.T @ within / len(x))))

    def __call__(self, features: Array) -> np.ndarray:
        """The scores [N] of features [N, F]."""
        x = np.asarray(features, np.float64)
        distances = []
        for mean in self.means:
            centred = x - mean
            distances.append(np.einsum('nf,nf->n', centred @ self.precision, centred))
        return -np.min(distances, 0)


@dataclasses.dataclass(frozen=True)
class NearestNeighbours:
    """Minus the distance to the k-th nearest training image; features are scaled to length 1.

    Source: Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors". k is 10,
    their value for 1 % of ImageNet, or the number of training images if that is smaller.

    Attributes:
        features: [N, F], of training images, scaled to length 1.
        k: counts from 1.
    """

    features: np.ndarray
    k: int = NEIGHBOURS

    @classmethod
    def fit(cls, features: Array, k: int = NEIGHBOURS) -> 'NearestNeighbours':
        """Stores the features [N, F] of training images."""
        x = unit_length(features)
        return cls(x, min(k, len(x)))

    def __call__(self, features: Array) -> np.ndarray:
        """The scores [N] of features [N, F]."""
        x = unit_length(features)
        scores = []
        for start in range(0, len(x), BLOCK):
            products = x[start : start + BLOCK] @ self.features.T
            nearest = -np.partition(-products, self.k - 1, -1)[:, self.k - 1]
            scores.append(-np.sqrt(np.maximum(2 - 2 * nearest, 0)))
        return np.concatenate([np.zeros(0), *scores])


def unit_length(features: Array) -> np.ndarray:
    """Features [N, F] as float64, scaled to length 1."""
    x = np.asarray(features, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


@dataclasses.dataclass(frozen=True)
class VirtualLogit:
    """The energy minus a virtual logit, the norm of the features outside their principal subspace.

    Attributes:
        origin: [F], the features for which the head gives logits near 0.
        residual: [F, R], a basis of the complement of the principal subspace.
        alpha: scales the mean norm of the residual to the mean largest logit, on training images.
    """

    origin: np.ndarray
    residual: np.ndarray
    alpha: float

    @classmethod
    def fit(cls, features: Array, logits: Array, kernel: Array, bias: Array) -> 'VirtualLogit':
        """Fits the subspace and the scale.

        Source: Wang et al. 2022, "ViM: out-of-distribution with virtual-logit matching". The
        principal subspace has 1000 dimensions for at least 2048 features and 512 for at least 768,
        as in the paper, and otherwise half as many as there are features.

        Args:
            features: [N, F], of training images.
            logits: [N, K].
            kernel: [F, K], of the linear head.
            bias: [K].
        """
        x, kernel = np.asarray(features, np.float64), np.asarray(kernel, np.float64)
        origin = -np.linalg.pinv(kernel.T) @ np.asarray(bias, np.float64)
        size = x.shape[1]
        principal = 1000 if size >= 2048 else 512 if size >= 768 else size // 2
        centred = x - origin
        _, vectors = np.linalg.eigh(centred.T @ centred / len(x))  # from the smallest eigenvalue
        residual = vectors[:, : size - principal]
        length = np.linalg.norm(centred @ residual, axis=-1).mean()
        alpha = float(np.asarray(logits, np.float64).max(-1).mean() / max(length, 1e-12))
        return cls(origin, residual, alpha)

    def __call__(self, features: Array, logits: Array) -> np.ndarray:
        """The scores [N] of features [N, F] with their logits [N, K]."""
        centred = np.asarray(features, np.float64) - self.origin
        return energy(logits) - self.alpha * np.linalg.norm(centred @ self.residual, axis=-1)


@dataclasses.dataclass(frozen=True)
class Scorer:
    """The scores of a network; without training images, those of features are None.

    Attributes:
        mahalanobis: see `Mahalanobis`.
        knn: see `NearestNeighbours`.
        vim: see `VirtualLogit`; also None if the head is not one linear layer.
    """

    mahalanobis: Mahalanobis | None = None
    knn: NearestNeighbours | None = None
    vim: VirtualLogit | None = None

    @classmethod
    def fit(
        cls,
        features: Array,
        logits: Array,
        labels: Array,
        linear: Mapping[str, Array] | None,
    ) -> 'Scorer':
        """Fits every score to training images.

        Args:
            features: [N, F].
            logits: [N, K].
            labels: [N] int.
            linear: `kernel` [F, K] and `bias` [K] of a head that is one linear layer.
        """
        vim = None
        if linear is not None:
            vim = VirtualLogit.fit(features, logits, linear['kernel'], linear['bias'])
        return cls(Mahalanobis.fit(features, labels), NearestNeighbours.fit(features), vim)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the available scores."""
        return (*OF_LOGITS, *(name for name in OF_FEATURES if getattr(self, name) is not None))

    def score(self, name: str, logits: Array, features: Array | None = None) -> np.ndarray:
        """The scores [N] of images by their logits [N, K] and features [N, F].

        Raises:
            InputError: the score is not available.
        """
        if name in OF_LOGITS:
            of_logits = {'max_softmax': max_softmax, 'energy': energy, 'max_logit': max_logit}
            return of_logits[name](logits)
        fitted = getattr(self, name) if name in OF_FEATURES else None
        if fitted is None or features is None:
            raise InputError(f'there is no score {name!r}, wanted one of {", ".join(self.names)}')
        return fitted(features, logits) if name == 'vim' else fitted(features)
