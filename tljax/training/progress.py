"""How far a run is: where it starts or resumes, and how it goes from phase to phase."""

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

SAVED = ('starts', 'best', 'stale', 'accumulate', 'seconds', 'data')  # in a checkpoint's record


@dataclasses.dataclass(kw_only=True)
class Progress:
    """What the loop changes. Everything but the clock is in a checkpoint."""

    state: TrainState
    totals: totals.Sums  # of the steps since the last record
    accumulate: int  # parts of a batch; more than the experiment's after running out of memory
    step: int = 0
    starts: list[int] = dataclasses.field(default_factory=lambda: [0])  # of each phase so far
    best: list[float] | None = None  # score, -loss, step of this phase's best evaluation
    stale: int = 0  # evaluations since then
    seconds: float = 0.0  # of earlier attempts
    data: dict[str, Any] | None = None  # the iterator's position

    @property
    def phase(self) -> int:
        """The index of the present one."""
        return len(self.starts) - 1

    def over(self, phase: PhasePlan) -> bool:
        """Whether the present phase has run its length, or out of patience."""
        patience = phase.phase.patience
        finished = self.step - self.starts[-1] >= phase.length
        return finished or (patience is not None and self.stale >= patience)

    def begin_phase(self, state: TrainState) -> None:
        """Goes on to the next phase, which starts from a state at the present step."""
        self.state = state
        self.starts.append(self.step)
        self.best, self.stale = None, 0

    def rank(self, ranking: dict[str, float]) -> None:
        """Holds an evaluation against the best one of its phase."""
        rank = [ranking['score'], -ranking['loss']]
        if self.best is None or rank > self.best[:2]:
            self.best, self.stale = [*rank, self.step], 0
        else:
            self.stale += 1


def resumed_or_started(job: Job, checkpoints: Checkpoints) -> Progress:
    """Where the latest checkpoint that is whole left off, or the start of the first phase."""
    totals = devices.put_replicated(job.mesh, jobs.zero_totals(job))
    latest = checkpoints.latest_intact()
    for step in checkpoints.set_aside:
        console.console.print(
            f'Warning: the checkpoint of step {step} is damaged or has no checksums; it is not '
            f'used, and kept as checkpoints/damaged-{step}.'
        )
    if latest is None:
        state, solution = walk.enter(job, job.phases[0], None)
        announce_solution(solution)
        return Progress(state=state, totals=totals, accumulate=job.experiment.accumulate)
    record = checkpoints.record(latest)
    arrays, _ = checkpoints.restore(latest, jobs.checkpoint_shapes(job, phase_of(job, record)))
    console.console.print(f'Resuming at step {latest} of {job.steps}.')
    fields = {name: record[name] for name in SAVED}
    return Progress(state=arrays['state'], totals=arrays['totals'], step=latest, **fields)


def phase_of(job: Job, record: dict[str, Any]) -> PhasePlan:
    """The phase that a checkpoint with this record is from."""
    return job.phases[len(record['starts']) - 1]


def go_back(job: Job, current: Progress, phase: PhasePlan, checkpoints: Checkpoints) -> None:
    """To the values of the phase's best evaluation; the count of steps stays."""
    if current.best is None or current.best[-1] == current.step:
        return
    best = int(current.best[-1])
    arrays, _ = checkpoints.restore(best, jobs.checkpoint_shapes(job, phase))
    current.state = dataclasses.replace(arrays['state'], step=current.state.step)
    console.console.print(
        f'Phase {phase.index + 1} ends at step {current.step}, with the values of step {best}.'
    )


def announce_solution(solution: Solution | None) -> None:
    """Prints how well a solver did, where a phase had one."""
    if solution is not None:
        console.console.print(
            f'Head solved: loss {float(solution.value):.4f} after {int(solution.iterations)} '
            f'iterations, gradient norm {float(solution.gradient_norm):.1e}.'
        )
