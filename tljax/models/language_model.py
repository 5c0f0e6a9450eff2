"""A language model over windows of a long text: the state after one begins the next."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tljax.models import stages
from tljax.models.recurrent import LSTM, State
from tljax.models.stages import Model
from tljax.types import Params

States = tuple[State, ...]  # of the layers, from the first to the last


def start_states(model: Model, rows: int) -> States:
    """The states before the first token: zeros."""
    widths = [stage.hidden for stage in model.stages.values() if isinstance(stage, LSTM)]
    zeros = [jnp.zeros((rows, width), jnp.float32) for width in widths]
    return tuple((zero, zero) for zero in zeros)


def run_window(
    model: Model,
    params: Params,
    states: States,
    tokens: jax.Array,
    *,
    dropout_key: jax.Array | None = None,
    trainable: Sequence[str] | None = None,
) -> tuple[jax.Array, States]:
    """The logits of the next token after each token of a window.

    Gradients do not flow into the states before the window (truncated back-propagation through
    time), so that training on the windows of a text one after the other needs no more memory than
    one window.

    Args:
        model: of a backbone whose head is a language model, such as `AWDLSTM(language_model=True)`.
        params: of all stages.
        states: after the window before, or `start_states`.
        tokens: [B, T] integers.
        dropout_key: turns on dropout in trainable stages.
        trainable: the stages that train; None for all.

    Returns:
        Logits [B, T, V], and the states after the window.
    """
    x, before, after = jnp.asarray(tokens), iter(jax.lax.stop_gradient(states)), []
    for index, (name, stage) in enumerate(model.stages.items()):
        trains = dropout_key is not None and (trainable is None or name in trainable)
        own = stages.plain(model.adapters, {name: params[name]})[name]
        variables = {'params': stages.with_tied(model, params, name, own)}
        how = {'deterministic': not trains, 'use_running_average': True}
        if trains:
            how['rngs'] = {'dropout': jax.random.fold_in(dropout_key, index)}
        if isinstance(stage, LSTM):
            x, state = stage.apply(variables, x, state=next(before), **how)
            after.append(state)
        else:
            x = stage.apply(variables, x, **how)
    return x, tuple(after)
