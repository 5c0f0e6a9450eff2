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
