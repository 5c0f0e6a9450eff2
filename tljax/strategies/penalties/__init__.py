"""Penalties: what fine-tuning is held to, beside the loss; several add up.

Each is a pure function of parameters, features and where both started, a mean over the real rows
of a batch where it reads features. What they compute, and when they help: docs/penalties.md.
"""

from tljax.strategies.penalties.anchors import L2SP, L2SPFisher, fisher
from tljax.strategies.penalties.cotuning import CoTuning, calibration_temperature
from tljax.strategies.penalties.delta import DELTA
from tljax.strategies.penalties.distillation import FeatureDistillation, LogitDistillation
from tljax.strategies.penalties.spectral import BSS

__all__ = [
    'BSS',
    'DELTA',
    'L2SP',
    'CoTuning',
    'FeatureDistillation',
    'L2SPFisher',
    'LogitDistillation',
    'calibration_temperature',
    'fisher',
]
