"""The task of examples that do not state one."""

from typing import Any, Protocol

import numpy as np

from tljax.metrics.tasks.classes import Classes
from tljax.metrics.tasks.label_sets import LabelSets
from tljax.types import Task


class Labelled(Protocol):
    """Examples, or other labelled rows."""

    @property
    def labels(self) -> np.ndarray:
        """[N, ...]."""
        ...

    @property
    def task(self) -> Task | None:
        """None if nothing states it."""
        ...


def of(examples: Labelled) -> Task:
    """The task that examples state, or else that of their labels."""
    return of_labels(examples.labels) if examples.task is None else examples.task


def of_labels(labels: np.ndarray) -> Task:
    """Classes for labels [N], sets of classes for labels [N, K]."""
    return LabelSets() if labels.ndim == 2 else Classes()


def names(examples: Any, index: int) -> tuple[str, ...]:
    """The label of one of some `Examples` for readers, such as the names of its classes."""
    return of(examples).names(examples.labels[index], examples.class_names)


def recorded(*, multi_label: bool) -> Task:
    """The task of a record that states only whether images have sets of labels."""
    return LabelSets() if multi_label else Classes()
