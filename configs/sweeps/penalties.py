"""Penalties on handwritten digits with 5 labels per class.

tljax sweep --config=sweeps/penalties

The quickstart for 120 steps, with each penalty and without one. Results: docs/penalties.md.
"""

import dataclasses

import tljax
from configs import quickstart


def get_config() -> tljax.Experiment:
    """The quickstart with half of the labels."""
    return dataclasses.replace(
        quickstart.get_config(), per_class=5, epochs=120.0, evaluate_every_epochs=40.0
    )


def sweep() -> tljax.Product:
    """One penalty at a time."""
    penalties = {
        'none': (),
        'L2SP': (tljax.L2SP(),),
        'L2SPFisher': (tljax.L2SPFisher(),),
        'DELTA': (tljax.DELTA(),),
        'BSS': (tljax.BSS(),),
        'FeatureDistillation': (tljax.FeatureDistillation(),),
        'LogitDistillation': (tljax.LogitDistillation(),),
        'CoTuning': (tljax.CoTuning(),),
    }
    return tljax.Product(
        tljax.Axis('penalties', penalties, baseline='none'),
        tljax.Seeds(3),
    )
