"""Scores by what source outputs, or clusters of features, say about target labels."""

import warnings

import numpy as np

from tljax.features.transferability import checks, spectra
from tljax.features.transferability.checks import Classes
from tljax.types import Array, InputError


def leep(source_probabilities: Array, labels: Array) -> float:
    """Log expected empirical prediction: larger is better, at most 0.

    How well the target label is predicted by drawing a source class from the network's output, and
    then a target class from those that went with it.

    Args:
        source_probabilities: [N, Z], the network's own softmax over its Z source classes, for the
            target's examples. First, and not the logits.
        labels: [N] integers 0 to K - 1, the target's. Second.

    Returns:
        The mean log probability of the target label, in nats.

    Raises:
        InputError: other shapes or types, rows that are no distributions, a class without examples.

    Source: Nguyen et al. 2020, "LEEP: A New Measure to Evaluate Transferability of Learned
    Representations".
    """
    probabilities = checks.probabilities('source_probabilities', source_probabilities)
    return _leep(probabilities, checks.classes('labels', labels, len(probabilities)))


def _leep(probabilities: np.ndarray, classes: Classes) -> float:
    joint = classes.sums(probabilities)  # [K, Z], times N
    used = joint.sum(0) > 0
    target_given_source = joint[:, used] / joint[:, used].sum(0)
    predicted = probabilities[:, used] @ target_given_source.T
    return float(np.log(predicted[np.arange(len(predicted)), classes.labels]).mean())


def nleep(
    features: Array,
    labels: Array,
    *,
    components_per_class: int = 5,
    energy: float = 0.8,
    seed: int = 0,
) -> float:
    """LEEP with clusters of features for source classes: larger is better, at most 0.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        components_per_class: Gaussians of the mixture, divided by K.
        energy: the share of the variance that the principal components before it keep.
        seed: of the mixture's start.

    Returns:
        The mean log probability of the target label, in nats.

    Raises:
        InputError: other shapes, types or ranges, values that are not finite, a class without
            examples, fewer examples than Gaussians.

    Source: Li et al. 2021, "Ranking Neural Checkpoints".
    """
    x = checks.matrix('features', features)
    classes = checks.classes('labels', labels, len(x))
    components = components_per_class * len(classes.counts)
    if not 0 < energy <= 1:
        raise InputError(f'energy is {energy}, wanted 0 < energy <= 1')
    if not 0 < components <= len(x):
        raise InputError(
            f'components_per_class is {components_per_class}, {components} Gaussians for {len(x)} '
            'examples: wanted 1 to N / K'
        )
    from sklearn.exceptions import ConvergenceWarning  # a slow import that only this score needs
    from sklearn.mixture import GaussianMixture

    found = spectra.factors(x - x.mean(0))
    if not len(found.squares):
        return _leep(np.ones((len(x), 1)), classes)
    share = np.cumsum(found.squares) / found.squares.sum()
    kept = min(int(np.searchsorted(share, energy)) + 1, len(share))
    reduced = found.left()[:, :kept] * np.sqrt(found.squares[:kept] / found.squares[0] * len(x))
    mixture = GaussianMixture(components, random_state=seed)
    with warnings.catch_warnings():  # it says so when 100 iterations were not enough
        warnings.simplefilter('ignore', ConvergenceWarning)
        mixture.fit(reduced)
    return _leep(mixture.predict_proba(reduced), classes)


def nce(*, source_labels: Array, target_labels: Array) -> float:
    """Negative conditional entropy of the target's labels: larger is better, at most 0.

    It says how little is left to know of the target label once the source label is known,
    `-H(target | source)`. The other way round it is another number, hence the names.

    Args:
        source_labels: [N] integers, the source class of each target example: its label there, or
            the network's most probable class.
        target_labels: [N] integers 0 to K - 1.

    Returns:
        Minus the entropy, in nats.

    Raises:
        InputError: other shapes or types, a target class without examples.

    Source: Tran et al. 2019, "Transferability and Hardness of Supervised Classification Tasks".
    """
    source = checks.integers('source_labels', source_labels)
    classes = checks.classes('target_labels', target_labels, len(source))
    _, source = np.unique(source, return_inverse=True)
    joint = np.zeros((source.max() + 1, len(classes.counts)))
    np.add.at(joint, (source, classes.labels), 1)
    given = joint / joint.sum(1, keepdims=True)
    return float((joint[joint > 0] * np.log(given[joint > 0])).sum() / len(source))
