"""60 cells of the quickstart's size for `benchmarks.sweep_kills`."""

import dataclasses

import tljax
from configs import quickstart


def get_config() -> tljax.Experiment:
    """The quickstart."""
    return dataclasses.replace(quickstart.get_config(), checkpoint_every_steps=20)


def sweep() -> tljax.Product:
    """The cells."""
    return tljax.Product(
        tljax.Axis('strategy', [tljax.FreezeBelow(stage='stage2'), tljax.LinearProbe()]),
        tljax.Axis('optimizer.learning_rate', [0.1, 0.05, 0.02], role='tuned'),
        tljax.Seeds(10),
    )
