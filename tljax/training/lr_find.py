"""Finds a learning rate: raises it until training diverges, and says where to stay below."""

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
from tljax.types import InputError, Params, Phase, Strategy

SMOOTHING = 0.9
DIVERGED = 4.0  # times the smallest smoothed loss, as in fastai's `LRFinder`


def run(experiment: Experiment, out: pathlib.Path, rule: str, **rates: Any) -> None:
    """Finds a learning rate, writes the curve and prints the flag.

    Args:
        experiment: see `find`.
        out: the picture.
        rule: of the flag, a key of `RULES`.
        **rates: see `find`.

    Raises:
        InputError: the experiment cannot run, or the picture cannot be drawn.
    """
    curve = find(experiment, **rates)
    try:
        _tell(curve, out, rule)
    except ValueError as error:  # matplotlib: an unknown suffix
        raise InputError(f'--out={out}: {error}') from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """The loss under a rising learning rate, up to where it diverged, if it did."""

    learning_rates: np.ndarray  # [N]
    losses: np.ndarray  # [N], each of a batch, before its update
    diverged: bool

    @property
    def smoothed(self) -> np.ndarray:
        """[N], the running mean of the losses."""
        return smooth(self.losses)


@dataclasses.dataclass(slots=True, kw_only=True)
class _Rising:
    """From `lowest` to `highest`, geometrically; divided by the rate that it multiplies."""

    lowest: float
    highest: float
    divisor: float

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """See `types.Schedule`."""
        growth = (self.highest / self.lowest) ** (1 / (total_steps - 1))
        return lambda step: self.lowest / self.divisor * growth**step


@dataclasses.dataclass(slots=True, kw_only=True)
class _UpToRise:
    """A strategy's phases up to the first with steps, which has another schedule and length."""

    strategy: Strategy
    schedule: _Rising
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
            return phases  # refused where every experiment is
        rising = dataclasses.replace(
            phases[last], schedule=self.schedule, steps=self.steps, epochs=None, patience=None
        )
        return (*phases[:last], rising)


def find(
    experiment: Experiment, *, steps: int = 100, lowest: float = 1e-6, highest: float = 10.0
) -> Curve:
    """The loss while the learning rate rises; the step is compiled once.

    It ends where a loss is not finite or the smoothed one exceeds four times its smallest value.

    Args:
        experiment: its first phase with steps is tried, without a source of samples; nothing of it
            is changed or kept.
        steps: the number of rates.
        lowest: the first of them.
        highest: the last.

    Raises:
        InputError: the experiment cannot run, the rates do not rise, or the first loss is not
            finite.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3;
    geometric, smoothed and with that end: Howard & Gugger 2020, "fastai".
    """
    validation.validate(experiment)
    if not 0 < lowest < highest < math.inf or steps < 2:
        raise InputError(
            f'{steps} steps from lowest={lowest} to highest={highest}, wanted 0 < lowest < highest'
        )
    rising = _Rising(lowest=lowest, highest=highest, divisor=experiment.optimizer.learning_rate)
    strategy = _UpToRise(strategy=experiment.strategy, schedule=rising, steps=steps)
    job = jobs.setup(dataclasses.replace(experiment, strategy=strategy, samples=None, baselines=()))
    phase = job.phases[-1]  # the only one with steps
    state, feed = walk.start_of(job, phase), Feed(job, phase, steps=steps)
    step, key = compiled_step.compile_train_step(job, phase), jobs.train_key(job)
    losses: list[float] = []
    diverged = False
    for number in range(steps):
        state, sums = step(key, state, feed.take(number), *job.penalty_arrays)
        losses.append(float(sums['loss']) / max(int(sums['count']), 1))
        if diverged := _diverges(losses):
            break
    if not math.isfinite(losses[-1]):
        losses.pop()
    if not losses:
        raise InputError('the loss of the first batch is not finite, before any update')
    rates = lowest * (highest / lowest) ** (np.arange(len(losses)) / (steps - 1))
    return Curve(learning_rates=rates, losses=np.array(losses), diverged=diverged)


def smooth(losses: Any) -> np.ndarray:
    """Exponential running means [N] of losses [N], freed of the zero that they start from.

    Source of the correction: Kingma & Ba 2015, "Adam", section 3.
    """
    mean, found = 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        found.append(mean / (1 - SMOOTHING**count))
    return np.array(found)


def _diverges(losses: list[float]) -> bool:
    if not math.isfinite(losses[-1]):
        return True
    smoothed = smooth(losses)
    return bool(smoothed[-1] > DIVERGED * smoothed.min())


def valley(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """The middle, in logarithms, of the longest falling subsequence of the losses.

    A start so low that the loss hardly falls counts too, and draws it down: set `--lowest` where
    the curve bends. Source: fastai's `valley`.
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
    """Where the loss falls fastest with the logarithm of the rate. Source: fastai's `steep`."""
    if len(rates) < 2:
        return float(rates[0])
    return float(rates[np.argmin(np.gradient(smoothed, np.log(rates)))])


def minimum(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """A tenth of where the loss is smallest. Source: fastai's `minimum`."""
    return float(rates[np.argmin(smoothed)] / 10)


RULES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    'steepest': steepest,
    'valley': valley,
    'minimum': minimum,
}


def suggestions(curve: Curve) -> dict[str, float]:
    """A learning rate by the name of each rule."""
    return {name: rule(curve.learning_rates, curve.smoothed) for name, rule in RULES.items()}


def _tell(curve: Curve, out: pathlib.Path, chosen: str) -> None:
    """Writes the points and the picture, and prints the flag."""
    found = suggestions(curve)
    rates, losses, smoothed = (
        x.tolist() for x in (curve.learning_rates, curve.losses, curve.smoothed)
    )
    points = {'learning_rates': rates, 'losses': losses, 'smoothed': smoothed}
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {**points, 'diverged': curve.diverged, 'suggestions': found}
    writers.write_json(out.with_suffix('.json'), content)
    print(out.with_suffix('.json'))
    try:
        plots.learning_rates(out, rates, losses, smoothed, found)
        print(out)
    except plots.NoPictureError as error:
        print(error)
    end = 'where it diverged' if curve.diverged else 'without diverging'
    print(f'{len(rates)} steps, up to a learning rate of {rates[-1]:.2g}, {end}')
    print(', '.join(f'{name} {rate:.2g}' for name, rate in found.items()))
    print(f'--config.optimizer.learning_rate={found[chosen]:.2g}')
