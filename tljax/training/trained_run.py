"""A finished run in Python: the files of its folder, read on first access."""

import dataclasses
import functools
import json
import pathlib
import types
from typing import Any

from tljax.config.experiment import Experiment
from tljax.metrics import scores
from tljax.records import console, predictions, run_copies, runs, writers
from tljax.records.predictions import PREDICTIONS_FILE, Predictions
from tljax.records.runs import RESULT_FILE, RunError
from tljax.training import labelled_data, labelled_evaluation
from tljax.types import BadFiles, Views
from tljax.weights import network
from tljax.weights.network import Network


@dataclasses.dataclass(frozen=True, repr=False)
class TrainedRun:
    """A finished run, read from its folder.

    Attributes:
        workdir: the folder of the run; text becomes a path, and the address of a run in a bucket
            the path of a local copy.
    """

    workdir: pathlib.Path

    def __init__(self, workdir: str | pathlib.Path):
        # A frozen dataclass assigns its fields in this way.
        object.__setattr__(self, 'workdir', run_copies.folder(workdir))

    @functools.cached_property
    def result(self) -> dict[str, Any]:
        """The content of result.json.

        Raises:
            RunError: the run is not finished, or result.json is damaged.
        """
        path = self.workdir / RESULT_FILE
        if not path.is_file():
            raise RunError(f'{self.workdir} is not a finished run: {RESULT_FILE} is missing')
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise RunError(f'{path} is damaged: {error}') from error

    @property
    def val(self) -> types.SimpleNamespace | None:
        """Metrics of the validation split, as `val.accuracy`; None without validation images."""
        return _metrics(self.result.get('val'))

    @property
    def test(self) -> types.SimpleNamespace | None:
        """Metrics of the test split, as `test.accuracy`; None without test images."""
        return _metrics(self.result.get('test'))

    @functools.cached_property
    def network(self) -> Network:
        """The network of the best checkpoint, loaded on first access."""
        return network.load(str(self.workdir))

    @functools.cached_property
    def config(self) -> Experiment:
        """The experiment of the run."""
        return runs.records(self.workdir)[0]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl: losses and metrics by step."""
        return writers.read_metrics(self.workdir / 'metrics.jsonl')

    @functools.cached_property
    def predictions(self) -> Predictions:
        """The logits, labels and paths of the validation and test images.

        Raises:
            InputError: the file is missing, as in runs of older versions, or damaged.
        """
        return predictions.read(self.workdir / PREDICTIONS_FILE)

    @property
    def baselines(self) -> dict[str, 'TrainedRun']:
        """The baseline runs of this run, by folder name."""
        folders = sorted((self.workdir / 'baselines').glob(f'*/{RESULT_FILE}'))
        return {path.parent.name: TrainedRun(path.parent) for path in folders}

    def evaluate(
        self, path: str | pathlib.Path, split: str | None = None, *, views: Views | None = None
    ) -> types.SimpleNamespace:
        """Computes metrics on other labelled images, like `tljax evaluate`.

        Args:
            path: a folder, a list or an `.npz` file; see `labelled.read`.
            split: the split to use; None for the test split, or for all images without splits.
            views: the views of each image; None for the views used on the run's test split.

        Returns:
            Metrics as attributes.

        Raises:
            InputError: the images cannot be read, or their classes are not those of the network.
        """
        settings, recorded = runs.evaluation_settings(self.workdir)
        data = labelled_data.read(self.network, str(path), split, BadFiles.ERROR, recorded)
        for note in data.notes:
            console.console.print(note, soft_wrap=True, markup=False)
        metrics, _ = labelled_evaluation.evaluate(
            self.network, data.examples, settings, views or settings.test_views
        )
        return types.SimpleNamespace(**metrics)

    def show(self) -> Any:
        """The result, the curves of training and the accuracy of each class, for a notebook.

        Returns:
            An object that a notebook displays, and whose `repr` is text. `report.html` in the
            folder of the run has more.

        Raises:
            InputError: the run is not finished, or its files are damaged.
        """
        from tljax.training.report import notebook  # it reads runs, and thus imports this file

        return notebook.show(self)

    def errors(self, count: int = 12) -> Any:
        """The wrong predictions for the test images, the most confident first.

        Without test images it is those of the validation images.

        Args:
            count: the largest number of images.

        Returns:
            A sequence of rows with `path`, `label`, `predicted` and `probability`; `total` is the
            number of all wrong predictions. A notebook shows the images.

        Raises:
            InputError: there are no predictions, or the labels are not one class for each image.
        """
        from tljax.training.report import notebook

        return notebook.errors(self, count)

    def confusion(self) -> Any:
        """The confusion matrix of the test images, or else of the validation images.

        Returns:
            An object with `counts` [K, K] by true class (row) and predicted class (column), and
            `classes`. A notebook shows the matrix and the most frequent confusions.

        Raises:
            InputError: there are no predictions, or the labels are not one class for each image.
        """
        from tljax.training.report import notebook

        return notebook.confusion(self)

    def predict(self, images: Any) -> Any:
        """The classes of new images with their calibrated probabilities.

        Args:
            images: one or several, of any size; see `Network.preprocess`.

        Returns:
            An object with `classes`, `probabilities` [B, K] and `best`, the name of the most
            probable class of each image. A notebook shows a table.

        Raises:
            InputError: an image cannot be read, or the network predicts numbers.
        """
        from tljax.training.report import notebook

        return notebook.predict(self, images)

    def _repr_html_(self) -> str:
        from tljax.records.pages import page
        from tljax.training.report import notebook

        return page.fragment(notebook.opening(self))

    def __repr__(self) -> str:
        """One line: the folder, and the accuracy on each split."""
        parts = [f'TrainedRun({str(self.workdir)!r}']
        for split in ('val', 'test'):
            metrics = self.result.get(split) or {}
            parts += [
                f'{split} {name.replace("_", " ")} {metrics[name]:.1%}'
                for name in (score.name for score in scores.SCORES)
                if metrics.get(name) is not None
            ]
        return ', '.join(parts) + ')'


def _metrics(record: dict[str, Any] | None) -> types.SimpleNamespace | None:
    return None if record is None else types.SimpleNamespace(**record)
