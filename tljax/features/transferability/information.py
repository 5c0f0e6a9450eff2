"""Scores from the information that upstream outputs, or clusters of features, have on labels."""

import warnings

import numpy as np

from tljax.features.transferability import checks, spectra
from tljax.features.transferability.checks import ClassLabels
from tljax.types import Array, InputError


def leep(source_probabilities: Array, labels: Array) -> float:
    """Log expected empirical prediction: larger is better, at most 0.

    The log probability of the target label under this model: draw an upstream class from the
    network's output, then a target class from its empirical distribution given the upstream class.

    Args:
        source_probabilities: [N, Z], softmax outputs (not logits) of the network over its Z
            upstream classes, for the target's examples.
        labels: [N] integers 0 to K - 1 of the target.

    Returns:
        The mean log probability of the target label, in nats.

    Raises:
        InputError: a shape or type does not fit, rows are not probabilities, or a class has no
            examples.

    Source: Nguyen et al. 2020, "LEEP: A New Measure to Evaluate Transferability of Learned
    Representations".
    """
    probabilities = checks.probabilities('source_probabilities', source_probabilities)
    return _leep(probabilities, checks.classes('labels', labels, len(probabilities)))


def _leep(probabilities: np.ndarray, classes: ClassLabels) -> float:
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
    """LEEP with clusters of the features as upstream classes: larger is better, at most 0.

    Args:
        features: [N, F] of the target's examples.
        labels: [N] integers 0 to K - 1.
        components_per_class: number of Gaussians of the mixture, divided by K.
        energy: share of the variance that is kept by the principal components.
        seed: of the mixture's initialisation.

    Returns:
        The mean log probability of the target label, in nats.

    Raises:
        InputError: a shape, type or range does not fit, a value is not finite, a class has no
            examples, or there are fewer examples than Gaussians.

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
    from sklearn.exceptions import ConvergenceWarning  # a slow import for this score only
    from sklearn.mixture import GaussianMixture

    factors = spectra.factors(x - x.mean(0))
    squares = factors.squares
    if not len(squares):
        return _leep(np.ones((len(x), 1)), classes)
    share = np.cumsum(squares) / squares.sum()
    kept = min(int(np.searchsorted(share, energy)) + 1, len(share))
    reduced = factors.left()[:, :kept] * np.sqrt(squares[:kept] / squares[0] * len(x))
    mixture = GaussianMixture(components, random_state=seed)
    with warnings.catch_warnings():  # the mixture need not converge within 100 iterations
        warnings.simplefilter('ignore', ConvergenceWarning)
        mixture.fit(reduced)
    return _leep(mixture.predict_proba(reduced), classes)


def nce(*, source_labels: Array, target_labels: Array) -> float:
    """Negative conditional entropy of the target's labels: larger is better, at most 0.

    The value is `-H(target | upstream)`. Swapped arguments give another number, therefore they are
    keyword-only.

    Args:
        source_labels: [N] integers, the upstream class of each target example: its label in the
            upstream task, or the network's most probable class.
        target_labels: [N] integers 0 to K - 1.

    Returns:
        Minus the conditional entropy, in nats.

    Raises:
        InputError: a shape or type does not fit, or a target class has no examples.

    Source: Tran et al. 2019, "Transferability and Hardness of Supervised Classification Tasks".
    """
    source = checks.integers('source_labels', source_labels)
    classes = checks.classes('target_labels', target_labels, len(source))
    _, source = np.unique(source, return_inverse=True)
    joint = np.zeros((source.max() + 1, len(classes.counts)))
    np.add.at(joint, (source, classes.labels), 1)
    conditional = joint / joint.sum(1, keepdims=True)
    return float((joint[joint > 0] * np.log(conditional[joint > 0])).sum() / len(source))
