"""The final evaluation: the predictions of every image, and the metrics computed from them."""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from tljax import devices
from tljax.metrics import calibration, scaling, totals
from tljax.models import shared_programs, stages
from tljax.models.layers import Pooling
from tljax.models.stages import HEAD
from tljax.records import console, predictions
from tljax.records.predictions import Predictions, SplitPredictions
from tljax.training.evaluation import Evaluation, SplitEvaluation
from tljax.training.jobs import Job
from tljax.types import Batch, Examples, Loss, Params, Stats, Task

ROWS = 256  # images per batch of losses

Metrics = Callable[..., dict[str, Any]]  # see `make_metrics`


def evaluate(
    job: Job, evaluation: SplitEvaluation, params: Params, stats: Stats
) -> tuple[dict[str, dict[str, Any] | None], Predictions]:
    """Metrics and predictions of the validation and the test split.

    Args:
        job: the experiment.
        evaluation: the evaluation of its splits.
        params: on every device.
        stats: on every device.

    Returns:
        Metrics with their interval by split, None for an empty split; and the predictions.
    """
    folder = predictions.data_folder(job.splits, getattr(job.experiment.data, 'path', None))
    loss = job.experiment.loss
    metrics_of = shared_programs.get(
        ('metrics', loss, job.model.task), lambda: make_metrics(loss, job.model.task)
    )
    results: dict[str, dict[str, Any] | None] = {}
    splits = {}
    for name in ('val', 'test'):
        if name not in job.splits:
            continue
        if not len(job.splits[name]):
            results[name] = None
            continue
        if not job.model.task.keeps_outputs:
            chosen = evaluation.chosen(name, final=True)
            results[name] = chosen(params, stats, job.splits[name])
            continue
        splits[name] = predict(
            evaluation.chosen(name, final=True),
            params,
            stats,
            job.splits[name],
            folder,
            features=job.experiment.keep_features,
        )
        results[name] = with_intervals(metrics_of(splits[name]), splits[name])
    return results, Predictions(job.splits['train'].class_names, splits)


def with_intervals(metrics: Mapping[str, Any], split: SplitPredictions) -> dict[str, Any]:
    """Metrics of a split with all of their intervals."""
    return console.with_interval(metrics) | split.task.intervals(split.logits, split.labels)


def predict(
    evaluation: Evaluation,
    params: Params,
    stats: Stats,
    examples: Examples,
    folder: pathlib.Path | None = None,
    *,
    features: bool = False,
) -> SplitPredictions:
    """The predictions of all readable images in order; every process returns all of them.

    Args:
        evaluation: the network and the views.
        params: on every device, or host arrays.
        stats: on every device, or host arrays.
        examples: with labels of the model's task.
        folder: the folder that paths are relative to; see `predictions.data_folder`.
        features: whether to add the pooled inputs of the head, which runs the network twice.
    """
    features_of = head_inputs(evaluation) if features else None
    masks, logits, pooled = [], [], []
    for batch, _, outputs in evaluation.batches(params, stats, examples):
        masks.append(_of_all_processes(batch['mask']))
        logits.append(np.asarray(outputs))
        if features_of is not None:
            pooled.append(np.asarray(features_of(params, stats, batch)))
    places = np.flatnonzero(np.concatenate(masks)) if masks else np.zeros(0, int)
    empty = np.zeros((0, evaluation.model.outputs), np.float32)
    task = evaluation.model.task
    return SplitPredictions(
        ids=examples.ids[places].astype(np.int64),
        paths=predictions.relative_paths(examples, folder)[places],
        labels=task.recorded(examples.labels[places]),
        logits=np.concatenate([empty, *logits])[places].astype(np.float32),
        features=np.concatenate(pooled)[places].astype(np.float32) if pooled else None,
        stated=task,
    )


def _of_all_processes(mask: Any) -> np.ndarray:
    if jax.process_count() == 1:
        return np.asarray(mask)
    return np.asarray(multihost_utils.process_allgather(mask, tiled=True))


def head_inputs(evaluation: Evaluation) -> Callable[[Params, Stats, Batch], jax.Array]:
    """Makes the function `(params, stats, batch) -> [B, F]`; it averages over the views."""
    model, views = evaluation.model, evaluation.views
    pooling = getattr(model.stages[HEAD], 'pooling', Pooling.AVERAGE)
    replicated, rows = devices.replicated(evaluation.mesh), devices.split(evaluation.mesh)

    gather = devices.gatherer(evaluation.mesh)
    places = replicated if gather is None else None  # None: parameters stay where they are

    @functools.partial(jax.jit, in_shardings=(places, replicated, rows), out_shardings=replicated)
    def compute(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
        crops = model.preprocessing.viewed(views, images)
        x = stages.normalise(model.preprocessing, crops.reshape(-1, *crops.shape[2:]))
        x, _ = stages.run(model, params, stats, x, stop=HEAD, gather=gather)
        pooled = stages.pooled(model, x, pooling).astype(jnp.float32)
        return pooled.reshape(*crops.shape[:2], -1).mean(1)

    def of_batch(params: Params, stats: Stats, batch: Batch) -> jax.Array:
        return compute(params, stats, devices.put_batch(evaluation.mesh, batch)['input'])

    return of_batch


def calibrate(predicted: Predictions) -> dict[str, Any] | None:
    """Fits a temperature to the validation split; None without validation images or probabilities.

    Returns:
        `temperature`; `images`, the number of validation images; `unsure`, whether there are fewer
        than 50 of them or the likelihood has no maximum; and for each split `before` and `after`,
        see `calibration.summary`.
    """
    val = predicted.splits.get('val')
    if val is None or not len(val) or not np.isfinite(val.logits).all():
        return None
    if not val.task.calibrated:
        return None
    temperature = scaling.fit_temperature(val.logits, val.labels)
    unsure = len(val) < calibration.FEW_IMAGES or temperature == 1.0
    result = {'temperature': temperature, 'images': len(val), 'unsure': unsure}
    for name, split in predicted.splits.items():
        if len(split) and np.isfinite(split.logits).all():
            result[name] = {
                'before': calibration.summary(split.logits, split.labels),
                'after': calibration.summary(split.logits, split.labels, temperature),
            }
    return result


def calibration_text(calibrated: Mapping[str, Any] | None, inputs: str = 'images') -> str | None:
    """A line on the temperature of a run; None without a temperature.

    Args:
        calibrated: see `calibrate`.
        inputs: what the network reads, such as `images`.
    """
    if calibrated is None:
        return None
    if calibrated['temperature'] == 1.0:
        return (
            f'Temperature 1: the {calibrated["images"]:,} validation {inputs} determine none, '
            'because all of them are classified right, or too many are wrong.'
        )
    split = 'test' if 'test' in calibrated else 'val'
    before, after = (100 * calibrated[split][when]['ece'] for when in ('before', 'after'))
    mark, advice = '', ''
    if calibrated['unsure']:
        mark, advice = ' (unsure)', '; tljax predict --uncalibrated ignores it'
    return (
        f'Temperature {calibrated["temperature"]:.3g}, fitted to {calibrated["images"]:,} '
        f'validation {inputs}{mark}: {split} calibration error {before:.1f} % before, '
        f'{after:.1f} % after{advice}.'
    )


def make_metrics(loss: Loss, task: Task) -> Metrics:
    """Makes the function `(split, temperature=1.0) -> metrics`; see `totals.summary`.

    It computes the loss of each image in float32 and the mean in float64, so that equal predictions
    give equal digits. The temperature divides the logits of the loss only, because it changes no
    predicted class.

    Args:
        loss: the loss per example.
        task: what the logits mean.
    """

    @jax.jit
    def of_rows(logits: jax.Array, scaled: jax.Array, labels: jax.Array, mask: jax.Array):
        losses = loss(scaled, task.targets(labels, task.count(logits.shape[-1])))
        return task.sums(logits, labels, losses, mask), losses

    def metrics(split: SplitPredictions, temperature: float = 1.0) -> dict[str, Any]:
        sums = jax.device_get(task.zeros(task.count(split.logits.shape[-1])))
        labels = split.labels.astype(task.label_dtype)
        losses = []
        for start in range(0, len(split), ROWS):
            rows = slice(start, start + ROWS)
            logits = _padded(split.logits[rows])
            scaled = (logits / temperature).astype(np.float32)
            mask = np.arange(ROWS) < len(split) - start
            batch = of_rows(logits, scaled, _padded(labels[rows]), mask)
            batch_sums, batch_losses = jax.device_get(batch)
            sums = totals.add(sums, batch_sums)
            losses += batch_losses[mask].tolist()
        # math.fsum raises an error for NaN and infinity.
        total = math.fsum(losses) if np.isfinite(losses).all() else float(np.sum(losses))
        rows = [(split.logits, labels)] if task.reads_rows and len(split) else []
        sums |= {'loss': jax.device_get(total)}
        return totals.summary(task, sums, rows)

    return metrics


def _padded(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.zeros((ROWS - len(rows), *rows.shape[1:]), rows.dtype)])
