"""The cut of a network into a frozen prefix and a trained suffix, and how each is computed."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh

from tljax import devices, tree
from tljax.models import batch_norm_folding, language_model, stages
from tljax.models.stages import Model
from tljax.strategies import norm_policies, partition
from tljax.types import Dtype, InputError, Norm, Params, Stats


@dataclasses.dataclass(frozen=True)
class Cut:
    """The stages of a model that a phase trains.

    Attributes:
        first: the first stage with a trainable leaf; the stages below it are the frozen prefix.
        trainable: all stages with a trainable leaf.
        updates_statistics: the stages whose BatchNorm uses and updates batch statistics.
    """

    first: str
    trainable: frozenset[str]
    updates_statistics: frozenset[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """How a step is computed; it affects only rounding, and with `accumulate` BatchNorm.

    Attributes:
        dtype: of the stages from the first trainable one on.
        prefix_dtype: of the frozen stages below it.
        fold_prefix: folds their BatchNorm into the preceding layers.
        remat: patterns of stages whose activations are recomputed in the backward pass.
        accumulate: the number of parts of a batch that are computed one after another.
        cached: whether batches contain the output of the frozen stages instead of images.
        mesh: the devices of the parameters; None for a single one.
    """

    dtype: Dtype = Dtype.FLOAT32
    prefix_dtype: Dtype = Dtype.FLOAT32
    fold_prefix: bool = False
    remat: tuple[str, ...] = ()
    accumulate: int = 1
    cached: bool = False
    mesh: Mesh | None = None

    @property
    def gather(self) -> devices.Gather | None:
        """What puts the full parameters of a stage on every device; None if they are there."""
        return devices.gatherer(self.mesh) if self.mesh else None


def find_cut(model: Model, labels: Params, norm: Norm = Norm.AUTO) -> Cut:
    """The cut of a model by the labels of a phase.

    Raises:
        InputError: every leaf is frozen.
    """
    trained = partition.trained(labels)
    trainable = [name for name in model.names if any(jax.tree.leaves(trained[name]))]
    if not trainable:
        raise InputError('every leaf is frozen: there is nothing to train')
    return Cut(
        first=trainable[0],
        trainable=frozenset(trainable),
        updates_statistics=norm_policies.updated_stages(norm, trainable, model.names),
    )


def matching(patterns: Sequence[str], stages: Sequence[str]) -> tuple[str, ...]:
    """The stages that match any of the patterns.

    Raises:
        InputError: a pattern matches no stage.
    """
    idle = [p for p in patterns if not any(tree.matches(p, stage) for stage in stages)]
    if idle:
        raise InputError(f'remat {idle} matches none of the stages {list(stages)}')
    return tuple(s for s in stages if any(tree.matches(p, s) for p in patterns))


def make_prefix(
    model: Model, cut: Cut, compute: Compute
) -> Callable[[Params, Stats, jax.Array], tuple[jax.Array, Stats]]:
    """The frozen stages: `(params, stats, images) -> (features, stats)`."""
    below = model.names[: model.names.index(cut.first)]
    updated = cut.updates_statistics & set(below)
    if compute.cached:
        return lambda params, stats, features: (features, stats)
    if compute.fold_prefix and updated:
        raise InputError(
            'fold_prefix: this norm policy updates the statistics of frozen stages, and statistics '
            'that change cannot be folded'
        )

    def prefix(params: Params, stats: Stats, images: jax.Array) -> tuple[jax.Array, Stats]:
        values = (
            batch_norm_folding.folded(model, params, stats, below)
            if compute.fold_prefix
            else (params, stats)
        )
        x, after = stages.run(
            model,
            *values,
            images,
            stop=cut.first,
            updates_statistics=updated,
            dtype=compute.prefix_dtype,
            gather=compute.gather,
        )
        return x, after if updated or language_model.carries(stats) else stats

    return prefix
