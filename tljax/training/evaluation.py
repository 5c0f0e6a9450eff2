"""Evaluates a network on every example of a split, each once, on all devices."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from tljax import devices
from tljax.config.experiment import Experiment
from tljax.data import pipeline
from tljax.metrics import totals
from tljax.models import shared_programs
from tljax.models.stages import Model
from tljax.models.views import Centre
from tljax.training import step
from tljax.training.jobs import Job
from tljax.types import Batch, Examples, Loss, Params, Stats, Views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Evaluates examples; compiles at its first use.

    Attributes:
        model: the network.
        loss: per example.
        mesh: the devices that batches are split over.
        batch_size: images per batch; with several views of an image, each view counts.
        threads: threads that read ahead.
        views: the views of each image.
        first: the first stage to run, if batches contain its input instead of images.
    """

    model: Model
    loss: Loss
    mesh: Mesh
    batch_size: int
    threads: int = 4
    views: Views = dataclasses.field(default_factory=Centre)
    first: str | None = None

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        model: Model,
        mesh: Mesh,
        views: Views,
        first: str | None = None,
    ) -> 'Evaluation':
        """The evaluation of an experiment's network."""
        made = cls(
            model=model,
            loss=experiment.loss,
            mesh=mesh,
            batch_size=experiment.batch_size,
            threads=experiment.data_threads,
            views=views,
            first=first,
        )
        return shared_programs.get(('evaluation', made), lambda: made)

    def __call__(
        self,
        params: Params,
        stats: Stats,
        examples: Examples,
        substitute: pipeline.Substitute | None = None,
    ) -> dict[str, Any]:
        """The metrics over all examples; see `totals.summary`, and `batches` for the arguments."""
        task, total = self.model.task, self.zeros()
        rows = []
        for _, sums, logits in self.batches(params, stats, examples, substitute):
            if task.reads_rows:
                arrays = (logits, sums.pop('row_labels'), sums.pop('row_mask'))
                *values, mask = jax.device_get(arrays)
                rows.append(tuple(one[mask] for one in values))
            total = self.add(total, sums)
        return totals.summary(task, total, rows)

    def batches(
        self,
        params: Params,
        stats: Stats,
        examples: Examples,
        substitute: pipeline.Substitute | None = None,
    ) -> Iterator[tuple[Batch, totals.Sums, jax.Array]]:
        """Yields every batch in order: this process's rows, and the sums and logits of all rows.

        Args:
            params: the parameters, as in a state of training on the mesh, or as host arrays.
            stats: the statistics, replicated or as host arrays.
            examples: with labels of the model's task.
            substitute: replaces the images, for example by cached features.
        """
        batches = pipeline.eval_batches(
            examples,
            self.model.preprocessing,
            batch_size=self.rows,
            process=devices.process(),
            threads=self.threads,
            substitute=substitute,
        )
        for batch in batches:
            sums, logits = self._step(params, stats, devices.put_batch(self.mesh, batch))
            yield batch, sums, logits

    @property
    def rows(self) -> int:
        """Examples in a batch, a multiple of the number of devices."""
        size = self.mesh.size
        return max(1, self.batch_size // self.views.count // size) * size

    def zeros(self) -> totals.Sums:
        """Sums of zero, on every device."""
        none = self.model.task.zeros(self.model.num_classes)
        return devices.put_replicated(self.mesh, none)

    @functools.cached_property
    def add(self):
        """`totals.add`, compiled."""
        return jax.jit(totals.add)

    @functools.cached_property
    def _step(self):
        whole, rows = devices.replicated(self.mesh), devices.split(self.mesh)
        gather = devices.gatherer(self.mesh)
        function = step.make_eval_step(self.model, self.loss, self.views, self.first, gather)
        params = whole if gather is None else None  # None: they stay where they are
        return jax.jit(function, in_shardings=(params, whole, rows), out_shardings=whole)


class Evaluate(Protocol):
    """See `make_evaluate`."""

    def __call__(
        self, params: Params, stats: Stats, split: str, *, final: bool = False
    ) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitEvaluation:
    """Evaluates the splits of a job: `(params, stats, split, final=False) -> metrics`.

    Attributes:
        usual: of every evaluation during training, and of the validation split.
        tested: of the test split in the final evaluation, by the experiment's `test_views`.
        splits: the examples.
    """

    usual: Evaluation
    tested: Evaluation
    splits: Mapping[str, Examples]

    def __call__(
        self, params: Params, stats: Stats, split: str, *, final: bool = False
    ) -> dict[str, Any]:
        """Metrics that are exact on every example: see `totals.summary`."""
        return self.chosen(split, final=final)(params, stats, self.splits[split])

    def chosen(self, split: str, *, final: bool) -> Evaluation:
        """The evaluation of a split."""
        return self.tested if final and split == 'test' else self.usual


def make_evaluate(job: Job) -> SplitEvaluation:
    """The evaluation of the splits of a job; it compiles at its first use."""
    usual = Evaluation.of(job.experiment, job.model, job.mesh, Centre())
    tested = usual
    if job.experiment.test_views != Centre():
        tested = Evaluation.of(job.experiment, job.model, job.mesh, job.experiment.test_views)
    return SplitEvaluation(usual=usual, tested=tested, splits=job.splits)
