"""The run whose robustness is measured: its network, its data and its predictions."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from tljax import devices
from tljax.config.experiment import Experiment
from tljax.models import stages
from tljax.models.views import Centre
from tljax.records import predictions, runs
from tljax.records.predictions import PREDICTIONS_FILE, SplitPredictions
from tljax.records.runs import EvaluationSettings
from tljax.training import final_evaluation, labelled_data
from tljax.training.evaluation import Evaluation
from tljax.training.labelled_data import Data
from tljax.training.report import inputs
from tljax.training.trained_run import TrainedRun
from tljax.types import BadFiles, Examples, InputError, Params, Stats, Views
from tljax.weights import network
from tljax.weights.network import Network


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A finished run.

    Attributes:
        folder: of the run.
        network: its best checkpoint.
        settings: how the run evaluated.
        recorded: the content of its splits.json.
        batch_size: of images, over all devices.
        evaluations: a cache by views, so that each evaluation is compiled once.
    """

    folder: pathlib.Path
    network: Network
    settings: EvaluationSettings
    recorded: dict[str, Any]
    batch_size: int
    evaluations: dict[str, Evaluation] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The experiment that was run."""
        return runs.records(self.folder)[0]

    @functools.cached_property
    def mesh(self) -> Mesh:
        """All devices."""
        return devices.make_mesh()

    @functools.cached_property
    def values(self) -> tuple[Params, Stats]:
        """The parameters and statistics, on every device."""
        return devices.put_replicated(self.mesh, (self.network.params, self.network.stats))

    @property
    def temperature(self) -> float:
        """The temperature that was fitted to the validation images; 1 if none was."""
        return self.network.temperature or 1.0

    @property
    def evaluated_split(self) -> str:
        """`test`, or `val` if there are no test images.

        Raises:
            InputError: the run has neither.
        """
        for name in ('test', 'val'):
            if self.recorded.get(name, {}).get('ids'):
                return name
        raise InputError(f'{self.folder} has neither test nor validation images to compare with')

    def data(self, split: str) -> Data:
        """The images of a split of the run.

        Raises:
            InputError: the images can no longer be read.
        """
        return labelled_data.of_run(self.network, self.experiment, self.recorded, split)

    def has(self, split: str) -> bool:
        """Whether the run has images of a split."""
        return bool(self.recorded.get(split, {}).get('ids'))

    @functools.cached_property
    def reference(self) -> SplitPredictions:
        """The recorded predictions of `evaluated_split`.

        A run of an early version, which recorded none, is evaluated again.
        """
        split = self.evaluated_split
        path = self.folder / PREDICTIONS_FILE
        if path.is_file():
            recorded = predictions.read(path).splits
            if split in recorded and len(recorded[split]):
                return recorded[split]
        data = self.data(split)
        return self.predict(data.examples, data.folder, self.reference_views)

    @property
    def reference_views(self) -> Views:
        """The views that the run used for `evaluated_split`."""
        return self.settings.test_views if self.evaluated_split == 'test' else Centre()

    def predict(
        self,
        examples: Examples,
        folder: pathlib.Path | None = None,
        views: Views | None = None,
        *,
        features: bool = False,
    ) -> SplitPredictions:
        """The predictions of all images that can be read.

        Args:
            examples: decoded images, with labels below the number of classes.
            folder: that their paths are relative to.
            views: of each image; None for its centre.
            features: whether to add the pooled inputs of the head.
        """
        views = views or Centre()
        if str(views) not in self.evaluations:
            self.evaluations[str(views)] = evaluation_of(
                self.network, views, self.mesh, self.batch_size
            )
        evaluation = self.evaluations[str(views)]
        return final_evaluation.predict(
            evaluation, *self.values, examples, folder, features=features
        )

    @functools.cached_property
    def logits_of(self) -> Callable[[Params, Stats, jax.Array], jax.Array]:
        """The function `(params, stats, images [B, H, W, 3] uint8) -> outputs [B, O]`, compiled."""

        @jax.jit
        def logits(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
            return stages.classify(self.network.model, params, stats, images[:, None])

        return logits


def evaluation_of(loaded: Network, views: Views, mesh: Mesh, batch_size: int) -> Evaluation:
    """The evaluation of a network that predicts one label per image."""
    loss = loaded.task.default_loss()
    return Evaluation(model=loaded.model, loss=loss, mesh=mesh, batch_size=batch_size, views=views)


def read(folder: pathlib.Path, batch_size: int | None = None, *, one_label: bool = True) -> Subject:
    """A finished run.

    Args:
        folder: of the run.
        batch_size: of images, over all devices; None for that of the run.
        one_label: whether each image has to have one label.

    Raises:
        InputError: the folder holds no finished run, or images have several labels.
    """
    folder = folder.expanduser()
    settings, recorded = runs.evaluation_settings(folder)
    TrainedRun(folder).result  # noqa: B018  raises an error if the run is not finished
    loaded = network.load(str(folder))
    if one_label and not loaded.task.one_label:
        raise InputError(
            f'{folder} predicts several labels per image or numbers, wanted a run with one label '
            'per image'
        )
    return Subject(folder, loaded, settings, recorded, batch_size or settings.batch_size)


def labelled_set(
    loaded: Network, path: str, bad_files: BadFiles, recorded: Mapping[str, Any]
) -> Data:
    """Labelled images of a folder or a list, with labels in the order of a network's classes.

    Raises:
        InputError: the folder is missing or empty, or has other classes; the message names it.
    """
    try:
        return labelled_data.read(loaded, path, None, bad_files, dict(recorded))
    except InputError as error:
        text = str(error)
        raise InputError(text if path in text else f'{path}: {text}') from error


def spread(examples: Examples, most: int | None) -> Examples:
    """At most `most` examples, evenly spread; None for all."""
    if most is None or len(examples) <= most:
        return examples
    return examples.take(inputs.spread(len(examples), most))
