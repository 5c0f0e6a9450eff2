"""Transferability scores: how well a pretrained network suits a target, without training it.

Pure functions of a frozen network's outputs for labelled target images, in float64 on the host.
Labels are integers 0 to K - 1, and every class has an example. A larger score is better; the two
distances between source and target are the exception.
"""

from tljax.features.transferability.accuracy import knn_accuracy, linear_probe_accuracy
from tljax.features.transferability.domains import (
    Moments,
    frechet_distance,
    moments,
    proxy_a_distance,
)
from tljax.features.transferability.evidence import logme
from tljax.features.transferability.fisher import h_score, sfda, shrunk_h_score
from tljax.features.transferability.information import leep, nce, nleep
from tljax.features.transferability.separation import gbc, transrate

__all__ = [
    'Moments',
    'frechet_distance',
    'gbc',
    'h_score',
    'knn_accuracy',
    'leep',
    'linear_probe_accuracy',
    'logme',
    'moments',
    'nce',
    'nleep',
    'proxy_a_distance',
    'sfda',
    'shrunk_h_score',
    'transrate',
]
