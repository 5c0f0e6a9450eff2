"""Validation results of checkpoints, the best checkpoint, and the checkpoints that are kept."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

from orbax.checkpoint import checkpoint_managers

VALIDATION_FILE = 'validation.json'  # {step: [score, -loss]}

Ranks = dict[int, list[float]]  # the same; a larger list is better


def read(folder: pathlib.Path) -> Ranks:
    """The validation results of the checkpoints of a run.

    Args:
        folder: a run's `checkpoints/`.
    """
    path = folder / VALIDATION_FILE
    if not path.exists():
        return {}
    return {int(step): rank for step, rank in json.loads(path.read_text()).items()}


def of_step(step: int, metrics: Mapping[str, float] | None) -> Ranks:
    """The validation result of one step; empty without metrics."""
    return {} if metrics is None else {step: [metrics['score'], -metrics['loss']]}


def best(steps: Sequence[int], ranks: Mapping[int, list[float]]) -> int | None:
    """The step with the highest score, then the lowest loss, then the latest one.

    None if no step was validated.
    """
    ranked = [(*ranks[step], step) for step in steps if step in ranks]
    return int(max(ranked)[-1]) if ranked else None


@dataclasses.dataclass
class LatestAndBest(checkpoint_managers.PreservationPolicy):
    """Tells Orbax to keep the latest and the best checkpoint, and the step `kept` if it is set."""

    ranks: Mapping[int, list[float]]
    kept: int | None = None

    def should_preserve(
        self,
        checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
        *,
        context: checkpoint_managers.PreservationContext,
    ) -> Sequence[bool]:
        """Whether each checkpoint is kept."""
        steps = [info.step for info in checkpoints]
        keep = {max(steps, default=None), best(steps, self.ranks), self.kept}
        return [step in keep for step in steps]
