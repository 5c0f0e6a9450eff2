"""`MLflow`: runs in a tracking server or a local database of MLflow."""

import dataclasses
import importlib.util
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.types import TrackedRun, Tracking

LONGEST = 500  # characters of a parameter, the limit of older servers
MOST_PARAMETERS = 100  # in one request
PACKAGES = ('mlflow', 'sqlalchemy', 'alembic')


@dataclasses.dataclass(slots=True, kw_only=True)
class MLflow:
    """Sends a run to MLflow.

    The extra `mlflow` installs what it needs: the small package `mlflow-skinny`, and what a local
    database needs. `pip install mlflow` adds MLflow's own pages (`mlflow ui`).

    Attributes:
        experiment: the name of the experiment in MLflow; it is created if there is none.
        tracking_uri: a server (`http://...`) or a local database (`sqlite:///FILE`); none for
            `MLFLOW_TRACKING_URI`, or else MLflow's default, `mlflow.db` in the current folder.
    """

    experiment: str = 'tljax'
    tracking_uri: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return [] if self.experiment.strip() else ['experiment is empty']

    def obstacle(self) -> str | None:
        """See `types.Tracker`."""
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        return (
            f"MLflow needs {' and '.join(missing)}: pip install 'tljax[mlflow]'"
            if missing
            else None
        )

    def start(self, run: TrackedRun) -> Tracking:
        """See `types.Tracker`."""
        return _Tracking(self, run)


class _Tracking:
    """A run that is open in MLflow."""

    def __init__(self, settings: MLflow, run: TrackedRun):
        mlflow = importlib.import_module('mlflow')

        self._entities = mlflow.entities
        self._client = mlflow.MlflowClient(settings.tracking_uri)
        self.key = run.key or self._create(settings.experiment, run)
        self._client.update_run(self.key, status='RUNNING')

    def _create(self, experiment: str, run: TrackedRun) -> str:
        """Creates a run with its parameters; returns its id."""
        known = self._client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else self._client.create_experiment(experiment)
        key = self._client.create_run(place, run_name=run.name).info.run_id
        parameters = [
            self._entities.Param(name, str(value)[:LONGEST])
            for name, value in _flat('', run.config).items()
        ]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(key, params=parameters[first : first + MOST_PARAMETERS])
        self._client.log_dict(key, dict(run.config), 'config.json')
        return key

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See `types.Tracking`."""
        now = round(1000 * time.time())
        values = [self._entities.Metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self.key, metrics=values)

    def conclude(self, summary: Mapping[str, float], files: Sequence[pathlib.Path]) -> None:
        """See `types.Tracking`."""
        self.log(summary, 0)
        for path in files:
            self._client.log_artifact(self.key, str(path))

    def close(self, *, complete: bool) -> None:
        """See `types.Tracking`."""
        self._client.set_terminated(self.key, 'FINISHED' if complete else 'KILLED')


def _flat(path: str, value: Any) -> dict[str, Any]:
    """`{'optimizer.learning_rate': 0.1, ...}` from the JSON form of an experiment."""
    if isinstance(value, Mapping):
        pairs = [(f'{path}.{name}' if path else name, part) for name, part in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        pairs = [(f'{path}.{index}', part) for index, part in enumerate(value)]
    else:
        return {path: value}
    return {name: leaf for pair in pairs for name, leaf in _flat(*pair).items()}
