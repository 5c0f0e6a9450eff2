"""The state of a recurrent network between windows of a long text.

The state after one window begins the next. Gradients do not flow into it (truncated
back-propagation through time), so that training on the windows of a text one after the other needs
no more memory than one window. `stages.run` reads the states from a stage's statistics and replaces
them there. They are not part of a network: outside a step they are kept separately.
"""

import jax.numpy as jnp

from tljax.models.recurrent import CARRIED, LSTM
from tljax.models.stages import Model
from tljax.types import Stats


def start_states(model: Model, rows: int) -> Stats:
    """The states of the LSTM stages before the first token: zeros [rows, hidden]."""
    widths = {name: stage.hidden for name, stage in model.stages.items() if isinstance(stage, LSTM)}
    return {
        name: {CARRIED: (jnp.zeros((rows, width)), jnp.zeros((rows, width)))}
        for name, width in widths.items()
    }


def joined(stats: Stats, states: Stats | None) -> Stats:
    """Statistics with the states, as `stages.run` reads them; None for none."""
    return {
        **stats,
        **{name: stats.get(name, {}) | state for name, state in (states or {}).items()},
    }


def separated(stats: Stats, states: Stats | None) -> tuple[Stats, Stats | None]:
    """The inverse of `joined`, after a window.

    Args:
        stats: with states.
        states: those before, which name the stages.

    Returns:
        The statistics without states, and the states.
    """
    if states is None:
        return stats, None
    after = {name: {CARRIED: stats[name][CARRIED]} for name in states}
    without = {
        name: {key: leaf for key, leaf in leaves.items() if key != CARRIED}
        for name, leaves in stats.items()
    }
    return {name: leaves for name, leaves in without.items() if leaves}, after


def carries(stats: Stats) -> bool:
    """Whether statistics have states."""
    return any(CARRIED in leaves for leaves in stats.values())
