"""An experiment's penalties, and the start of its training that they hold it to."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tljax import devices, tree
from tljax.data import pipeline
from tljax.models import stages
from tljax.models.stages import Model
from tljax.training.penalty_terms import Given, Plan, Upstream, names_of
from tljax.types import Batch, Examples, InputError, Params, Penalty, Setting, Start, Stats

STREAM = 0x616E6368  # what penalties draw is not what any step draws


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

    def measure(
        self, examples: Examples, mesh: Mesh, *, seed: int, batch_size: int, threads: int
    ) -> Given:
        """The arrays that penalties read, with what has to be measured before training.

        Args:
            examples: the training split.
            mesh: the devices that hold the arrays.
            seed: of what penalties draw.
            batch_size: of passes over examples.
            threads: that read them.
        """
        first, *others = (phase.leaves for phase in self.phases)
        trained = jax.tree.map(lambda *kept: any(kept), first, *others)
        changed = frozenset().union(*(phase.changed for phase in self.phases))
        params, stats = devices.put_replicated(mesh, (self.params, self.stats))
        upstream = self.upstream
        above: tuple[Params, Stats] = ({}, {})
        if upstream is not None:
            above = devices.put_replicated(mesh, (upstream.params, upstream.stats))
        start = Start(
            setting=self._setting(self.phases),
            num_classes=self.model.num_classes,
            params=params,
            trained=trained,
            run=lambda p, x, start, stop: stages.run(
                self.model, p, stats, x, start=start, stop=stop
            )[0],
            upstream=(lambda x: upstream.logits(*above, x)) if upstream else None,
            batches=functools.partial(
                _batches, self.model, examples, mesh, seed, batch_size, threads
            ),
            key=devices.put_replicated(mesh, jax.random.key(seed ^ STREAM)),
        )
        prepared = tuple(one.prepare(start) for one in self.penalties)
        needs = [one.needs(start.setting) for one in self.penalties]
        of_start = any(n.start for n in needs)
        return Given(
            params=tree.select(params, trained) if of_start else {},
            stats={n: stats[n] for n in sorted(changed) if n in stats} if of_start else {},
            upstream=above if any(n.upstream for n in needs) else ({}, {}),
            prepared=devices.put_replicated(mesh, prepared),
        )

    def _setting(self, phases: Sequence[Touched]) -> Setting:
        upstream = self.upstream
        return Setting(
            stages=self.model.names,
            shared=self.shared,
            trained=frozenset().union(*(phase.stages for phase in phases)),
            upstream_classes=upstream.model.num_classes if upstream else None,
        )


def _batches(
    model: Model,
    examples: Examples,
    mesh: Mesh,
    seed: int,
    batch_size: int,
    threads: int,
    limit: int | None,
) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
    """See `types.Start`."""
    if limit is not None:
        order = np.random.default_rng([seed, STREAM]).permutation(len(examples))
        examples = examples.take(order[:limit])

    @functools.partial(jax.jit, out_shardings=devices.replicated(mesh))
    def shown(batch: Batch) -> tuple[jax.Array, ...]:
        images = stages.normalise(model.preprocessing, jnp.asarray(batch['image']))
        return images, jnp.asarray(batch['label']), jnp.asarray(batch['mask'])

    batches = pipeline.eval_batches(
        examples,
        model.preprocessing,
        batch_size=batch_size,
        process=(jax.process_index(), jax.process_count()),
        threads=threads,
    )
    for batch in batches:
        yield shown(devices.put_batch(mesh, batch))
