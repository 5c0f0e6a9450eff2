"""The scores of all kinds of task, and which of them a record of metrics has.

Records of finished runs are read here without their task, because they are compared with those of
other runs.
"""

from collections.abc import Mapping
from typing import Any

from tljax.types import Score

ACCURACY = Score(name='accuracy', title='accuracy', share='accuracy', share_title='accuracy')
PRECISION = Score(
    name='mean_average_precision',
    title='mAP',
    shown={'micro_f1': 'F1'},
    share='subset_accuracy',
    share_title='all labels correct',
)
EXPLAINED = Score(name='r2', title='R²', measured={'rmse': 'RMSE', 'mae': 'MAE'})
KAPPA = Score(
    name='kappa', title='weighted kappa', shown={'accuracy': 'accuracy'}, measured={'mae': 'MAE'}
)
SCORES = (KAPPA, ACCURACY, PRECISION, EXPLAINED)  # ordered classes have an accuracy, too


def of(metrics: Mapping[str, Any]) -> Score | None:
    """The score of some metrics; None if they have none.

    Metrics of training steps can lack the score and have only its share.
    """
    return next((s for s in SCORES if s.name in metrics or s.share in metrics), None)


def value(metrics: Mapping[str, Any]) -> float | None:
    """The value of the score of some metrics; None without one."""
    score = of(metrics)
    return None if score is None else metrics.get(score.name)
