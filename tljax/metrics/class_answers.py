"""The probabilities of classes as lines, columns and JSON entries, for tasks that predict them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tljax.types import Loss

ALIGNED_CLASSES = 100  # with more classes, the column of class names is not aligned


class ClassAnswers:
    """The methods of `types.Task` on which all tasks with probabilities of K classes agree."""

    __slots__ = ()

    def prepared(self, labels: np.ndarray, loss: Loss) -> Any:
        """The task itself: it takes nothing from the labels."""
        return self

    def counted(self, count: int) -> str:
        """`10 classes`."""
        return f'{count} classes'

    def intervals(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """None besides that of the score's share."""
        return {}

    def scored(self, decided: np.ndarray, labels: np.ndarray) -> float | None:
        """None, because accuracies are means over examples."""
        return None

    def class_logits(self, logits: np.ndarray) -> np.ndarray:
        """The outputs themselves."""
        return logits

    def best(self, row: np.ndarray) -> int:
        """The predicted class of probabilities [K]: the most probable one."""
        return int(row.argmax())

    def shown(self, row: np.ndarray, names: Sequence[str], most: int) -> list[str]:
        """The most probable classes with their probabilities, in aligned columns."""
        letters = max(map(len, names)) if len(names) <= ALIGNED_CLASSES else 0
        best = np.argsort(-row, kind='stable')[:most]
        return [f'{names[i]:<{letters}} {row[i]:>6.1%}' for i in best]

    def cells(self, row: np.ndarray, names: Sequence[str]) -> dict[str, str | float]:
        """`predicted`, and `p_NAME` for each class."""
        shares: Mapping[str, float] = {
            f'p_{name}': float(p) for name, p in zip(names, row, strict=True)
        }
        return {'predicted': names[self.best(row)], **shares}

    def record(self, row: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """`predicted`, and `probabilities` by class."""
        values = (float(f'{p:.7g}') for p in row)
        return {
            'predicted': names[self.best(row)],
            'probabilities': dict(zip(names, values, strict=True)),
        }
