"""Features: the outputs of a frozen prefix, computed once and cached on disk for all runs.

Every configuration of a prefix has its own store (see `data.array_store`). In it a row is
identified by its image, so another subset or order of the same images computes nothing.
"""

from tljax.features import probes, transferability
from tljax.features.collected import Features
from tljax.features.extraction import extract, extract_all, fits
from tljax.features.prefix import Prefix, TrainingViews
from tljax.features.rows import Rows
from tljax.features.suffix import suffix
from tljax.models.layers import Pooling

__all__ = [
    'Features',
    'Pooling',
    'Prefix',
    'Rows',
    'TrainingViews',
    'extract',
    'extract_all',
    'fits',
    'probes',
    'suffix',
    'transferability',
]
