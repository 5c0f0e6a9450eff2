"""The progress of a run: where it starts or resumes, and the transitions between phases."""

import dataclasses
from typing import Any

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.metrics import totals
from tljax.records import console
from tljax.records.checkpoint import Checkpoints
from tljax.training import jobs, walk
from tljax.training.jobs import Job
from tljax.training.states import TrainState
from tljax.types import Solution

# Fields in a checkpoint.
SAVED = (
    'starts', 'best', 'stale', 'accumulate', 'wall_time', 'data', 'unevaluated', 'skipped',
    'devices',
)  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class Progress:
    """The values that the loop changes; they are saved in checkpoints.

    Attributes:
        state: the state of training.
        totals: the sums of the steps since the last record.
        accumulate: parts of a batch; more than the experiment's after running out of memory.
        devices: the devices of the state, as text.
        step: the number of steps that were trained.
        starts: the first step of each phase so far.
        best: score, minus the loss, and step of the best evaluation of this phase.
        stale: evaluations since the best one.
        wall_time: the seconds of each stage of the run up to the checkpoint; see `WallTime`.
        data: the position in the stream of batches.
        unevaluated: whether a signal stopped the evaluation that this step has to have.
        skipped: the steps that were not finite and changed nothing, counted from 1.
    """

    state: TrainState
    totals: totals.Sums
    accumulate: int
    devices: str
    step: int = 0
    starts: list[int] = dataclasses.field(default_factory=lambda: [0])
    best: list[float] | None = None
    stale: int = 0
    wall_time: dict[str, float] = dataclasses.field(default_factory=dict)
    data: dict[str, Any] | None = None
    unevaluated: bool = False
    skipped: list[int] = dataclasses.field(default_factory=list)

    @property
    def phase(self) -> int:
        """The index of the present phase."""
        return len(self.starts) - 1

    def over(self, phase: PhasePlan) -> bool:
        """Whether the present phase has trained all its steps, or run out of patience."""
        patience = phase.phase.patience
        finished = self.step - self.starts[-1] >= phase.length
        return finished or (patience is not None and self.stale >= patience)

    def begin_phase(self, state: TrainState) -> None:
        """Begins the next phase at the present step, from a state."""
        self.state = state
        self.starts.append(self.step)
        self.best, self.stale = None, 0

    def record(self) -> dict[str, Any]:
        """The record of a checkpoint: all that `resumed_or_started` reads besides the arrays."""
        return {name: getattr(self, name) for name in SAVED}

    def rank(self, ranking: dict[str, float]) -> None:
        """Compares an evaluation with the best one of its phase."""
        rank = [ranking['score'], -ranking['loss']]
        if self.best is None or rank > self.best[:2]:
            self.best, self.stale = [*rank, self.step], 0
        else:
            self.stale += 1


def resumed_or_started(job: Job, checkpoints: Checkpoints) -> Progress:
    """The progress in the latest intact checkpoint, or at the start of the first phase."""
    totals = devices.put_replicated(job.mesh, jobs.zero_totals(job))
    present = devices.layout_text(job.mesh)
    latest = checkpoints.latest_intact()
    for step in checkpoints.unfinished:
        console.console.print(
            f'The save of step {step} was cut off; what it had written was deleted.',
            soft_wrap=True,
        )
    for step in checkpoints.set_aside:
        console.console.print(
            f'Warning: the checkpoint of step {step} is damaged or has no checksums. It is not '
            f'used; it is kept as checkpoints/damaged-{step}.',
            soft_wrap=True,
        )
    if latest is None:
        state, solution = walk.enter(job, job.phases[0], None)
        announce_solution(solution)
        parts = job.experiment.accumulate
        return Progress(state=state, totals=totals, accumulate=parts, devices=present)
    record = checkpoints.record(latest)
    arrays, _ = checkpoints.restore(latest, jobs.checkpoint_shapes(job, phase_of(job, record)))
    console.console.print(f'Resuming at step {latest} of {job.steps}.')
    fields = {name: record[name] for name in SAVED if name in record}
    if 'wall_time' not in record:  # an earlier version recorded the sum only
        fields['wall_time'] = {'unrecorded': record['seconds']}
    former = fields.get('devices', present)  # an older record lacks them
    if former != present:
        console.console.print(
            f'It was saved on {former} and goes on with {present}: rounding may differ, so the '
            'result may differ in its last digits from that of an undisturbed run.',
            soft_wrap=True,
        )
    fields['devices'] = present
    return Progress(state=arrays['state'], totals=arrays['totals'], step=latest, **fields)


def phase_of(job: Job, record: dict[str, Any]) -> PhasePlan:
    """The phase of a checkpoint with this record."""
    return job.phases[len(record['starts']) - 1]


def go_back(job: Job, current: Progress, phase: PhasePlan, checkpoints: Checkpoints) -> None:
    """Restores the values of the phase's best evaluation; the count of steps does not change."""
    if current.best is None or current.best[-1] == current.step:
        return
    best = int(current.best[-1])
    arrays, _ = checkpoints.restore(best, jobs.checkpoint_shapes(job, phase))
    current.state = dataclasses.replace(arrays['state'], step=current.state.step)
    console.console.print(
        f'Phase {phase.index + 1} ends at step {current.step}, with the values of step {best}.'
    )


def announce_solution(solution: Solution | None) -> None:
    """Prints the result of a phase's solver, if it has one."""
    if solution is not None:
        console.console.print(
            f'Head solved: loss {float(solution.value):.4f} after {int(solution.iterations)} '
            f'iterations, gradient norm {float(solution.gradient_norm):.1e}.'
        )
