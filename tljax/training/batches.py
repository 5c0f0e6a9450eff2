"""An experiment's batches, in training and in evaluation, and the shape of one."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.data import pipeline
from tljax.data.paired import Beside
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.types import Balance, Batch


def train_batches(
    job: Job, steps: int, in_place: pipeline.InPlace | None = None
) -> Iterable[Batch]:
    """The first `steps` batches of training: this process's rows, on the host.

    Their iterator has `get_state` and `set_state`.
    """
    process, threads = (jax.process_index(), jax.process_count()), job.experiment.data_threads
    target = pipeline.train_batches(
        job.splits['train'],
        job.model.preprocessing,
        batch_size=job.experiment.batch_size,
        steps=steps,
        seed=job.experiment.seed,
        process=process,
        threads=threads,
        balanced=job.experiment.balance is Balance.SAMPLE,
        in_place=in_place,
    )
    if job.source is None:
        return target
    beside = job.source.batches(steps, seed=job.experiment.seed, process=process, threads=threads)
    return Beside(target, beside, job.source.until)


class Feed:
    """The batches of a phase on the devices, with a source's rows at the steps that train on them.

    Args:
        job: the experiment.
        phase: one of its phases.
        steps: the number of batches in the whole stream; that of the experiment if None.
        in_place: what stands in the place of images.
        position: where another feed of the stream stood; its beginning if None.
    """

    def __init__(
        self,
        job: Job,
        phase: PhasePlan,
        *,
        steps: int | None = None,
        in_place: pipeline.InPlace | None = None,
        position: dict[str, Any] | None = None,
    ):
        self._mesh, self._source_ends = job.mesh, jobs.source_ends(job, phase)
        stream = train_batches(job, job.steps if steps is None else steps, in_place)
        self._batches: Any = iter(stream)
        if position is not None:
            self._batches.set_state(position)

    def take(self, step: int) -> Batch:
        """The next batch, for a step of the experiment, counted from 0."""
        batch = next(self._batches)
        if step >= self._source_ends:
            batch.pop('source', None)
        return devices.put_batch(self._mesh, batch)

    @property
    def position(self) -> dict[str, Any]:
        """Where the stream stands, for a checkpoint."""
        return self._batches.get_state()


def eval_batches(job: Job, split: str) -> Iterator[Batch]:
    """Every example of a split once, in order, as host arrays."""
    return pipeline.eval_batches(
        job.splits[split],
        job.model.preprocessing,
        batch_size=job.experiment.batch_size,
        process=(jax.process_index(), jax.process_count()),
        threads=job.experiment.data_threads,
    )


def batch_shape(job: Job, in_place: jax.ShapeDtypeStruct | None, with_source: bool) -> Batch:
    """The shapes of a batch of training; see `phase_step.compile_train_step`."""
    side = job.model.preprocessing.resize_px
    image = jax.ShapeDtypeStruct((side, side, 3), jnp.uint8)
    label = one = jax.ShapeDtypeStruct((), jnp.int32)
    if job.splits['train'].multi_label:
        label = jax.ShapeDtypeStruct((job.model.num_classes,), jnp.uint8)
    batch = _rows_shape(job.experiment.batch_size, in_place or image, label)
    if with_source and job.source:
        batch = {**batch, 'source': _rows_shape(job.source.rows, image, one)}
    return batch  # type: ignore[return-value]


def _rows_shape(rows: int, image: jax.ShapeDtypeStruct, label: jax.ShapeDtypeStruct) -> Batch:
    return {
        'image': jax.ShapeDtypeStruct((rows, *image.shape), image.dtype),
        'label': jax.ShapeDtypeStruct((rows, *label.shape), label.dtype),
        'id': jax.ShapeDtypeStruct((rows,), jnp.uint32),
        'mask': jax.ShapeDtypeStruct((rows,), jnp.bool_),
    }  # type: ignore[typeddict-item]
