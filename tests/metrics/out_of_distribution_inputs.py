"""The features that out-of-distribution scores are computed for, by the tests and the reference."""

import numpy as np


def inputs():
    """A linear head on features [N, 12] of three classes; unfamiliar features lie elsewhere.

    Returns:
        The features by set, the labels of the training set, the kernel and the bias of the head.
    """
    rng = np.random.default_rng(3)
    kernel, bias = rng.normal(0, 0.5, (12, 3)), rng.normal(0, 0.2, 3)
    centres = rng.normal(0, 1.5, (3, 12))
    labels = np.arange(90) % 3
    x = {
        'train': centres[labels] + rng.normal(0, 1, (90, 12)),
        'familiar': centres[np.arange(40) % 3] + rng.normal(0, 1, (40, 12)),
        'unfamiliar': rng.normal(0.6, 1.4, (35, 12)),
    }
    x = {name: np.round(values, 3) for name, values in x.items()}
    return x, labels, np.round(kernel, 3), np.round(bias, 3)
