"""The stages above a cut, as grids of `probes.grid` train them on features."""

from collections.abc import Callable

import jax

from tljax.models import stages
from tljax.models.stages import HEAD, Model
from tljax.types import InputError, Params, Stats


def suffix(
    model: Model, params: Params, stats: Stats, cut: str
) -> tuple[Callable[[Params, jax.Array], jax.Array], Callable[[int], Params]]:
    """The stages from `cut` on, all of them to be trained; BatchNorm keeps its running statistics.

    A cell is then the run with `freeze_below(cut)`, `norm=affine_only` and no dropout.

    Args:
        model: the network.
        params: its parameters.
        stats: its running statistics.
        cut: the first stage to train, on features [B, ...] from before it, not pooled.

    Returns:
        `apply`, features to logits [B, K], and `init`, a seed to the stages' parameters, of which
        the head is drawn anew.

    Raises:
        InputError: there is no such stage, or an adapter is part of the network.
    """
    if cut not in model.names:
        raise InputError(f'the cut is {cut!r}, wanted one of {list(model.names)}')
    if model.adapters:
        raise InputError('the network has adapters, wanted one with them merged')
    kept = [name for name in model.names[model.names.index(cut) :] if name != HEAD]
    statistics = {name: stats[name] for name in kept if name in stats}

    def apply(own: Params, features: jax.Array) -> jax.Array:
        return stages.run(model, own, statistics, features, start=cut)[0]

    def init(seed: int) -> Params:
        key, _ = jax.random.split(jax.random.key(seed))  # as a run of that seed draws it
        drawn, _ = stages.init(model, key, skip=model.names[:-1])
        return {name: params[name] for name in kept} | drawn

    return apply, init
