"""Penalties, which keep a network close to its pretrained start; they are added to the loss.

A penalty is a pure function of parameters and features, and of both at the start. If it reads
features, it is a mean over the real rows of a batch. See docs/penalties.md.
"""

from tljax.strategies.penalties.cotuning import CoTuning, calibration_temperature
from tljax.strategies.penalties.delta import DELTA
from tljax.strategies.penalties.distillation import FeatureDistillation, LogitDistillation
from tljax.strategies.penalties.l2sp import L2SP, L2SPFisher, fisher
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
