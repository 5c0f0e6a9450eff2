"""Weights of source examples, and the config classes that train source samples (`samples=`).

Weights are pure functions of features, one for each source example, 0 or more, with mean 1. The two
domains are keyword-only arguments, `source=` and `target=`, so that they cannot be swapped.
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
