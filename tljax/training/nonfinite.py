"""Stops a run whose loss, parameters or statistics are not finite, and reports the step."""

from typing import Any

import jax
import jax.numpy as jnp

from tljax import tree
from tljax.metrics import totals
from tljax.training.jobs import Job
from tljax.training.progress import Progress


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
        'a lower config.optimizer.learning_rate, a warm-up or config.clip_norm may help. '
        'No checkpoint was written since.'
    )
