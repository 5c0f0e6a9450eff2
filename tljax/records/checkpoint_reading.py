"""Reads the network of a checkpoint without the rest of its state, also during training."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from tljax import tree
from tljax.records import ranking
from tljax.records.checksums import CheckpointError, verify


def read_variables(folder: pathlib.Path, step: int | None = None) -> tuple[int, Any, Any]:
    """Reads parameters and statistics of a run's checkpoint as host arrays.

    If the run kept running means of parameters, they replace the parameters. The folder is not
    changed, so the checkpoints of a run can be read during training.

    Args:
        folder: the run's `checkpoints/`.
        step: None for the best by validation, or the latest if no step was validated.

    Returns:
        The step, the parameters, the statistics.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    folder = folder.absolute()
    steps = ranking.steps(folder)
    if not steps:
        raise CheckpointError(f'{folder}: there is no checkpoint')
    if step is None:
        step = ranking.best(steps, ranking.read(folder))
        step = max(steps) if step is None else step
    verify(folder, step)
    arrays = folder / 'steps' / str(step) / 'arrays'
    try:
        state = _read_state(arrays, ('params', 'stats', 'ema'))
    except Exception as error:  # Orbax and its storage raise many kinds
        raise CheckpointError(f'{arrays}: cannot be read: {error!r:.300}') from error
    params = tree.flatten(state['params'])
    means = {p: leaf for p, leaf in tree.flatten(state['ema'] or {}).items() if leaf is not None}
    return step, tree.unflatten({**params, **means}), state['stats']


def _read_state(arrays: pathlib.Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Parts of a stored `TrainState` as host arrays; None for a part that it lacks."""
    stored = ocp.PyTreeCheckpointHandler().metadata(epath.Path(arrays)).tree['state']
    wanted = {'state': {name: stored.get(name) for name in names}}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    args = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(arrays, args=args)['state']
