"""A run in which the loss or a value is no longer finite ends, and says where."""

from typing import Any

import jax
import jax.numpy as jnp

from tljax import metrics
from tljax.job import Job
from tljax.progress import Progress


class NotFiniteError(RuntimeError):
    """The loss became infinite or not a number; the message names the step."""


def check_loss(job: Job, totals: metrics.Sums) -> None:
    """Raises: NotFiniteError: the loss of a step was not."""
    first = int(totals['first_bad_step'])
    if first != metrics.NO_STEP:
        raise _not_finite(job, 'the loss', first)


def check(job: Job, current: Progress) -> None:
    """What is about to be saved; an update can overflow before a loss shows it.

    Raises:
        NotFiniteError: there is a value that is not.
    """
    check_loss(job, current.totals)
    if not _all_finite((current.state.params, current.state.stats)):
        raise _not_finite(job, 'a parameter or statistic', current.step)


@jax.jit
def _all_finite(arrays: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays)]).all()


def _not_finite(job: Job, what: str, step: int) -> NotFiniteError:
    return NotFiniteError(
        f'{what} is not finite at step {step} (epoch {step / job.steps_per_epoch:.2f}); '
        'a lower config.optimizer.learning_rate, a warm-up or config.clip_norm may help. '
        'No checkpoint was written since.'
    )
