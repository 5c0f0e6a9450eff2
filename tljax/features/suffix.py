"""The stages above a cut, in the form that `probes.grid` trains on features."""

from collections.abc import Callable

import jax

from tljax.models import stages
from tljax.models.stages import HEAD, Model
from tljax.types import InputError, Params, Stats


def suffix(
    model: Model, params: Params, stats: Stats, cut: str
) -> tuple[Callable[[Params, jax.Array], jax.Array], Callable[[int], Params]]:
    """The stages from `cut` on, all of them trained; BatchNorm uses its running statistics.

    A cell of a grid equals the run with `FreezeBelow(stage=cut)`, `norm=affine_only` and no
    dropout.

    Args:
        model: the network.
        params: its parameters.
        stats: its running statistics.
        cut: the first trained stage; its input are features [B, ...] without pooling.

    Returns:
        `apply`: parameters and features to logits [B, K]; `init`: a seed to the parameters of the
        stages, with a new random head.

    Raises:
        InputError: there is no such stage, or the network has adapters.
    """
    if cut not in model.names:
        raise InputError(f'the cut is {cut!r}, wanted one of {list(model.names)}')
    if model.adapters:
        raise InputError('the network has adapters, wanted merged ones')
    kept = [name for name in model.names[model.names.index(cut) :] if name != HEAD]
    statistics = {name: stats[name] for name in kept if name in stats}

    def apply(trained: Params, features: jax.Array) -> jax.Array:
        return stages.run(model, trained, statistics, features, start=cut)[0]

    def init(seed: int) -> Params:
        key, _ = jax.random.split(jax.random.key(seed))  # the key of a run with that seed
        head, _ = stages.init(model, key, skip=model.names[:-1])
        return {name: params[name] for name in kept} | head

    return apply, init
