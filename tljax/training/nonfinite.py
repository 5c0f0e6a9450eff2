"""Stops a run whose loss, parameters or statistics are not finite, and reports the step."""

import collections
from typing import Any

import jax
import jax.numpy as jnp

from tljax import tree
from tljax.metrics import totals
from tljax.records import console, writers
from tljax.training import batches
from tljax.training.jobs import Job
from tljax.training.progress import Progress

IN_A_ROW = 5  # skipped steps that end a run with config.on_nonfinite=skip
IN_FLIGHT = 2  # the steps that a `Clock` leaves unfinished


class NotFiniteError(RuntimeError):
    """The loss became infinite or not a number; the message names the step."""


def check_loss(job: Job, sums: totals.Sums) -> None:
    """Raises: NotFiniteError: the loss of a step was not finite."""
    first = int(sums['first_bad_step'])
    if first != totals.NO_STEP:
        raise _not_finite(job, 'the loss is', first)


def check_start(current: Progress) -> None:
    """Checks the values that training starts from.

    Raises:
        NotFiniteError: a parameter or statistic is NaN or infinite; the message names it.
    """
    arrays = (current.state.params, current.state.stats)
    if not _all_finite(arrays):
        raise NotFiniteError(
            f'{_leaves(arrays)} not finite before step {current.step} is trained; '
            'the weights that training starts from hold NaN or infinite values.'
        )


def check(job: Job, current: Progress) -> None:
    """Checks the loss and the values before they are saved.

    An update can overflow before a loss is affected.

    Raises:
        NotFiniteError: a loss or a value is not finite.
    """
    check_loss(job, current.totals)
    arrays = (current.state.params, current.state.stats)
    if not _all_finite(arrays):
        raise _not_finite(job, _leaves(arrays), current.step)


class Skips:
    """Counts the skipped steps of a run, and ends it if `IN_A_ROW` follow each other.

    Whether a step was skipped is read after the next steps were started, so that neither the host
    nor the device waits.
    """

    def __init__(self, job: Job, current: Progress, records: writers.Records):
        self._job, self._current, self._records = job, current, records
        self._unread: collections.deque[tuple[int, jax.Array]] = collections.deque()

    def add(self, step: int, skipped: jax.Array) -> None:
        """Adds a step that was started; `skipped` [] bool is its result.

        Raises:
            NotFiniteError: too many steps were skipped.
        """
        skipped.copy_to_host_async()
        self._unread.append((step, skipped))
        if len(self._unread) > IN_FLIGHT:
            self._read()

    def read_all(self) -> None:
        """Waits for all steps; raises as `add` does."""
        while self._unread:
            self._read()

    def _read(self) -> None:
        step, skipped = self._unread.popleft()
        if not skipped:
            return
        steps, ids = self._current.skipped, batches.ids_of(self._job, step)
        steps.append(step)
        self._records.write(
            {
                'step': step,
                'epoch': step / self._job.steps_per_epoch,
                'phase': self._current.phase,
                'split': 'skipped',
                'ids': ids,
            }
        )
        console.console.print(
            f'Step {step} is skipped: its loss, gradient or update is not finite. '
            f'Its images have the ids {ids_text(ids)}.',
            soft_wrap=True,
        )
        if steps[-IN_A_ROW:] == list(range(step - IN_A_ROW + 1, step + 1)):
            raise NotFiniteError(
                f'steps {steps[-IN_A_ROW]} to {step} were skipped, and {IN_A_ROW} in a row end the '
                'run: their loss, gradient or update is not finite. The images of step '
                f'{step} have the ids {ids_text(ids)}; metrics.jsonl has those of the other steps. '
                f'tljax replay WORKDIR {step} shows where the first such value arises.'
            )


def ids_text(ids: list[int], most: int = 16) -> str:
    """`3, 8, 1 and 29 more`."""
    text = ', '.join(map(str, ids[:most]))
    return text if len(ids) <= most else f'{text} and {len(ids) - most} more'


@jax.jit
def _all_finite(arrays: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays)]).all()


def _leaves(arrays: tuple[Any, Any]) -> str:
    """Names the first leaf that is not finite, and counts the others."""
    names = [
        f'{kind} {path}'
        for kind, values in zip(('parameter', 'statistic'), arrays, strict=True)
        for path, leaf in tree.flatten(values).items()
        if not jnp.isfinite(leaf).all()
    ]
    more = f' (and {len(names) - 1} more)' if len(names) > 1 else ''
    return f'{names[0]}{more} is'


def _not_finite(job: Job, what: str, step: int) -> NotFiniteError:
    return NotFiniteError(
        f'{what} not finite at step {step} (epoch {step / job.steps_per_epoch:.2f}); '
        'a lower config.optimizer.learning_rate, a warm-up or config.clip_norm may help; '
        'config.on_nonfinite=skip skips single steps. No checkpoint was written since. '
        f'tljax replay WORKDIR {step} shows where the first such value arises.'
    )
