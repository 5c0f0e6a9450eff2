"""Weights that balance the classes of a training split."""

import numpy as np


def balanced(labels: np.ndarray, num_classes: int) -> tuple[float, ...]:
    """Class weights with the same total for every class, and a mean of 1 over the examples.

    Source: King & Zeng 2001, "Logistic Regression in Rare Events Data", section 4.2; scikit-learn's
    `class_weight='balanced'`: N / (K n_k). The weight of a class without examples is 0.

    Args:
        labels: [N] int.
        num_classes: K.
    """
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.divide(
        len(labels), num_classes * counts, where=counts > 0, out=np.zeros(num_classes)
    )
    return tuple(weights.tolist())


def positive(labels: np.ndarray) -> tuple[float, ...]:
    """Weights of positive labels, per class, that balance positives and negatives.

    Source: King & Zeng 2001, "Logistic Regression in Rare Events Data", section 4.2, up to a
    factor; as `pos_weight` of torch.nn.BCEWithLogitsLoss: negatives divided by positives. The
    weight is 1 for a class that all or no examples have.

    Args:
        labels: [N, K] multi-hot.
    """
    positives = labels.sum(0, dtype=int)
    negatives = len(labels) - positives
    both = (positives > 0) & (negatives > 0)
    return tuple(np.where(both, negatives / np.maximum(positives, 1), 1.0).tolist())
