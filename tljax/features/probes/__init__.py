"""Probes: simple classifiers on features, fitted without a pass over the images.

All are pure functions of features [N, F] and labels [N], in float32 on the default device. Linear
probes return a `Linear`, which can be the last layer of a head.
"""

from tljax.features.probes import grid
from tljax.features.probes.choice import DECAYS, Probe, by_stage, choose
from tljax.features.probes.grid import Axes
from tljax.features.probes.held_out import held_out_probabilities
from tljax.features.probes.lbfgs import Fit, logistic
from tljax.features.probes.least_squares import ridge, ridge_classifier, ridge_leave_one_out
from tljax.features.probes.linear import Linear, Scaling, accuracy, cross_entropy, scaling
from tljax.features.probes.means import Distance, discriminant, nearest_mean
from tljax.features.probes.neighbours import neighbour_votes
from tljax.features.probes.selection import Selected, head2toe, relevance
from tljax.features.probes.spectrum import Basis, basis

__all__ = [
    'DECAYS',
    'Axes',
    'Basis',
    'Distance',
    'Fit',
    'Linear',
    'Probe',
    'Scaling',
    'Selected',
    'accuracy',
    'basis',
    'by_stage',
    'choose',
    'cross_entropy',
    'discriminant',
    'grid',
    'head2toe',
    'held_out_probabilities',
    'logistic',
    'nearest_mean',
    'neighbour_votes',
    'relevance',
    'ridge',
    'ridge_classifier',
    'ridge_leave_one_out',
    'scaling',
]
