"""A run in Python: what its folder holds, read when it is asked for."""

import dataclasses
import functools
import json
import pathlib
import types
from typing import Any

from tljax.config.experiment import Experiment
from tljax.records import console, predictions, runs, writers
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
        workdir: its folder; text becomes a path.
    """

    workdir: pathlib.Path

    def __init__(self, workdir: str | pathlib.Path):
        # A frozen dataclass assigns its fields in this way.
        object.__setattr__(self, 'workdir', pathlib.Path(workdir).expanduser())

    @functools.cached_property
    def result(self) -> dict[str, Any]:
        """The content of result.json.

        Raises:
            RunError: the run is not finished, or result.json is damaged.
        """
        path = self.workdir / RESULT_FILE
        if not path.is_file():
            raise RunError(f'{self.workdir} holds no finished run: there is no {RESULT_FILE} in it')
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise RunError(f'{path} is damaged: {error}') from error

    @property
    def val(self) -> types.SimpleNamespace | None:
        """Metrics of the validation split, as `val.accuracy`; None without such images."""
        return _metrics(self.result.get('val'))

    @property
    def test(self) -> types.SimpleNamespace | None:
        """Metrics of the test split, as `test.accuracy`; None without such images."""
        return _metrics(self.result.get('test'))

    @functools.cached_property
    def network(self) -> Network:
        """The network of the best checkpoint, loaded when it is first asked for."""
        return network.load(str(self.workdir))

    @functools.cached_property
    def config(self) -> Experiment:
        """The experiment that was run."""
        return runs.records(self.workdir)[0]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl: losses and metrics by step."""
        return writers.read_metrics(self.workdir / 'metrics.jsonl')

    @functools.cached_property
    def predictions(self) -> Predictions:
        """The logits, labels and paths of the validation and test images.

        Raises:
            InputError: a run of an older version has no predictions, or the file is damaged.
        """
        return predictions.read(self.workdir / PREDICTIONS_FILE)

    @property
    def baselines(self) -> dict[str, 'TrainedRun']:
        """The runs it is compared with, by the names of their folders."""
        folders = sorted((self.workdir / 'baselines').glob(f'*/{RESULT_FILE}'))
        return {path.parent.name: TrainedRun(path.parent) for path in folders}

    def evaluate(
        self, path: str | pathlib.Path, split: str | None = None, *, views: Views | None = None
    ) -> types.SimpleNamespace:
        """Metrics on other labelled images, as `tljax evaluate` computes them.

        Args:
            path: a folder, a list or an `.npz` file; see `labelled.read`.
            split: of it; None for the test split, or all of what has no splits.
            views: of each image; None for those of the run's test images.

        Returns:
            Metrics as attributes.

        Raises:
            InputError: there are no such images, or their classes are not the network's.
        """
        settings, recorded = runs.evaluation_settings(self.workdir)
        data = labelled_data.read(self.network, str(path), split, BadFiles.ERROR, recorded)
        for note in data.notes:
            console.console.print(note, soft_wrap=True, markup=False)
        found, _ = labelled_evaluation.evaluate(
            self.network, data.examples, settings, views or settings.test_views
        )
        return types.SimpleNamespace(**found)

    def __repr__(self) -> str:
        """One line: the folder, and the accuracy on each split."""
        parts = [f'TrainedRun({str(self.workdir)!r}']
        for split in ('val', 'test'):
            metrics = self.result.get(split) or {}
            parts += [
                f'{split} {name.replace("_", " ")} {metrics[name]:.1%}'
                for name in ('accuracy', 'mean_average_precision')
                if metrics.get(name) is not None
            ]
        return ', '.join(parts) + ')'


def _metrics(found: dict[str, Any] | None) -> types.SimpleNamespace | None:
    return None if found is None else types.SimpleNamespace(**found)
