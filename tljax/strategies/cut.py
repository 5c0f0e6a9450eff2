"""Where a network is cut into what is frozen and what trains, and how either is computed."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

from tljax import tree
from tljax.models import batch_norm_folding, stages
from tljax.models.stages import Model
from tljax.strategies import partition
from tljax.types import Dtype, InputError, Norm, Params, Stats


@dataclasses.dataclass(frozen=True)
class Cut:
    """What of a model trains: the first stage that does, all of them, and what BatchNorm follows.

    `moving` are the stages whose running statistics follow the batch.
    """

    first: str
    live: frozenset[str]
    moving: frozenset[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """How a step is computed; only rounding, and with `accumulate` BatchNorm, depend on it.

    Attributes:
        dtype: of the stages from the first that trains.
        prefix_dtype: of the frozen stages below it.
        fold_prefix: folds their BatchNorm into the layers before it.
        remat: patterns of stages whose activations are computed again rather than kept.
        accumulate: the parts a batch is worked on in, one after another.
        cached: whether batches have the output of the frozen stages in the place of images.
    """

    dtype: Dtype = Dtype.FLOAT32
    prefix_dtype: Dtype = Dtype.FLOAT32
    fold_prefix: bool = False
    remat: tuple[str, ...] = ()
    accumulate: int = 1
    cached: bool = False


def find_cut(model: Model, labels: Params, norm: Norm = Norm.AUTO) -> Cut:
    """Where a phase's labels split the model into a frozen prefix and a trained suffix.

    Raises:
        InputError: nothing trains.
    """
    wanted = partition.trained(labels)
    live = [name for name in model.names if any(jax.tree.leaves(wanted[name]))]
    if not live:
        raise InputError('every leaf is frozen: there is nothing to train')
    moving = {
        Norm.AUTO: live,
        Norm.LIVE: model.names,
        Norm.STATISTICS_ONLY: model.names,
    }.get(norm, ())
    return Cut(first=live[0], live=frozenset(live), moving=frozenset(moving))


def matching(patterns: Sequence[str], stages: Sequence[str]) -> tuple[str, ...]:
    """The stages that any of the patterns covers.

    Raises:
        InputError: a pattern covers none.
    """
    idle = [p for p in patterns if not any(tree.matches(p, stage) for stage in stages)]
    if idle:
        raise InputError(f'remat {idle} covers none of the stages {list(stages)}')
    return tuple(s for s in stages if any(tree.matches(p, s) for p in patterns))


def make_prefix(
    model: Model, cut: Cut, compute: Compute
) -> Callable[[Params, Stats, jax.Array], tuple[jax.Array, Stats]]:
    """The frozen stages: `(params, stats, images) -> (features, stats)`."""
    below = model.names[: model.names.index(cut.first)]
    moving = cut.moving & set(below)
    if compute.cached:
        return lambda params, stats, features: (features, stats)
    if compute.fold_prefix and moving:
        raise InputError(
            'fold_prefix: the statistics of frozen stages follow the batch under this norm policy, '
            'and what changes cannot be folded'
        )

    def prefix(params: Params, stats: Stats, images: jax.Array) -> tuple[jax.Array, Stats]:
        used = (
            batch_norm_folding.folded(model, params, stats, below)
            if compute.fold_prefix
            else (params, stats)
        )
        x, after = stages.run(
            model, *used, images, stop=cut.first, moving=moving, dtype=compute.prefix_dtype
        )
        return x, after if moving else stats

    return prefix
