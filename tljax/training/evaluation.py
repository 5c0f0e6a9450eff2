"""A network on every example of a split: each once, on all devices, padding nowhere."""

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
from tljax.models.stages import Model
from tljax.models.views import Centre
from tljax.training import step
from tljax.training.jobs import Job
from tljax.types import Batch, Examples, Loss, Params, Stats, Views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How examples are evaluated; compiles at its first use.

    Attributes:
        model: the network.
        loss: per example.
        mesh: of the devices that batches are split over.
        batch_size: images that the devices hold at a time; with several views of each they are
            fewer examples.
        threads: that read ahead.
        views: of each image.
        first: the stage that reads what stands in the place of images, where something does.
    """

    model: Model
    loss: Loss
    mesh: Mesh
    batch_size: int
    threads: int = 4
    views: Views = dataclasses.field(default_factory=Centre)
    first: str | None = None

    @classmethod
    def of(cls, experiment: Experiment, model: Model, mesh: Mesh, views: Views) -> 'Evaluation':
        """How an experiment evaluates its network."""
        return cls(
            model=model,
            loss=experiment.loss,
            mesh=mesh,
            batch_size=experiment.batch_size,
            threads=experiment.data_threads,
            views=views,
        )

    def __call__(
        self,
        params: Params,
        stats: Stats,
        examples: Examples,
        in_place: pipeline.InPlace | None = None,
    ) -> dict[str, Any]:
        """Metrics that are exact on every example: see `metrics.summary` and `batches`."""
        total = self.zeros(several_labels=examples.multi_label)
        rows = []
        for _, sums, logits in self.batches(params, stats, examples, in_place):
            if examples.multi_label:  # all of them are ranked
                kept = (logits, sums.pop('row_labels'), sums.pop('row_mask'))
                *values, mask = jax.device_get(kept)
                rows.append(tuple(one[mask] for one in values))
            total = self.add(total, sums)
        return totals.summary(total, rows)

    def batches(
        self,
        params: Params,
        stats: Stats,
        examples: Examples,
        in_place: pipeline.InPlace | None = None,
    ) -> Iterator[tuple[Batch, totals.Sums, jax.Array]]:
        """Every batch in order, as it is done: of this process, its sums and logits of all.

        Args:
            params: whole on every device, or host arrays.
            stats: likewise.
            examples: with labels below the model's `num_classes`.
            in_place: what stands in the place of their images.
        """
        batches = pipeline.eval_batches(
            examples,
            self.model.preprocessing,
            batch_size=self.rows,
            process=(jax.process_index(), jax.process_count()),
            threads=self.threads,
            in_place=in_place,
        )
        for batch in batches:
            sums, logits = self._step(params, stats, devices.put_batch(self.mesh, batch))
            yield batch, sums, logits

    @property
    def rows(self) -> int:
        """Examples in a batch: a multiple of the devices."""
        devices = self.mesh.size
        return max(1, self.batch_size // self.views.count // devices) * devices

    def zeros(self, *, several_labels: bool = False) -> totals.Sums:
        """The sums of no batch, on every device."""
        none = totals.zeros(self.model.num_classes, several_labels=several_labels)
        return devices.put_replicated(self.mesh, none)

    @functools.cached_property
    def add(self):
        """`metrics.add`, compiled."""
        return jax.jit(totals.add)

    @functools.cached_property
    def _step(self):
        whole, rows = devices.replicated(self.mesh), devices.split(self.mesh)
        function = step.make_eval_step(self.model, self.loss, self.views, self.first)
        return jax.jit(function, in_shardings=(whole, whole, rows), out_shardings=whole)


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
