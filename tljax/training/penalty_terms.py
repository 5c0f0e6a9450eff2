"""A training step's penalties: what is run and read for them, and the arrays that go with it.

The arrays are computed from the starting values alone, so that a resumed run has the same; they
are arguments of the step, not constants of its program, and in no checkpoint.
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

Run = Callable[..., tuple[jax.Array, Stats]]  # (params, stats, x, start=, stop=), as `models.run`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upstream:
    """The network that the weights came with, above the stages that the model shares with it."""

    model: Model
    params: Params
    stats: Stats
    first: str

    def logits(self, params: Params, stats: Stats, x: jax.Array, **how: Any) -> jax.Array:
        """[B, S] of the source task, from the output of the last shared stage."""
        return stages.run(self.model, params, stats, x, start=self.first, **how)[0]


def find_upstream(model: Model, pretrained: Pretrained) -> Upstream | None:
    """What weights have above the backbone's stages of a model; None where they have no head."""
    if pretrained.num_classes is None:
        return None
    source = pretrained.architecture.build(pretrained.num_classes, pretrained.preprocessing)
    above = source.names[len(model.names) - 1 :]
    return Upstream(
        model=source,
        params={name: pretrained.params[name] for name in above},
        stats={name: pretrained.stats[name] for name in above if name in pretrained.stats},
        first=above[0],
    )


@flax.struct.dataclass
class Given:
    """The arrays of penalties, whole on every device; without those that none of them reads."""

    params: Params  # starting values of what trains in some phase; None for other leaves
    stats: Stats  # starting statistics of stages that change in some phase
    upstream: tuple[Params, Stats]
    prepared: tuple[Any, ...]  # of each penalty


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The penalties of a phase.

    Attributes:
        penalties: by the names under which they are recorded.
        model: the network.
        setting: what trains in the phase.
        first: the first stage that does.
        read: the stages whose outputs are read, in forward order.
        of_start: whether these outputs are read of the starting network too.
        shares_prefix: whether the frozen stages below `first` are still what they were at the
            start, so that the starting network goes on from their output.
        upstream: the rest of the source network, where there is one.
    """

    penalties: Mapping[str, Penalty]
    model: Model
    setting: Setting
    first: str
    read: tuple[str, ...]
    of_start: bool
    shares_prefix: bool
    upstream: Upstream | None

    def through(
        self, run: Run, params: Params, stats: Stats, x: jax.Array, start: str | None
    ) -> tuple[jax.Array, str | None, Stats, dict[str, jax.Array]]:
        """Runs as far as outputs are read.

        Returns:
            The last output, the stage that reads it, the statistics, and the outputs by stage.
        """
        seen = {}
        for name in self.read:
            following = self.model.names[self.model.names.index(name) + 1]
            x, stats = run(params, stats, x, start=start, stop=following)
            seen[name], start = x, following
        return x, start, stats, seen

    def start_features(
        self,
        given: Given,
        params: Params,
        stats: Stats,
        images: jax.Array,
        x: jax.Array,
        **how: Any,
    ) -> dict[str, jax.Array]:
        """What the starting network puts out in the stages that are read.

        Args:
            given: the starting values of what changes.
            params: the values of all else.
            stats: likewise.
            images: [B, ...], normalised.
            x: the output of the frozen stages below `first`.
            how: the precision.
        """
        if not self.of_start:
            return {}
        x, start = (x, self.first) if self.shares_prefix else (images, None)
        begun = tree.fill(given.params, params), {**stats, **given.stats}
        run = functools.partial(stages.run, self.model, **how)
        return self.through(run, *begun, x, start)[-1]

    def values(
        self,
        given: Given,
        trained: Params,
        features: Mapping[str, jax.Array],
        start_features: Mapping[str, jax.Array],
        targets: jax.Array,
        mask: jax.Array,
        **how: Any,
    ) -> dict[str, jax.Array]:
        """Each penalty of a batch, [] float32 by name.

        Args:
            given: the arrays.
            trained: the trained leaves, with holes.
            features: outputs by stage.
            start_features: those of the starting network.
            targets: [B, K].
            mask: [B].
            how: the precision of the source network's head.
        """
        upstream = self.upstream
        inputs = PenaltyInputs(
            setting=self.setting,
            trained=trained,
            start=given.params,
            features=features,
            start_features=start_features,
            upstream=(lambda x: upstream.logits(*given.upstream, x, **how)) if upstream else None,
            targets=targets,
            mask=mask,
        )
        pairs = zip(self.penalties.items(), given.prepared, strict=True)
        return {name: penalty(inputs, prepared) for (name, penalty), prepared in pairs}


def names_of(penalties: Sequence[Penalty]) -> tuple[str, ...]:
    """`penalty_L2SP`, and `penalty_L2SP_2` for the second of a class."""
    kinds = [type(penalty).__name__ for penalty in penalties]
    numbers = [kinds[:index].count(kind) + 1 for index, kind in enumerate(kinds)]
    return tuple(
        f'penalty_{kind}' + (f'_{number}' if number > 1 else '')
        for kind, number in zip(kinds, numbers, strict=True)
    )
