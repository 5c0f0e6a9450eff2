"""Validation results of checkpoints, the best checkpoint, and the checkpoints that are kept."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from orbax.checkpoint import checkpoint_managers

VALIDATION = 'validation'  # the key in the record of a checkpoint; null if it was not validated
EARLIER_FILE = 'validation.json'  # {step: [score, -loss]}, of runs whose records lack that key

Ranks = dict[int, list[float]]  # {step: [score, -loss]}; a larger list is better


def read(folder: pathlib.Path) -> Ranks:
    """The validation results of the checkpoints of a run, from their records.

    Checksums cover the records. A record that cannot be read has no result.

    Args:
        folder: a run's `checkpoints/`.
    """
    earlier = _read_object(folder / EARLIER_FILE)
    ranks = {}
    for step in steps(folder):
        record = record_of(folder, step)
        rank = record[VALIDATION] if VALIDATION in record else earlier.get(str(step))
        if rank is not None:
            ranks[step] = rank
    return ranks


def steps(folder: pathlib.Path) -> list[int]:
    """The steps that have a checkpoint, ascending."""
    return sorted(int(p.name) for p in (folder / 'steps').glob('*') if p.name.isdecimal())


def record_of(folder: pathlib.Path, step: int) -> dict[str, Any]:
    """The record of a checkpoint, which is not verified; {} if it cannot be read."""
    return _read_object(folder / 'steps' / str(step) / 'record' / 'metadata')


def _read_object(path: pathlib.Path) -> dict[str, Any]:
    """The content of a JSON file; {} if it is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
