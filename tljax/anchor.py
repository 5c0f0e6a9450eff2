"""What holds training to its start: an experiment's penalties, and what they need of the start.

What is read is static, a plan for each phase. The arrays that go with it are computed from the
starting values alone, so that a resumed run has the same; they are arguments of the step, not
constants of its program, and in no checkpoint.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
from jax.sharding import Mesh

from tljax import model as models
from tljax import sharding, tree
from tljax.model import Model
from tljax.types import InputError, Params, Penalty, PenaltyInputs, Setting, Start, Stats
from tljax.weights import Pretrained

Run = Callable[..., tuple[jax.Array, Stats]]  # (params, stats, x, start=, stop=), as `models.run`
Batches = Callable[[int | None], Iterable[tuple[jax.Array, jax.Array, jax.Array]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upstream:
    """The network that the weights came with, above the stages that the model shares with it."""

    model: Model
    params: Params
    stats: Stats
    first: str

    def logits(self, params: Params, stats: Stats, x: jax.Array, **how: Any) -> jax.Array:
        """[B, S] of the source task, from the output of the last shared stage."""
        return models.run(self.model, params, stats, x, start=self.first, **how)[0]


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
        run = functools.partial(models.run, self.model, **how)
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Touched:
    """What a phase changes: leaves that train, and stages of which something does."""

    leaves: Params  # a bool per leaf
    changed: frozenset[str]  # also where statistics alone follow the batch

    @property
    def stages(self) -> frozenset[str]:
        """Those of which a leaf trains."""
        return frozenset(name for name, kept in self.leaves.items() if any(jax.tree.leaves(kept)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchor:
    """An experiment's penalties and where its training starts.

    Attributes:
        penalties: of the experiment.
        model: the network.
        params: where training starts.
        stats: likewise.
        shared: stages whose values came with the weights.
        upstream: the rest of the source network, if there is one.
        phases: what each changes.
    """

    penalties: tuple[Penalty, ...]
    model: Model
    params: Params
    stats: Stats
    shared: frozenset[str]
    upstream: Upstream | None
    phases: tuple[Touched, ...]

    def check(self) -> None:
        """Raises: InputError: a penalty could change nothing in any phase."""
        setting = self._setting(self.phases)
        found = [(one, one.obstacle(setting)) for one in self.penalties]
        lines = [
            f'config.penalties[{index}] ({type(one).__name__}) has no effect: {obstacle}'
            for index, (one, obstacle) in enumerate(found)
            if obstacle is not None
        ]
        if lines:
            raise InputError('\n'.join(lines))

    def plan(self, index: int) -> Plan:
        """The penalties of a phase."""
        setting = self._setting(self.phases[index : index + 1])
        needs = [one.needs(setting) for one in self.penalties]
        names = self.model.names
        first = next(name for name in names if name in setting.trained)
        changed = frozenset().union(*(phase.changed for phase in self.phases[: index + 1]))
        return Plan(
            penalties=dict(zip(names_of(self.penalties), self.penalties, strict=True)),
            model=self.model,
            setting=setting,
            first=first,
            read=tuple(name for name in names if any(name in n.features for n in needs)),
            of_start=any(n.start and n.features for n in needs),
            shares_prefix=not changed & set(names[: names.index(first)]),
            upstream=self.upstream,
        )

    def measure(self, batches: Batches, key: jax.Array, mesh: Mesh) -> Given:
        """The arrays that penalties read, with what has to be measured before training.

        Args:
            batches: see `types.Start`.
            key: of what penalties draw.
            mesh: the devices that hold the arrays.
        """
        trained = jax.tree.map(lambda *kept: any(kept), *(phase.leaves for phase in self.phases))
        changed = frozenset().union(*(phase.changed for phase in self.phases))
        params, stats = sharding.put_replicated(mesh, (self.params, self.stats))
        upstream = self.upstream
        above = ({}, {})
        if upstream is not None:
            above = sharding.put_replicated(mesh, (upstream.params, upstream.stats))
        start = Start(
            setting=self._setting(self.phases),
            num_classes=self.model.num_classes,
            params=params,
            trained=trained,
            run=lambda p, x, start, stop: models.run(
                self.model, p, stats, x, start=start, stop=stop
            )[0],
            upstream=(lambda x: upstream.logits(*above, x)) if upstream else None,
            batches=batches,
            key=key,
        )
        prepared = tuple(one.prepare(start) for one in self.penalties)
        needs = [one.needs(start.setting) for one in self.penalties]
        of_start = any(n.start for n in needs)
        return Given(
            params=tree.select(params, trained) if of_start else {},
            stats={n: stats[n] for n in sorted(changed) if n in stats} if of_start else {},
            upstream=above if any(n.upstream for n in needs) else ({}, {}),
            prepared=sharding.put_replicated(mesh, prepared),
        )

    def _setting(self, phases: Sequence[Touched]) -> Setting:
        upstream = self.upstream
        return Setting(
            stages=self.model.names,
            shared=self.shared,
            trained=frozenset().union(*(phase.stages for phase in phases)),
            upstream_classes=upstream.model.num_classes if upstream else None,
        )


def names_of(penalties: Sequence[Penalty]) -> tuple[str, ...]:
    """`penalty_L2SP`, and `penalty_L2SP_2` for the second of a class."""
    kinds = [type(penalty).__name__ for penalty in penalties]
    numbers = [kinds[:index].count(kind) + 1 for index, kind in enumerate(kinds)]
    return tuple(
        f'penalty_{kind}' + (f'_{number}' if number > 1 else '')
        for kind, number in zip(kinds, numbers, strict=True)
    )
