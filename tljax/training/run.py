"""Runs an experiment from start to end, or resumes it."""

import contextlib
import math
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from tljax.config.experiment import Experiment
from tljax.records import (
    console,
    folder_lock,
    predictions,
    tables,
    tracking,
    workdirs,
    writers,
)
from tljax.records.checkpoint import CheckpointError, Checkpoints
from tljax.records.predictions import PREDICTIONS_FILE, Predictions
from tljax.records.runs import CHECKPOINTS, RESULT_FILE
from tljax.records.tracking import Trackings
from tljax.training import (
    final_evaluation,
    jobs,
    loop,
    prefix_cache,
    run_folder,
    signals,
    states,
)
from tljax.training.evaluation import SplitEvaluation, make_evaluate
from tljax.training.jobs import Job
from tljax.training.profiling import Profile
from tljax.training.progress import Progress, phase_of, resumed_or_started
from tljax.training.report import page
from tljax.training.signals import Interrupted, Paused
from tljax.training.source_guard import preparation
from tljax.training.summary import announce
from tljax.training.wall_time import WallTime
from tljax.types import OnNonfinite


def train(
    experiment: Experiment,
    workdir: pathlib.Path,
    *,
    show_model: bool = True,
    report: bool = True,
    allow_change: Collection[str] = (),
    until_step: float = math.inf,
    started: float | None = None,
    profile: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Trains and evaluates an experiment, or resumes it.

    Args:
        experiment: the experiment.
        workdir: the folder of its records; empty, or that of an earlier run of the experiment.
        show_model: whether the table of stages is printed.
        report: whether report.html is written, if the experiment asks for it.
        allow_change: fields that may differ from those of the earlier run; a finished run then
            goes on. With `data`, the images may differ, too.
        until_step: the run pauses at its first evaluation at this step or later, unless that is its
            end; a later call resumes it.
        started: `time.perf_counter()` when the work on the run began; None for now.
        profile: the first and the last step to capture, counted from 1; see `Profile`.

    Returns:
        The content of result.json.

    Raises:
        InputError: the experiment cannot run, or the folder is that of another experiment.
        Interrupted: a signal stopped the run; its state is saved, and the same call resumes it.
        Paused: the run has reached `until_step`; its state is saved.
        NotFiniteError: a loss or a value is not finite.
    """
    times = WallTime(started)
    with signals.heard(), folder_lock.lock(workdir):
        if finished := run_folder.claim(experiment, workdir, allow_change):
            console.console.print(f'{workdirs.shown(workdir)}: this run is finished; its result:')
            return finished
        tracking.check(experiment.trackers)
        with contextlib.ExitStack() as trackers:
            with times.recorded(workdir):
                job = jobs.setup(experiment)
                prefix_cache.check(job)
                # Not earlier, because a corrected experiment must be able to use the same folder.
                run_folder.begin(job, workdir, allow_change)
                announce(job, show_model=show_model)
                with times.stage('other'):
                    job = preparation.prepare(job, workdir)
                    trackings = trackers.enter_context(tracking.opened(experiment, workdir))
                    capture = Profile(profile, workdir)
                    result = _train(job, workdir, times, until_step, capture, trackings)
                writers.write_json(workdir / RESULT_FILE, result)
            calibration = result['calibration']
            if line := final_evaluation.calibration_text(calibration, tables.inputs(result)):
                console.console.print(line)
            if report and experiment.report and job.model.task.keeps_outputs:
                page.write_after_training(workdir, job)
            trackings.conclude(result)
        return result


def _train(
    job: Job,
    workdir: pathlib.Path,
    times: WallTime,
    until_step: float,
    profile: Profile,
    trackings: Trackings,
) -> dict[str, Any]:
    """Trains the remaining steps and returns the result; closes all files in any case."""
    checkpoints = Checkpoints(workdir / CHECKPOINTS)
    checkpoints.check_space(jobs.checkpoint_shapes(job, job.phases[-1]))
    current = resumed_or_started(job, checkpoints)
    times.resume(current.wall_time)
    profile.check(current.step, job.steps)
    records = writers.Records(workdir, current.step, current.phase, trackings)
    evaluate = make_evaluate(job)
    try:
        loop.run(job, current, checkpoints, records, evaluate, times, profile, until_step)
        times.begin_work()
        with times.stage('evaluation'):
            result, predicted = _conclude(job, current, checkpoints, evaluate)
        predictions.write(workdir / PREDICTIONS_FILE, predicted)
        if samples := preparation.finish(job, current.state, workdir):
            result['source'] = samples
    except BaseException as error:
        with contextlib.suppress(Exception):  # a further error must not hide the first one
            records.close()
        _close_after(error, checkpoints)
        raise
    finally:
        run_folder.write_findings(job, workdir)
    records.close()
    with times.stage('save'):
        checkpoints.close()
    result['wall_time'] = times.record()
    return {**result, 'wall_seconds': sum(result['wall_time']['seconds'].values())}


def _close_after(error: BaseException, checkpoints: Checkpoints) -> None:
    """Closes the checkpoints after an error.

    Raises:
        CheckpointError: the run was stopped or paused, and its last checkpoint could not be
            written. It resumes at an earlier step.
    """
    try:
        checkpoints.close()
    except Exception as lost:
        if isinstance(error, Interrupted | Paused):
            raise CheckpointError(
                f'{error}, but {lost}; the same command resumes at the last intact checkpoint'
            ) from error
        console.console.print(f'Warning: {lost}')


def _conclude(
    job: Job,
    current: Progress,
    checkpoints: Checkpoints,
    evaluation: SplitEvaluation,
) -> tuple[dict[str, Any], Predictions]:
    """The result and predictions of the best checkpoint; without validation, of the last step."""
    best = checkpoints.best() if len(job.splits['val']) else None
    state = current.state
    if best is not None and best != current.step:
        phase = phase_of(job, checkpoints.record(best))
        arrays, _ = checkpoints.restore(best, jobs.checkpoint_shapes(job, phase))
        state = arrays['state']
    params = states.evaluated(state)
    metrics, predicted = final_evaluation.evaluate(job, evaluation, params, state.stats)
    steps = {
        'step': best if best is not None else current.step,
        'steps': current.step,
        'phase_starts': current.starts,
    }
    result = content_of_result(job, metrics, predicted, steps)
    if job.experiment.on_nonfinite is OnNonfinite.SKIP:
        result['skipped_steps'] = {'count': len(current.skipped), 'steps': current.skipped}
    return result, predicted


def content_of_result(
    job: Job,
    metrics: Mapping[str, Any],
    predicted: Predictions,
    steps: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of result.json without its times.

    Args:
        job: the experiment.
        metrics: of each evaluated split.
        predicted: the predictions that they were computed from.
        steps: `step` of the evaluated network, `steps` that were trained, and `phase_starts`.
    """
    train = job.splits['train']
    trained, frozen = console.counts(job.params, job.phases[-1].labels)
    return {
        **metrics,
        'calibration': final_evaluation.calibrate(predicted),
        **steps,
        'train_count': len(train),
        'trained_parameters': trained,
        'frozen_parameters': frozen,
        'class_names': list(train.class_names),
        'multi_label': job.model.task.multi_label,
        'inputs': job.model.preprocessing.inputs,
        'weights': job.weights,
        'seed': job.experiment.seed,
        **writers.environment(),
    }
