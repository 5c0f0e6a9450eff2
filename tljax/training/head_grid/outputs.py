"""Writes the folder of a run whose head was trained in a grid, as the run alone would."""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from tljax import devices
from tljax.records import console, folder_lock, predictions, tables, writers
from tljax.records.checkpoint import Checkpoints
from tljax.records.predictions import PREDICTIONS_FILE, Predictions
from tljax.records.runs import CHECKPOINTS, RESULT_FILE
from tljax.training import batches, final_evaluation, jobs, run_folder
from tljax.training.final_evaluation import Metrics
from tljax.training.head_grid.run import TrainedHead
from tljax.training.progress import Progress
from tljax.training.run import content_of_result


def write(
    head: TrainedHead,
    workdir: pathlib.Path,
    shared: Mapping[str, Any],
    *,
    metrics_of: Metrics,
    seconds: float,
    checkpoint: bool = True,
) -> None:
    """Writes the records of a run; result.json comes last.

    Args:
        head: trained, and finite.
        workdir: the folder of the run, without checkpoints.
        shared: the content of the key `shared` of result.json.
        metrics_of: `final_evaluation.make_metrics` of the loss.
        seconds: the share of the run in the duration of the training.
        checkpoint: whether to write the checkpoint of the best step.

    Raises:
        BusyError: another process writes into the folder.
    """
    with folder_lock.lock(workdir):
        run_folder.begin(head.job, workdir)
        _write_records(head, workdir)
        predicted, metrics = _evaluated(head, metrics_of)
        predictions.write(workdir / PREDICTIONS_FILE, predicted)
        steps = {'step': head.step, 'steps': head.job.steps, 'phase_starts': [0]}
        result = content_of_result(head.job, metrics, predicted, steps)
        result['wall_seconds'] = seconds
        run_folder.write_findings(head.job, workdir)
        if checkpoint:
            # A run with checkpoints and no result would be resumed alone, so the checkpoint gets
            # its name when all else is written.
            part = workdir / f'{CHECKPOINTS}.part'
            _write_checkpoint(head, part)
            part.replace(workdir / CHECKPOINTS)
        writers.write_json(workdir / RESULT_FILE, {**result, 'shared': dict(shared)})
        if line := final_evaluation.calibration_text(result['calibration'], tables.inputs(result)):
            console.console.print(line)


def _write_records(head: TrainedHead, workdir: pathlib.Path) -> None:
    records = writers.Records(workdir, resumed_at=-1, phase=0)
    for record in head.records:
        records.write(record)
        console.print_record(record, head.job.model.preprocessing.inputs)
    records.close()


def _evaluated(head: TrainedHead, metrics_of: Metrics) -> tuple[Predictions, dict[str, Any]]:
    """The predictions of the splits that are not empty, and the metrics of all of them."""
    splits = {n: split for n, split in head.predictions.items() if len(head.job.splits[n])}
    metrics = {
        name: (
            final_evaluation.with_intervals(metrics_of(splits[name]), splits[name])
            if name in splits
            else None
        )
        for name in ('val', 'test')
        if name in head.job.splits
    }
    return Predictions(head.job.splits['train'].class_names, splits), metrics


def _write_checkpoint(head: TrainedHead, folder: pathlib.Path) -> None:
    """Writes the state of the best step, from which the run alone would go on."""
    shutil.rmtree(folder, ignore_errors=True)
    job = head.job
    assert head.state is not None
    position = iter(batches.train_batches(job, job.steps)).get_state()  # type: ignore[attr-defined]
    progress = Progress(
        state=head.state,
        totals=jobs.zero_totals(job),
        accumulate=job.experiment.accumulate,
        devices=devices.layout_text(job.mesh),
        step=head.step,
        best=None if head.best is None else [*head.best],
        data={**position, 'next_index': head.step},
    )
    arrays = {'state': progress.state, 'totals': progress.totals}
    best = progress.best
    ranking = None if best is None else {'score': best[0], 'loss': -best[1]}
    checkpoints = Checkpoints(folder)
    replicated = devices.put_replicated(job.mesh, arrays)
    checkpoints.save(head.step, replicated, progress.record(), ranking)
    checkpoints.close()
