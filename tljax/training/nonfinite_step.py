"""The part of a compiled training step that leaves its state unchanged if it is not finite."""

from typing import Any

import jax
import jax.numpy as jnp

from tljax.metrics import totals
from tljax.training.states import TrainState


def skipped(
    before: TrainState, after: TrainState, sums: totals.Sums, results: Any
) -> tuple[TrainState, totals.Sums]:
    """The state and the sums of a step, of which one that is not finite changes only `step`.

    A step is not finite if its loss or gradient is not, or if it makes a finite value of the state
    infinite or NaN: the squared gradient of Adam overflows before the gradient does.

    Args:
        before: the state that the step started from.
        after: the state after it.
        sums: of the step.
        results: its loss and its gradient.

    Returns:
        The next state, and the sums with `skipped` [] bool. The other sums of a skipped step are
        zero.
    """
    good = ~jnp.stack([*map(_is_bad, jax.tree.leaves(results)), *_overflows(before, after)]).any()
    state = jax.tree.map(
        lambda new, old: new if new is old else jnp.where(good, new, old), after, before
    )
    sums = {name: jnp.where(good, value, jnp.zeros_like(value)) for name, value in sums.items()}
    sums['first_bad_step'] = jnp.full((), totals.NO_STEP, jnp.int32)
    return state.replace(step=after.step), {**sums, 'skipped': ~good}


def _is_bad(values: jax.Array) -> jax.Array:
    return ~jnp.isfinite(values).all()


def _overflows(before: TrainState, after: TrainState) -> list[jax.Array]:
    """For each changed leaf of floats: whether a finite value became infinite or NaN."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return [
        (jnp.isfinite(old) & ~jnp.isfinite(new)).any()
        for old, new in pairs
        if new is not old and jnp.issubdtype(new.dtype, jnp.floating)
    ]
