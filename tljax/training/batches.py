"""An experiment's batches, for training and for evaluation."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.data import pipeline
from tljax.data.paired import PairedBatches
from tljax.models.stages import Model
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.types import Balance, Batch


def train_batches(
    job: Job, steps: int, substitute: pipeline.Substitute | None = None
) -> Iterable[Batch]:
    """The rows that this process reads of the first `steps` batches of training, on the host.

    Their iterator has `get_state` and `set_state`.
    """
    experiment = job.experiment
    target = pipeline.train_batches(
        job.splits['train'],
        job.model.preprocessing,
        batch_size=experiment.batch_size,
        steps=steps,
        seed=experiment.seed,
        process=devices.process(),
        threads=experiment.data_threads,
        balanced=experiment.balance is Balance.SAMPLE,
        substitute=substitute,
    )
    if job.samples is None:
        return target
    samples = job.samples.batches(steps, seed=experiment.seed, threads=experiment.data_threads)
    return PairedBatches(target, samples, job.samples.until)


class Feed:
    """The batches of a phase on the devices, with samples at the steps that train on them.

    Args:
        job: the experiment.
        phase: one of its phases.
        steps: the number of batches in the whole stream; None for that of the experiment.
        substitute: replaces the images, for example by cached features.
        position: the `position` of another feed of the stream; None for its beginning.
    """

    def __init__(
        self,
        job: Job,
        phase: PhasePlan,
        *,
        steps: int | None = None,
        substitute: pipeline.Substitute | None = None,
        position: dict[str, Any] | None = None,
    ):
        self._mesh, self._samples_end = job.mesh, jobs.samples_end(job, phase)
        stream = train_batches(job, job.steps if steps is None else steps, substitute)
        self._batches: Any = iter(stream)
        if position is not None:
            self._batches.set_state(position)

    def take(self, step: int) -> Batch:
        """The next batch, for a step of the experiment, counted from 0."""
        batch = next(self._batches)
        if step >= self._samples_end:
            batch.pop('source', None)
        return devices.put_batch(self._mesh, batch)

    @property
    def position(self) -> dict[str, Any]:
        """The position in the stream, for a checkpoint."""
        return self._batches.get_state()


def ids_of(job: Job, step: int) -> list[int]:
    """The ids of the training images of a step, counted from 1, without samples of a source."""
    train, size = job.splits['train'], job.experiment.batch_size
    balanced = job.experiment.balance is Balance.SAMPLE
    example_at = pipeline.stream(train.labels, job.experiment.seed, balanced=balanced)
    rows = [example_at(position) for position in range((step - 1) * size, step * size)]
    return train.ids[rows].tolist()


def eval_batches(job: Job, split: str) -> Iterator[Batch]:
    """Every example of a split once, in order, as host arrays."""
    return pipeline.eval_batches(
        job.splits[split],
        job.model.preprocessing,
        batch_size=job.experiment.batch_size,
        process=devices.process(),
        threads=job.experiment.data_threads,
    )


def shapes(job: Job, features: jax.ShapeDtypeStruct | None, with_samples: bool) -> Batch:
    """The shapes of a training batch; arguments as for `compiled_step.compile_train_step`."""
    side = job.model.preprocessing.resize_px
    image = jax.ShapeDtypeStruct((side, side, 3), jnp.uint8)
    batch = _shapes(job.experiment.batch_size, features or image, job.model)
    if with_samples and job.samples:
        batch = {**batch, 'source': _shapes(job.samples.rows, image, job.samples.model)}
    return batch  # type: ignore[return-value]


def _shapes(rows: int, image: jax.ShapeDtypeStruct, model: Model) -> Batch:
    label = (rows, *model.task.label_shape(model.num_classes))
    return {
        'image': jax.ShapeDtypeStruct((rows, *image.shape), image.dtype),
        'label': jax.ShapeDtypeStruct(label, model.task.label_dtype),
        'id': jax.ShapeDtypeStruct((rows,), jnp.uint32),
        'mask': jax.ShapeDtypeStruct((rows,), jnp.bool_),
    }  # type: ignore[typeddict-item]
