"""A config with a sweep of six short cells."""

import tljax
from tests import small_runs


def get_config() -> tljax.Experiment:
    """Four steps on a tiny network."""
    return small_runs.experiment(epochs=1.2, validation_fraction=0.25, log_every_steps=1)


def sweep() -> tljax.Product:
    """Two strategies and three seeds."""
    return tljax.Product(
        tljax.Axis('strategy', [tljax.FineTune(), tljax.LinearProbe()]), tljax.Seeds(3)
    )
