"""The job of an experiment with the shapes of its values instead of values."""

import dataclasses
import functools

import jax
import numpy as np

from tljax import devices
from tljax.config import phases, validation
from tljax.config.experiment import Experiment
from tljax.metrics.tasks import choice
from tljax.models import adapters, stages
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.types import Examples


@dataclasses.dataclass(frozen=True)
class _Placeholder:
    """100 images for each of some classes, which cannot be read; a `DataSource`."""

    num_classes: int

    def splits(self) -> dict[str, Examples]:
        count = 100 * self.num_classes
        examples = Examples(
            load=_no_image,
            labels=np.arange(count, dtype=np.int32) % self.num_classes,
            ids=np.arange(count),
            class_names=tuple(map(str, range(self.num_classes))),
        )
        return {'train': examples}


def _no_image(index: int) -> np.ndarray:
    raise AssertionError('a plan reads no images')


def setup(experiment: Experiment, num_classes: int | None = None) -> Job:
    """The job of an experiment, to compile its steps and not to run them.

    It needs no memory for a network of any size. Of the data, the index is read and no image.
    Weights are not read, so the preprocessing is that of the backbone. Penalties and samples of a
    source, which need values, are left out.

    Args:
        experiment: the experiment.
        num_classes: plans for images of this number of classes without the data; None for the data.

    Raises:
        InputError: the experiment cannot run.
    """
    validation.validate(experiment)
    mesh = devices.make_mesh(experiment.mesh, experiment.sharding)
    jobs.check_batch_size(experiment, mesh)
    experiment = dataclasses.replace(experiment, penalties=(), samples=None)
    if num_classes is not None:
        experiment = dataclasses.replace(experiment, data=_Placeholder(num_classes))
    splits, head = jobs.read_splits(experiment), experiment.head
    model = stages.build(
        experiment.backbone,
        len(splits['train'].class_names),
        cut_after=experiment.cut_after,
        head=None if isinstance(head, str) else head,
        preprocessing=experiment.preprocessing,
        task=choice.of(splits['train']),
    )
    params, stats = map(functools.partial(stages.ordered, model), stages.shapes(model))
    model = dataclasses.replace(model, adapters=experiment.adapters)
    params = adapters.extended(model.adapters, params, jobs.keys(experiment.seed)[0])
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    params = stages.ordered(model, params)
    return Job(
        experiment=experiment,
        splits=splits,
        model=model,
        params=params,
        stats=stats,
        phases=phases.make(experiment, model, params, splits),
        mesh=mesh,
        weights=None,
        dropped=(),
        notes=(),
    )
