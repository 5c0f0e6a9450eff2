"""Evaluates the heads of several jobs on a split of theirs."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.metrics import totals
from tljax.records import predictions
from tljax.records.predictions import SplitPredictions
from tljax.training.head_grid import tables
from tljax.training.head_grid.program import Program
from tljax.training.head_grid.tables import UNREADABLE
from tljax.training.jobs import Job
from tljax.types import Params


class EvaluatedSplit:
    """A split that the jobs are evaluated on; the jobs may have different examples in it."""

    def __init__(self, jobs: Sequence[Job], name: str):
        self._jobs, self._examples = jobs, [job.splits[name] for job in jobs]
        table = tables.make(jobs, name, plain=True)
        self._table, length = table, max(map(len, self._examples))
        self._features = jnp.asarray(table.features)
        self._rows = np.stack([_padded(rows, length, UNREADABLE) for rows in table.rows])
        self._task = jobs[0].model.task
        dtype = self._task.label_dtype
        self._labels = np.stack(
            [_padded(one.labels.astype(dtype), length, 0) for one in self._examples]
        )

    def evaluate(self, program: Program, heads: Params) -> list[tuple[dict[str, Any], bool]]:
        """The metrics of each head, and whether the head is finite."""
        reads_rows = self._task.reads_rows
        sums, finite, logits = program.evaluate(
            heads, self._features, self._rows, self._labels, reads_rows
        )
        sums, finite, logits = jax.device_get((sums, finite, logits))
        results = []
        for place in range(len(self._jobs)):
            own = {name: value[place] for name, value in sums.items()}
            good = self._rows[place] != UNREADABLE
            rows = [(logits[place][good], self._labels[place][good])] if reads_rows else []
            results.append((totals.summary(self._task, own, rows), bool(finite[place])))
        return results

    def predict(self, program: Program, heads: Params) -> list[SplitPredictions]:
        """The predictions of each head, as `final_evaluation.predict` makes them."""
        logits = program.evaluate(heads, self._features, self._rows, self._labels, True)[-1]
        host = jax.device_get(logits)
        return [self._of_job(place, host[place]) for place in range(len(self._jobs))]

    def _of_job(self, place: int, logits: np.ndarray) -> SplitPredictions:
        examples, job = self._examples[place], self._jobs[place]
        rows = self._table.rows[place]
        readable = np.flatnonzero(rows != UNREADABLE)
        folder = predictions.data_folder(job.splits, getattr(job.experiment.data, 'path', None))
        kept = job.experiment.keep_features
        return SplitPredictions(
            ids=examples.ids[readable].astype(np.int64),
            paths=predictions.relative_paths(examples, folder)[readable],
            labels=self._task.recorded(examples.labels[readable]),
            logits=logits[readable].astype(np.float32),
            features=self._table.features[rows[readable]] if kept else None,
            stated=self._task,
        )


def _padded(rows: np.ndarray, length: int, value: int) -> np.ndarray:
    padding = np.full((length - len(rows), *rows.shape[1:]), value, rows.dtype)
    return np.concatenate([rows, padding])
