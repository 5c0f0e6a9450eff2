"""Suggests a learning rate from a range test: the implementation of `tljax lr-find`."""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import optax

from tljax.config import validation
from tljax.config.experiment import Experiment
from tljax.records import plots, writers
from tljax.training import compiled_step, jobs, walk
from tljax.training.batches import Feed
from tljax.training.jobs import Job
from tljax.types import InputError, Params, Phase, Strategy

SMOOTHING = 0.9
DIVERGED = 4.0  # multiple of the smallest smoothed loss, as in fastai's `LRFinder`


def run(experiment: Experiment, out: pathlib.Path, rule: str, **rates: Any) -> None:
    """Raises the learning rate, writes the curve, and prints the flag with the suggested rate.

    Args:
        experiment: see `find`.
        out: the file of the picture.
        rule: the rule of the printed flag, a key of `RULES`.
        **rates: see `find`.

    Raises:
        InputError: the experiment cannot run, or the picture cannot be drawn.
    """
    curve = find(experiment, **rates)
    try:
        _report(curve, out, rule)
    except ValueError as error:  # from matplotlib: the suffix is unknown
        raise InputError(f'--out={out}: {error}') from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """The loss at rising learning rates.

    Attributes:
        learning_rates: [N].
        losses: [N], the loss of each batch before its update.
        diverged: whether training diverged, which ended the curve.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    diverged: bool

    @property
    def smoothed(self) -> np.ndarray:
        """The running mean of the losses, [N]."""
        return smooth(self.losses)


@dataclasses.dataclass(slots=True, kw_only=True)
class _GeometricRise:
    """A schedule whose learning rate rises geometrically from `lowest` to `highest`.

    Attributes:
        lowest: the first learning rate.
        highest: the last learning rate.
        base: the optimizer's learning rate, which the schedule multiplies.
    """

    lowest: float
    highest: float
    base: float

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """See `types.Schedule`."""
        growth = (self.highest / self.lowest) ** (1 / (total_steps - 1))
        return lambda step: self.lowest / self.base * growth**step


@dataclasses.dataclass(slots=True, kw_only=True)
class _RangeTest:
    """The phases of a strategy up to the first one with steps, changed for the range test.

    Attributes:
        strategy: the strategy of the experiment.
        schedule: the schedule of the first phase with steps.
        steps: the number of its steps.
    """

    strategy: Strategy
    schedule: _GeometricRise
    steps: int

    @property
    def pretrained(self) -> bool:
        """See `types.Strategy`."""
        return self.strategy.pretrained

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        phases = self.strategy.phases(params)
        last = next((i for i, phase in enumerate(phases) if phase.solver is None), None)
        if last is None:
            return phases  # the validation of the experiment raises an error
        changed = dataclasses.replace(
            phases[last], schedule=self.schedule, steps=self.steps, epochs=None, patience=None
        )
        return (*phases[:last], changed)


def find(
    experiment: Experiment, *, steps: int = 100, lowest: float = 1e-6, highest: float = 10.0
) -> Curve:
    """Trains with a rising learning rate until training diverges.

    Training has diverged if a loss is not finite, or if the smoothed loss exceeds four times its
    smallest value. The step is compiled once.

    Args:
        experiment: the experiment, which stays unchanged. The test uses its first phase with steps
            and ignores its samples.
        steps: the number of learning rates.
        lowest: the first learning rate.
        highest: the last learning rate.

    Raises:
        InputError: the experiment cannot run, the rates do not rise, or the first loss is not
            finite.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3. The
    geometric rise, the smoothing and the criterion for divergence are from Howard & Gugger 2020,
    "fastai".
    """
    validation.validate(experiment)
    if not 0 < lowest < highest < math.inf or steps < 2:
        raise InputError(
            f'{steps} steps from lowest={lowest} to highest={highest}, wanted 0 < lowest < highest '
            'and 2 steps or more'
        )
    schedule = _GeometricRise(
        lowest=lowest, highest=highest, base=experiment.optimizer.learning_rate
    )
    strategy = _RangeTest(strategy=experiment.strategy, schedule=schedule, steps=steps)
    job = jobs.setup(dataclasses.replace(experiment, strategy=strategy, samples=None, baselines=()))
    losses, diverged = _losses_until_divergence(job, steps)
    if not losses:
        raise InputError('the loss of the first batch is not finite, before any update')
    rates = lowest * (highest / lowest) ** (np.arange(len(losses)) / (steps - 1))
    return Curve(learning_rates=rates, losses=np.array(losses), diverged=diverged)


def _losses_until_divergence(job: Job, steps: int) -> tuple[list[float], bool]:
    """The finite losses of the last phase, and whether training diverged."""
    phase = job.phases[-1]  # the only phase with steps
    state, feed = walk.start_of(job, phase), Feed(job, phase, steps=steps)
    step, key = compiled_step.compile_train_step(job, phase), jobs.train_key(job)
    losses: list[float] = []
    diverged = False
    for number in range(steps):
        state, sums = step(key, state, feed.take(number), *job.penalty_arrays)
        losses.append(float(sums['loss']) / max(int(sums['count']), 1))
        if diverged := _has_diverged(losses):
            break
    if not math.isfinite(losses[-1]):
        losses.pop()
    return losses, diverged


def smooth(losses: Any) -> np.ndarray:
    """Exponential running means [N] of losses [N], corrected for their start at zero.

    Source of the correction: Kingma & Ba 2015, "Adam", section 3.
    """
    mean, means = 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING**count))
    return np.array(means)


def _has_diverged(losses: list[float]) -> bool:
    if not math.isfinite(losses[-1]):
        return True
    smoothed = smooth(losses)
    return bool(smoothed[-1] > DIVERGED * smoothed.min())


def valley(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """The geometric middle of the rates of the longest falling subsequence of the losses.

    Low rates at which the loss hardly falls also belong to the subsequence and lower the result.
    `--lowest` excludes them. Source: fastai's `valley`.
    """
    first, last = _longest_fall(smoothed)
    return float(math.sqrt(rates[first] * rates[last]))


def _longest_fall(values: np.ndarray) -> tuple[int, int]:
    """The first and the last index of the longest strictly falling subsequence."""
    lengths, starts = np.ones(len(values), int), np.arange(len(values))
    for i in range(1, len(values)):
        before = np.flatnonzero(values[:i] > values[i])
        if len(before):
            best = before[np.argmax(lengths[before])]
            lengths[i], starts[i] = lengths[best] + 1, starts[best]
    last = int(np.argmax(lengths))
    return int(starts[last]), last


def steepest(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """The rate at which the loss falls fastest, by the logarithm of the rate.

    Source: fastai's `steep`.
    """
    if len(rates) < 2:
        return float(rates[0])
    return float(rates[np.argmin(np.gradient(smoothed, np.log(rates)))])


def minimum(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """A tenth of the rate with the smallest loss. Source: fastai's `minimum`."""
    return float(rates[np.argmin(smoothed)] / 10)


RULES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    'steepest': steepest,
    'valley': valley,
    'minimum': minimum,
}


def suggestions(curve: Curve) -> dict[str, float]:
    """The learning rate that each rule suggests, by rule name."""
    return {name: rule(curve.learning_rates, curve.smoothed) for name, rule in RULES.items()}


def _report(curve: Curve, out: pathlib.Path, rule: str) -> None:
    """Writes the points and the picture, and prints the flag."""
    suggested = suggestions(curve)
    rates, losses, smoothed = (
        x.tolist() for x in (curve.learning_rates, curve.losses, curve.smoothed)
    )
    record = {
        'learning_rates': rates,
        'losses': losses,
        'smoothed': smoothed,
        'diverged': curve.diverged,
        'suggestions': suggested,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    writers.write_json(out.with_suffix('.json'), record)
    print(out.with_suffix('.json'))
    try:
        plots.learning_rates(out, rates, losses, smoothed, suggested)
        print(out)
    except plots.NoPictureError as error:
        print(error)
    end = 'where training diverged' if curve.diverged else 'without diverging'
    print(f'{len(rates)} steps, up to a learning rate of {rates[-1]:.2g}, {end}')
    print(', '.join(f'{name} {rate:.2g}' for name, rate in suggested.items()))
    print(f'--config.optimizer.learning_rate={suggested[rule]:.2g}')
