"""Services that compare runs."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told about a run when it starts.

    Attributes:
        workdir: the run's folder.
        name: the name of that folder.
        config: the JSON form of the experiment.
        key: the name that the tracker gave the run before; None for a new run.
    """

    workdir: pathlib.Path
    name: str
    config: Mapping[str, Any]
    key: str | None


class Tracking(Protocol):
    """A run that is open in a service; any method may raise an error, which ends it."""

    key: str  # with which the service finds the run again

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Sends metrics of a step; a resumed run sends some steps again."""
        ...

    def conclude(self, summary: Mapping[str, float], files: Sequence[pathlib.Path]) -> None:
        """Sends the final metrics and small files of a finished run."""
        ...

    def close(self, *, complete: bool) -> None:
        """Ends the connection; a run that is not complete may go on later."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """A service that compares runs, beside the records in the run's folder."""

    def obstacle(self) -> str | None:
        """Why it cannot be used, such as a package that is not installed; None if it can."""
        ...

    def start(self, run: TrackedRun) -> Tracking:
        """Starts a run in the service, or continues the one with the same key."""
        ...
