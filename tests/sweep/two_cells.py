"""A config with a sweep of two cells that are as short as possible."""

import tljax
from tests import small_runs


def get_config() -> tljax.Experiment:
    """Two steps on a tiny network."""
    return small_runs.experiment(epochs=0.5, strategy=tljax.LinearProbe())


def sweep() -> tljax.Seeds:
    """Two seeds."""
    return tljax.Seeds(2)
