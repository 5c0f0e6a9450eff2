"""Features: what a frozen prefix makes of images, computed once for all runs of a user.

They are kept on the disk, one store (see `store`) for every way of making them, and found again by
image: another subset, another run or another order of the same images computes nothing.
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
