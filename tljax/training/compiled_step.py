"""The training step of a phase, compiled for an experiment's devices."""

import jax

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.strategies.cut import Compute, find_cut
from tljax.training import jobs, step
from tljax.training.batches import batch_shape
from tljax.training.jobs import Job
from tljax.training.source_step import BesideStep


def compile_train_step(
    job: Job,
    phase: PhasePlan,
    accumulate: int | None = None,
    in_place: jax.ShapeDtypeStruct | None = None,
    with_source: bool = False,
) -> jax.stages.Compiled:
    """The phase's step `(key, state, batch, *job.given) -> (state, sums)`, for the job's devices.

    Args:
        job: the experiment.
        phase: one of its phases.
        accumulate: the parts of a batch; None for as many as the experiment says.
        in_place: the shape of what an example's frozen stages gave, where batches have that in
            the place of images.
        with_source: whether batches have rows of the source.
    """
    experiment = job.experiment
    compute = Compute(
        dtype=experiment.compute_dtype,
        prefix_dtype=experiment.prefix_dtype or experiment.compute_dtype,
        fold_prefix=experiment.fold_prefix,
        remat=experiment.remat,
        accumulate=accumulate or experiment.accumulate,
        cached=in_place is not None,
    )
    beside = _beside(job, phase, compute) if with_source else None
    whole, rows = devices.replicated(job.mesh), devices.split(job.mesh)
    jitted = jax.jit(
        _function(job, phase, compute, beside),
        in_shardings=(whole, whole, rows, *(whole for _ in job.given)),
        out_shardings=(whole, whole),
        donate_argnums=1,
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jobs.checkpoint_shapes(job, phase)['state']
    batch = batch_shape(job, in_place, with_source)
    return jitted.lower(key, state, batch, *job.given).compile()


def _function(
    job: Job, phase: PhasePlan, compute: Compute, beside: BesideStep | None
) -> step.TrainStep:
    """The phase's step, with nothing compiled yet."""
    experiment = job.experiment
    return step.make_train_step(
        job.model,
        phase.optimizer,
        phase.labels,
        jobs.training_loss(job),
        experiment.augmentations,
        norm=experiment.norm,
        stochastic_norm=experiment.stochastic_norm,
        compute=compute,
        ema_decay=experiment.ema_decay,
        penalties=job.anchor.plan(phase.index) if job.anchor else None,
        beside=beside,
    )


def _beside(job: Job, phase: PhasePlan, compute: Compute) -> BesideStep:
    """The source's part of a phase's step."""
    source, experiment = job.source, job.experiment
    assert source is not None
    return BesideStep(
        sourced=source,
        cut=find_cut(job.model, phase.labels, experiment.norm),
        loss=getattr(source.config, 'loss', None) or experiment.loss,
        augmentations=experiment.augmentations,
        compute=compute,
        stochastic_norm=experiment.stochastic_norm,
        optimizer=source.optimizer(phase, experiment)[0] if source.head else None,
    )
