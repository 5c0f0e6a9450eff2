"""The penalties of an experiment, and the starting values of training that they refer to."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tljax import devices, tree
from tljax.config.phases import PhasePlan
from tljax.data import pipeline
from tljax.data.pipeline import Reading
from tljax.models import stages
from tljax.models.stages import Model
from tljax.strategies import partition
from tljax.training.penalty_terms import PenaltyArrays, PhasePenalties, Upstream, names_of
from tljax.types import Batch, Examples, InputError, Params, Penalty, Setting, Start, Stats

STREAM = 0x616E6368  # separates the random draws of penalties from those of training steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseChanges:
    """The parameters and stages that a phase changes.

    Attributes:
        leaves: for each parameter, a bool: whether it is trained.
        changed: the stages whose parameters or statistics change.
    """

    leaves: Params
    changed: frozenset[str]

    @classmethod
    def of(cls, phase: PhasePlan) -> 'PhaseChanges':
        """The changes of a phase of an experiment."""
        changed = phase.cut.trainable | phase.cut.updates_statistics
        return cls(leaves=partition.trained(phase.labels), changed=changed)

    @property
    def trained(self) -> frozenset[str]:
        """The stages with a trained parameter."""
        return frozenset(
            name for name, leaves in self.leaves.items() if any(jax.tree.leaves(leaves))
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PenaltyStart:
    """The penalties of an experiment and the starting values of its training.

    Attributes:
        penalties: the penalties of the experiment.
        model: the network.
        params: the starting parameters.
        stats: the starting statistics.
        shared: the stages whose values come from the pretrained weights.
        upstream: the upper part of the upstream network, if there is one.
        phases: the changes of each phase.
    """

    penalties: tuple[Penalty, ...]
    model: Model
    params: Params
    stats: Stats
    shared: frozenset[str]
    upstream: Upstream | None
    phases: tuple[PhaseChanges, ...]

    def check(self) -> None:
        """Raises: InputError: a penalty has no effect in any phase."""
        setting = self._setting(self.phases)
        obstacles = [penalty.obstacle(setting) for penalty in self.penalties]
        lines = [
            f'config.penalties[{index}] ({type(penalty).__name__}) has no effect: {obstacle}'
            for index, (penalty, obstacle) in enumerate(zip(self.penalties, obstacles, strict=True))
            if obstacle is not None
        ]
        if lines:
            raise InputError('\n'.join(lines))

    def in_phase(self, index: int) -> PhasePenalties:
        """The penalties of a phase."""
        setting = self._setting(self.phases[index : index + 1])
        needs = [penalty.needs(setting) for penalty in self.penalties]
        names = self.model.names
        first = next(name for name in names if name in setting.trained)
        changed = frozenset().union(*(phase.changed for phase in self.phases[: index + 1]))
        return PhasePenalties(
            penalties=dict(zip(names_of(self.penalties), self.penalties, strict=True)),
            model=self.model,
            setting=setting,
            first=first,
            read=tuple(name for name in names if any(name in need.features for need in needs)),
            of_start=any(need.start and need.features for need in needs),
            shares_prefix=not changed & set(names[: names.index(first)]),
            upstream=self.upstream,
        )

    def measure(
        self, examples: Examples, mesh: Mesh, *, seed: int, reading: Reading
    ) -> PenaltyArrays:
        """Computes the arrays that penalties need before training starts.

        Args:
            examples: the training split.
            mesh: the devices for the arrays.
            seed: the seed of the random draws of penalties.
            reading: batch size and threads for reading the examples.
        """
        trained = jax.tree.map(lambda *flags: any(flags), *(phase.leaves for phase in self.phases))
        changed = frozenset().union(*(phase.changed for phase in self.phases))
        params, stats = devices.put_replicated(mesh, (self.params, self.stats))
        upstream = self.upstream
        upstream_values: tuple[Params, Stats] = ({}, {})
        if upstream is not None:
            upstream_values = devices.put_replicated(mesh, (upstream.params, upstream.stats))
        start = Start(
            setting=self._setting(self.phases),
            num_classes=self.model.num_classes,
            task=self.model.task,
            params=params,
            trained=trained,
            run=lambda p, x, start, stop: stages.run(
                self.model, p, stats, x, start=start, stop=stop
            )[0],
            upstream=(lambda x: upstream.logits(*upstream_values, x)) if upstream else None,
            batches=functools.partial(_batches, self.model, examples, mesh, seed, reading),
            key=devices.put_replicated(mesh, jax.random.key(seed ^ STREAM)),
        )
        prepared = tuple(penalty.prepare(start) for penalty in self.penalties)
        needs = [penalty.needs(start.setting) for penalty in self.penalties]
        of_start = any(need.start for need in needs)
        return PenaltyArrays(
            params=tree.select(params, trained) if of_start else {},
            stats={name: stats[name] for name in sorted(changed & set(stats))} if of_start else {},
            upstream=upstream_values if any(need.upstream for need in needs) else ({}, {}),
            prepared=devices.put_replicated(mesh, prepared),
        )

    def _setting(self, phases: Sequence[PhaseChanges]) -> Setting:
        return Setting(
            stages=self.model.names,
            shared=self.shared,
            trained=frozenset().union(*(phase.trained for phase in phases)),
            upstream_classes=self.upstream.model.num_classes if self.upstream else None,
        )


def _batches(
    model: Model, examples: Examples, mesh: Mesh, seed: int, reading: Reading, limit: int | None
) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
    """Yields normalised images, labels and masks of the batches; see `types.Start.batches`."""
    if limit is not None:
        order = np.random.default_rng([seed, STREAM]).permutation(len(examples))
        examples = examples.take(order[:limit])

    @functools.partial(jax.jit, out_shardings=devices.replicated(mesh))
    def prepared(batch: Batch) -> tuple[jax.Array, ...]:
        images = stages.normalise(model.preprocessing, jnp.asarray(batch['input']))
        return images, jnp.asarray(batch['label']), jnp.asarray(batch['mask'])

    batches = pipeline.eval_batches(
        examples,
        model.preprocessing,
        batch_size=reading.batch_size,
        process=devices.process(),
        threads=reading.threads,
    )
    for batch in batches:
        yield prepared(devices.put_batch(mesh, batch))
