"""Learning rates over time. Here epochs become steps, and nowhere else.

Batches run on across the ends of epochs, so an epoch is `examples / batch_size` steps, which
need not be whole, and n epochs show every example exactly n times.
"""

import dataclasses
import math

import jax.numpy as jnp
import optax


def steps(epochs: float, examples: int, batch_size: int) -> int:
    """The number of steps that show `examples` images `epochs` times, rounded up."""
    return max(1, _whole_steps(epochs * examples / batch_size))


def marks(every_epochs: float, steps_per_epoch: float, total_steps: int) -> frozenset[int]:
    """The steps after which something falls due every so many epochs, and the last one."""
    every = max(every_epochs * steps_per_epoch, 1.0)
    due = {max(1, _whole_steps((n + 1) * every)) for n in range(int(total_steps / every))}
    return frozenset({step for step in due if step < total_steps} | {total_steps})


def _whole_steps(steps: float) -> int:
    """Rounded up, but for what floating-point arithmetic added to a whole number."""
    return math.ceil(steps - 1e-6)


@dataclasses.dataclass(slots=True, kw_only=True)
class Constant:
    """The optimizer's learning rate throughout, after a linear warm-up."""

    warmup_epochs: float = 0.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _warmup_problems(self.warmup_epochs)

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """See `types.Schedule`."""
        return _with_warmup(lambda _: 1.0, self.warmup_epochs * steps_per_epoch)


@dataclasses.dataclass(slots=True, kw_only=True)
class Step:
    """Multiplied by `factor` every `every_epochs` epochs."""

    every_epochs: float = 2.0
    factor: float = 0.1
    warmup_epochs: float = 0.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
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

    Source: Loshchilov & Hutter 2017, equation 5, without restarts; warm-up: Goyal et al. 2017.
    """

    warmup_epochs: float = 0.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _warmup_problems(self.warmup_epochs)

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """See `types.Schedule`."""
        warmup = self.warmup_epochs * steps_per_epoch

        def schedule(step):
            done = jnp.clip((step - warmup) / max(total_steps - warmup, 1.0), 0.0, 1.0)
            return 0.5 * (1 + jnp.cos(jnp.pi * done))

        return _with_warmup(schedule, warmup)


def _with_warmup(schedule: optax.Schedule, warmup_steps: float) -> optax.Schedule:
    """Rises linearly to 1 over the warm-up, its first step above 0, and multiplies `schedule`."""
    if warmup_steps <= 0:
        return schedule
    return lambda step: jnp.minimum((step + 1) / (warmup_steps + 1), 1.0) * schedule(step)


def _warmup_problems(warmup_epochs: float) -> list[str]:
    return [] if warmup_epochs >= 0 else [f'warmup_epochs is {warmup_epochs}, wanted 0 or more']
