"""Data sets: splits of examples, and what was noticed when they were read."""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tljax.types.tasks import Task

Range = tuple[float, float]  # values that become 0 and 255, in images deeper than 8 bits


class BadFiles(enum.Enum):
    """What happens to a file that cannot be read as an image."""

    ERROR = 'error'  # the run does not start; the message names all of them
    SKIP = 'skip'  # they are left out, counted, and listed in the workdir


@dataclasses.dataclass(slots=True, kw_only=True)
class Findings:
    """Files that a source skipped, and notes; printed at the start of a run and kept in its folder.

    Attributes:
        policy: what happens to unreadable files.
        notes: messages for the user.
        bad: `{file: problem}`.
        deep: files deeper than 8 bits.
        gray_range: computes the black and white of the deep files from the training split.
    """

    policy: BadFiles = BadFiles.ERROR
    notes: list[str] = dataclasses.field(default_factory=list)
    bad: dict[str, str] = dataclasses.field(default_factory=dict)
    deep: set[str] = dataclasses.field(default_factory=set)
    gray_range: Callable[[], Range] | None = None


@runtime_checkable
class Encoded(Protocol):
    """An encoded image: a file, or a record of a larger one; `str()` names it."""

    def read(self) -> bytes:
        """The encoded bytes."""
        ...

    def stamp(self) -> str:
        """Its location and version without reading it; changes when the bytes do."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """One split of a data set, with random access.

    `load(i)` returns image i as [h, w, 3] uint8, of any size, or text i as a string. `ids` are the
    same in every subset and order, so random draws can depend on the example. `encoded` holds the
    same images or texts as stored; None if they are in memory. `task` states what the labels are;
    None for classes [N], or sets of classes [N, K] (`metrics.tasks.choice.of` decides).
    """

    load: Callable[[int], Any]
    labels: np.ndarray  # [N, ...]: classes [N] int32, sets of classes [N, K] uint8 (multi-hot), ...
    ids: np.ndarray  # [N] int64
    class_names: tuple[str, ...]  # K of them; the names of the numbers if labels are numbers
    encoded: Sequence[Encoded] | None = None  # N of them
    findings: Findings | None = None  # shared by the splits of a source
    task: Task | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> 'Examples':
        """The examples at `indices` [M], in that order."""
        load, encoded = self.load, self.encoded
        return dataclasses.replace(
            self,
            load=lambda i: load(int(indices[i])),
            labels=self.labels[indices],
            ids=self.ids[indices],
            encoded=None if encoded is None else [encoded[int(i)] for i in indices],
        )


@runtime_checkable
class DataSource(Protocol):
    """A data set."""

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` if the data set has them."""
        ...
