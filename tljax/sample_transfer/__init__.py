"""Weights of source examples, and how a config trains such examples too (`samples=`).

The weights are pure functions of cached features.
What needs two domains takes them by name, `source=` and `target=`: exchanged, the weights would be
those of the other. Weights are 0 or more, one for each source example, of mean 1.
"""

from tljax.sample_transfer.kernels import (
    kernel_mean_matching,
    kliep,
)
from tljax.sample_transfer.logistic import logistic_ratio
from tljax.sample_transfer.selection import (
    class_importance,
    nearest_selection,
)
from tljax.sample_transfer.size import (
    clip_to_share,
    effective_sample_size,
    uniform,
)
from tljax.sample_transfer.source import (
    Guard,
    LabelledSource,
    UnlabelledPool,
    WithoutSource,
)
from tljax.sample_transfer.updates import (
    alignment,
    faded,
    gradient_alignment,
    tradaboost,
)
from tljax.sample_transfer.weighing import (
    ClassImportance,
    GradientAlignment,
    KernelMeanMatching,
    Kliep,
    LogisticRatio,
    NearestSelection,
    TrAdaBoost,
    Uniform,
)

__all__ = [
    'ClassImportance',
    'GradientAlignment',
    'Guard',
    'KernelMeanMatching',
    'Kliep',
    'LabelledSource',
    'LogisticRatio',
    'NearestSelection',
    'TrAdaBoost',
    'Uniform',
    'UnlabelledPool',
    'WithoutSource',
    'alignment',
    'class_importance',
    'clip_to_share',
    'effective_sample_size',
    'faded',
    'gradient_alignment',
    'kernel_mean_matching',
    'kliep',
    'logistic_ratio',
    'nearest_selection',
    'tradaboost',
    'uniform',
]
