"""Learning-rate schedules, and the conversion of epochs to steps.

An epoch is `examples / batch_size` steps, which can be a fraction, because batches cross the ends
of epochs. In n epochs every example is used exactly n times.
"""

import dataclasses
import math

import jax.numpy as jnp
import optax


def steps(epochs: float, examples: int, batch_size: int) -> int:
    """The number of steps of some epochs, rounded up."""
    return max(1, _rounded_up(epochs * examples / batch_size))


def marks(every_epochs: float, steps_per_epoch: float, total_steps: int) -> frozenset[int]:
    """The steps that end every period of `every_epochs` epochs, and the last step."""
    every = max(every_epochs * steps_per_epoch, 1.0)
    due = {max(1, _rounded_up((n + 1) * every)) for n in range(int(total_steps / every))}
    return frozenset({step for step in due if step < total_steps} | {total_steps})


def _rounded_up(steps: float) -> int:
    """The next integer, with a tolerance for rounding errors of floating-point arithmetic."""
    return math.ceil(steps - 1e-6)


@dataclasses.dataclass(slots=True, kw_only=True)
class Constant:
    """The optimizer's learning rate, after a linear warm-up.

    Attributes:
        warmup_epochs: epochs in which the rate rises linearly from 0.
    """

    warmup_epochs: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return _warmup_problems(self.warmup_epochs)

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """See `types.Schedule`."""
        return _with_warmup(lambda _: 1.0, self.warmup_epochs * steps_per_epoch)


@dataclasses.dataclass(slots=True, kw_only=True)
class Step:
    """The learning rate is multiplied by `factor` every `every_epochs` epochs.

    Attributes:
        every_epochs: epochs between two changes.
        factor: multiplies the rate at each change.
        warmup_epochs: epochs in which the rate rises linearly from 0.
    """

    every_epochs: float = 2.0
    factor: float = 0.1
    warmup_epochs: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = _warmup_problems(self.warmup_epochs)
        if self.every_epochs <= 0:
            problems.append(f'every_epochs is {self.every_epochs}, wanted more than 0')
        if self.factor <= 0:
            problems.append(f'factor is {self.factor}, wanted more than 0')
        return problems

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """See `types.Schedule`."""
        every = self.every_epochs * steps_per_epoch

        def schedule(step):
            return self.factor ** jnp.floor(step / every)

        return _with_warmup(schedule, self.warmup_epochs * steps_per_epoch)


@dataclasses.dataclass(slots=True, kw_only=True)
class Cosine:
    """Half a cosine from 1 to 0, after a linear warm-up.

    Attributes:
        warmup_epochs: epochs in which the rate rises linearly from 0.

    Source: Loshchilov & Hutter 2017, equation 5, without restarts; warm-up: Goyal et al. 2017.
    """

    warmup_epochs: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return _warmup_problems(self.warmup_epochs)

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """See `types.Schedule`."""
        warmup = self.warmup_epochs * steps_per_epoch

        def schedule(step):
            done = jnp.clip((step - warmup) / max(total_steps - warmup, 1.0), 0.0, 1.0)
            return 0.5 * (1 + jnp.cos(jnp.pi * done))

        return _with_warmup(schedule, warmup)


@dataclasses.dataclass(slots=True, kw_only=True)
class SlantedTriangular:
    """A short linear rise to 1 and a long linear fall, both from and to `1 / ratio`.

    Attributes:
        rise: share of the steps in which the rate rises.
        ratio: the highest rate divided by the lowest.

    Source: Howard & Ruder 2018, "Universal language model fine-tuning", equation 3; the defaults
    are the paper's.
    """

    rise: float = 0.1
    ratio: float = 32.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = []
        if not 0 <= self.rise < 1:
            problems.append(f'rise is {self.rise}, wanted 0 <= x < 1')
        if not 1 <= self.ratio < math.inf:
            problems.append(f'ratio is {self.ratio}, wanted 1 or more')
        return problems

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """See `types.Schedule`."""
        peak = math.floor(total_steps * self.rise)
        fall = max(total_steps - peak, 1)

        def schedule(step):
            rising = step / max(peak, 1)
            share = jnp.where(step < peak, rising, 1 - (step - peak) / fall)
            return (1 + jnp.clip(share, 0.0, 1.0) * (self.ratio - 1)) / self.ratio

        return schedule


def _with_warmup(schedule: optax.Schedule, warmup_steps: float) -> optax.Schedule:
    """`schedule` times a factor that rises linearly to 1; the first step's factor is above 0."""
    if warmup_steps <= 0:
        return schedule
    return lambda step: jnp.minimum((step + 1) / (warmup_steps + 1), 1.0) * schedule(step)


def _warmup_problems(warmup_epochs: float) -> list[str]:
    return [] if warmup_epochs >= 0 else [f'warmup_epochs is {warmup_epochs}, wanted 0 or more']
