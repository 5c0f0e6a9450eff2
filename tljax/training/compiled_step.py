"""The compiled training step of a phase, which falls back to smaller parts if memory is short."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.metrics import totals
from tljax.models import layers, shared_programs
from tljax.records import console
from tljax.strategies.cut import Compute
from tljax.training import batches, host_memory, jobs, step
from tljax.training.jobs import Job
from tljax.training.penalty_terms import PenaltyArrays
from tljax.training.processes import watch
from tljax.training.source_step import SamplesStep
from tljax.training.states import TrainState
from tljax.types import Batch


class OutOfMemoryError(RuntimeError):
    """The device cannot hold a step; on a GPU or TPU, not even with one image at a time."""


@dataclasses.dataclass(frozen=True)
class TrainProgram:
    """A compiled step `(key, state, batch, *job.penalty_arrays) -> (state, sums)`.

    The optimizer's learning rate is an argument of the compiled program. Runs that differ only in
    it share the program, also in the compilation cache on disk.

    Attributes:
        compiled: takes the learning rate after the batch.
        learning_rate: [] float32.
    """

    compiled: jax.stages.Compiled
    learning_rate: jax.Array

    def __call__(
        self, key: jax.Array, state: TrainState, batch: Batch, *arrays: Any
    ) -> tuple[TrainState, totals.Sums]:
        """The next state and the sums of a step; donates the arrays of `state`."""
        return self.compiled(key, state, batch, self.learning_rate, *arrays)


class CompiledStep:
    """The compiled step of a phase. If the device runs out of memory, it splits batches further.

    Args:
        job: the experiment.
        phase: one of its phases.
        accumulate: the initial number of parts of a batch.
        features: shape and dtype of an example's cached features, if batches contain features
            instead of images.
        first_step: the first training step. The step is compiled again when batches no longer
            contain samples.
        skip_nonfinite: whether a step that is not finite changes nothing; see `nonfinite_step`.
    """

    def __init__(
        self,
        job: Job,
        phase: PhasePlan,
        accumulate: int,
        features: jax.ShapeDtypeStruct | None = None,
        first_step: int = 0,
        *,
        skip_nonfinite: bool = False,
    ):
        self._job, self._phase, self.accumulate = job, phase, accumulate
        self._skip_nonfinite = skip_nonfinite
        self._features, self._key = features, jobs.train_key(job)
        self._with_samples = first_step < jobs.samples_end(job, phase)
        self._fits = False  # True after a step has succeeded
        self._programs: dict[bool, TrainProgram] = {}  # by whether batches have samples
        self._compile()

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, totals.Sums]:
        """Returns the next state and the sums of one step; donates the arrays of `state`.

        Raises:
            OutOfMemoryError: the device cannot hold one image.
        """
        if ('source' in batch) != self._with_samples:
            self._with_samples, self._fits = 'source' in batch, False
            self._compile()
        if self._fits:
            return self._run(state, batch)
        watch.meet()
        before = devices.HostCopy(state)  # a failed step may have used up its donated arguments
        while True:
            try:
                result = jax.block_until_ready(self._run(state, batch))
            except jax.errors.JaxRuntimeError as error:
                self._split_further(error)
                self._compile()
                state = before.put()
                continue
            self._fits = True
            return result

    def _run(self, state: TrainState, batch: Batch) -> tuple[TrainState, totals.Sums]:
        program = self._programs[self._with_samples]
        return program(self._key, state, batch, *self._job.penalty_arrays)

    def _compile(self) -> None:
        while self._with_samples not in self._programs:
            try:
                self._programs[self._with_samples] = compile_train_step(
                    self._job,
                    self._phase,
                    self.accumulate,
                    self._features,
                    self._with_samples,
                    self._skip_nonfinite,
                )
            except jax.errors.JaxRuntimeError as error:
                self._split_further(error)

    def _split_further(self, error: Exception) -> None:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise error
        rows = self._job.experiment.batch_size // self._job.mesh.size
        larger = (n for n in range(2 * self.accumulate, rows + 1) if rows % n == 0)
        if (parts := next(larger, None)) is None:
            raise OutOfMemoryError(
                f'the device is out of memory even with one image at a time: {error!s:.300}'
            ) from error
        console.console.print(
            f'Out of memory: from now on, each batch is computed in {parts} parts, as with '
            f'config.accumulate={parts}. BatchNorm uses the statistics of each part.'
        )
        self.accumulate = parts
        self._programs.clear()


def compile_train_step(
    job: Job,
    phase: PhasePlan,
    accumulate: int | None = None,
    features: jax.ShapeDtypeStruct | None = None,
    with_samples: bool = False,
    skip_nonfinite: bool = False,
) -> TrainProgram:
    """Compiles the step of a phase for a job's devices.

    Args:
        job: the experiment.
        phase: one of its phases.
        accumulate: the number of parts of a batch; None for the number in the experiment.
        features: shape and dtype of an example's cached features, if batches contain features
            instead of images.
        with_samples: whether batches have samples of a source domain.
        skip_nonfinite: whether a step that is not finite changes nothing; see `nonfinite_step`.

    Raises:
        OutOfMemoryError: the memory of this machine cannot hold the step on its CPU.
    """
    compute = compute_of(job, accumulate, cached=features is not None)

    def make() -> jax.stages.Compiled:
        return _compiled(job, phase, compute, features, with_samples, skip_nonfinite)

    if job.penalty_start or job.samples:  # both depend on more than the experiment
        compiled = make()
    else:
        key = *_dependences(job, phase, compute, features), skip_nonfinite
        compiled = shared_programs.get(key, make)
    if problem := host_memory.problem(compiled):
        raise OutOfMemoryError(problem)
    rate = devices.put_replicated(job.mesh, np.float32(phase.base_rate))
    return TrainProgram(compiled, rate)


def _dependences(
    job: Job, phase: PhasePlan, compute: Compute, features: jax.ShapeDtypeStruct | None
) -> tuple[Any, ...]:
    """Everything that the step of a phase depends on, without penalties and samples."""
    experiment = job.experiment
    own: Any = experiment.optimizer
    optimizer = dataclasses.replace(own, learning_rate=1.0)  # it is an argument
    rate = (optimizer, experiment.schedule, job.steps_per_epoch, phase.length)
    rules = (phase.phase, phase.labels, phase.averaged, experiment.clip_norm)
    norm = (experiment.norm, experiment.stochastic_norm, experiment.ema_decay)
    loss = (jobs.training_loss(job), experiment.augmentations, experiment.batch_size)
    return 'step', job.model, job.mesh, compute, rate, rules, norm, loss, features


def _compiled(
    job: Job,
    phase: PhasePlan,
    compute: Compute,
    features: jax.ShapeDtypeStruct | None,
    with_samples: bool,
    skip_nonfinite: bool,
) -> jax.stages.Compiled:
    loss = jobs.training_loss(job)
    options = gradient_options(job, phase, compute, with_samples)

    def train_step(
        key: jax.Array, state: TrainState, batch: Batch, rate: jax.Array, *arrays: PenaltyArrays
    ) -> tuple[TrainState, totals.Sums]:
        one = step.make_train_step(
            job.model,
            phase.optimizer_at(rate),
            phase.labels,
            loss,
            job.experiment.augmentations,
            ema_decay=job.experiment.ema_decay,
            skip_nonfinite=skip_nonfinite,
            **options,
        )
        return one(key, state, batch, *arrays)

    replicated, rows = devices.replicated(job.mesh), devices.split(job.mesh)
    arrays = (replicated,) * len(job.penalty_arrays)
    state = jobs.checkpoint_shapes(job, phase)['state']
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    jitted = jax.jit(
        train_step,
        in_shardings=(replicated, places, rows, replicated, *arrays),
        out_shardings=(places, replicated),
        donate_argnums=1,
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = batches.shapes(job, features, with_samples)
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    lowered = jitted.lower(key, state, batch, rate, *job.penalty_arrays)
    return _with_barriers(lowered, job.mesh.devices.flat[0].platform)


def _with_barriers(lowered: jax.stages.Lowered, platform: str) -> jax.stages.Compiled:
    """Compiles a step so that `layers.stored` has its effect, if the platform allows it."""
    if platform != 'cpu':
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=layers.KEEP_BARRIERS)
    except jax.errors.JaxRuntimeError as error:
        if 'opt-barrier' not in str(error):
            raise
        return lowered.compile()  # a network of the user has a barrier in a loop


def gradient_options(
    job: Job, phase: PhasePlan, compute: Compute, with_samples: bool
) -> dict[str, Any]:
    """The options of `step.make_gradients` for a phase."""
    return {
        'norm': job.experiment.norm,
        'stochastic_norm': job.experiment.stochastic_norm,
        'compute': compute,
        'penalties': job.penalties_in(phase),
        'samples_step': _samples_step(job, phase, compute) if with_samples else None,
    }


def compute_of(job: Job, accumulate: int | None, *, cached: bool) -> Compute:
    """How a job computes a step, in `accumulate` parts; None for the experiment's number."""
    experiment = job.experiment
    return Compute(
        dtype=experiment.compute_dtype,
        prefix_dtype=experiment.prefix_dtype or experiment.compute_dtype,
        fold_prefix=experiment.fold_prefix,
        remat=experiment.remat,
        accumulate=accumulate or experiment.accumulate,
        cached=cached,
        mesh=job.mesh,
    )


def _samples_step(job: Job, phase: PhasePlan, compute: Compute) -> SamplesStep:
    """The part of a phase's step that trains on samples."""
    samples, experiment = job.samples, job.experiment
    assert samples is not None
    return SamplesStep(
        samples=samples,
        cut=phase.cut,
        loss=getattr(samples.config, 'loss', None) or experiment.loss,
        augmentations=experiment.augmentations,
        compute=compute,
        stochastic_norm=experiment.stochastic_norm,
        optimizer=samples.optimizer(phase, experiment)[0] if samples.head else None,
    )
