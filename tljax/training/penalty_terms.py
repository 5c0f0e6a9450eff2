"""The penalties of a training step, and the arrays that they read.

The arrays are computed from the starting values alone, so a resumed run computes them again. They
are arguments of the step, not constants of its program, and are in no checkpoint.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax

from tljax import tree
from tljax.models import stages
from tljax.models.stages import Model
from tljax.types import Params, Penalty, PenaltyInputs, Setting, Stats
from tljax.weights.pretrained import Pretrained

Run = Callable[..., tuple[jax.Array, Stats]]  # `stages.run` for a model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upstream:
    """The pretrained network above the stages that the model shares with it."""

    model: Model
    params: Params
    stats: Stats
    first: str  # its first stage that is not shared

    def logits(self, params: Params, stats: Stats, x: jax.Array, **options: Any) -> jax.Array:
        """Logits [B, S] of the upstream task, from the output of the last shared stage."""
        return stages.run(self.model, params, stats, x, start=self.first, **options)[0]


def find_upstream(model: Model, pretrained: Pretrained) -> Upstream | None:
    """The pretrained network above the stages of a model; None if the weights have no head."""
    if pretrained.num_classes is None:
        return None
    upstream = pretrained.architecture.build(
        pretrained.num_classes, pretrained.preprocessing, pretrained.origin.task
    )
    above = upstream.names[len(model.names) - 1 :]
    return Upstream(
        model=upstream,
        params={name: pretrained.params[name] for name in above},
        stats={name: pretrained.stats[name] for name in above if name in pretrained.stats},
        first=above[0],
    )


@flax.struct.dataclass
class PenaltyArrays:
    """The arrays that penalties read, replicated on every device; {} for those that none reads."""

    params: Params  # starting values of leaves that train in some phase; None for other leaves
    stats: Stats  # starting statistics of stages that change in some phase
    upstream: tuple[Params, Stats]
    prepared: tuple[Any, ...]  # the result of each penalty's `prepare`


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhasePenalties:
    """The penalties of a phase.

    Attributes:
        penalties: the penalties by the names under which they are recorded.
        model: the network.
        setting: which stages train in the phase.
        first: the first stage that trains.
        read: the stages whose outputs penalties read, in forward order.
        of_start: whether they also read the outputs of the starting network.
        shares_prefix: whether the frozen stages below `first` still have their starting values,
            so that their output is also that of the starting network.
        upstream: the upper part of the upstream network, if there is one.
    """

    penalties: Mapping[str, Penalty]
    model: Model
    setting: Setting
    first: str
    read: tuple[str, ...]
    of_start: bool
    shares_prefix: bool
    upstream: Upstream | None

    def features(
        self, run: Run, params: Params, stats: Stats, x: jax.Array, start: str | None
    ) -> tuple[jax.Array, str | None, Stats, dict[str, jax.Array]]:
        """Runs the stages up to the last one whose output is read.

        Returns:
            The last output, the stage that follows, the statistics, and the outputs by stage.
        """
        outputs = {}
        for name in self.read:
            following = self.model.names[self.model.names.index(name) + 1]
            x, stats = run(params, stats, x, start=start, stop=following)
            outputs[name], start = x, following
        return x, start, stats, outputs

    def start_features(
        self,
        arrays: PenaltyArrays,
        params: Params,
        stats: Stats,
        images: jax.Array,
        x: jax.Array,
        **options: Any,
    ) -> dict[str, jax.Array]:
        """The outputs of the starting network in the stages that are read.

        Args:
            arrays: the starting values of leaves that change.
            params: the values of all other leaves.
            stats: the statistics of all other stages.
            images: [B, ...], normalised.
            x: the output of the frozen stages below `first`.
            **options: the precision, for `stages.run`.
        """
        if not self.of_start:
            return {}
        x, start = (x, self.first) if self.shares_prefix else (images, None)
        starting = tree.fill(arrays.params, params), {**stats, **arrays.stats}
        run = functools.partial(stages.run, self.model, **options)
        return self.features(run, *starting, x, start)[-1]

    def values(
        self,
        arrays: PenaltyArrays,
        trained: Params,
        features: Mapping[str, jax.Array],
        start_features: Mapping[str, jax.Array],
        targets: jax.Array,
        mask: jax.Array,
        **options: Any,
    ) -> dict[str, jax.Array]:
        """The value [] float32 of each penalty on a batch, by name.

        Args:
            arrays: the arrays of the penalties.
            trained: the trained leaves; None for other leaves.
            features: outputs by stage.
            start_features: outputs of the starting network by stage.
            targets: [B, K].
            mask: [B].
            **options: the precision of the upstream head, for `stages.run`.
        """
        upstream = self.upstream
        inputs = PenaltyInputs(
            setting=self.setting,
            trained=trained,
            start=arrays.params,
            features=features,
            start_features=start_features,
            upstream=(lambda x: upstream.logits(*arrays.upstream, x, **options))
            if upstream
            else None,
            targets=targets,
            mask=mask,
        )
        pairs = zip(self.penalties.items(), arrays.prepared, strict=True)
        return {name: penalty(inputs, prepared) for (name, penalty), prepared in pairs}


def names_of(penalties: Sequence[Penalty]) -> tuple[str, ...]:
    """`penalty_L2SP`, and `penalty_L2SP_2` for the second of a class."""
    kinds = [type(penalty).__name__ for penalty in penalties]
    numbers = [kinds[:index].count(kind) + 1 for index, kind in enumerate(kinds)]
    return tuple(
        f'penalty_{kind}' + (f'_{number}' if number > 1 else '')
        for kind, number in zip(kinds, numbers, strict=True)
    )
