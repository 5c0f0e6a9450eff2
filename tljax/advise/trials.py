"""Trials: a candidate is trained without one fold and evaluated on it."""

import dataclasses
import json
import pathlib
import re
import time
import zipfile
from typing import Any

import jax
import numpy as np

from tljax.advise.candidates import Candidate
from tljax.advise.held_out import HeldOutPredictions
from tljax.advise.tasks import TargetImages
from tljax.config import config_json, json_form, validation
from tljax.config.experiment import Experiment
from tljax.config.phases import PhasePlan
from tljax.models import stages
from tljax.models.views import Centre
from tljax.records import console
from tljax.training import compiled_step, jobs, prefix_cache, states, walk
from tljax.training.batches import Feed
from tljax.training.evaluation import Evaluation
from tljax.training.jobs import Job
from tljax.training.prefix_cache import PrefixCache
from tljax.training.source_guard import preparation
from tljax.training.states import TrainState
from tljax.types import InputError, Solution

ARRAYS = ('ids', 'labels', 'logits')  # of stored predictions
VERSION = 2  # of stored trials; others were trained by other rules


class OutOfTimeError(Exception):
    """The budget ended before a trial did; nothing of the trial is stored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """The result of a candidate on one fold.

    Attributes:
        predictions: on the fold's images.
        steps: of training.
        compile_seconds: 0 for programs that were compiled before.
        step_seconds: of one step.
        seconds: in total, with the evaluation.
    """

    predictions: HeldOutPredictions
    steps: int
    compile_seconds: float
    step_seconds: float
    seconds: float


@dataclasses.dataclass
class _Progress:
    """Of a trial that is running: its steps, durations in seconds, and position in the data."""

    steps: int = 0
    compile_seconds: float = 0.0
    stepping_seconds: float = 0.0
    position: dict[str, Any] | None = None


def experiment_of(candidate: Candidate, task: TargetImages, fold: int) -> Experiment:
    """The experiment that a trial runs: the candidate on a fold."""
    e = candidate.experiment
    return dataclasses.replace(
        e, data=task.fold(fold), per_class=None, subset=type(e.subset)(), evaluate=('val',)
    )


class Runner:
    """Runs trials. The programs compiled for a candidate serve all its lengths and folds.

    A trial at a third of the length takes every third step of the schedule, so that the compiled
    step, which contains the schedule, stays the same. The step count, and everything that depends
    on it such as source-domain samples, moves with the schedule. Batches follow one another.

    Args:
        task: with the folds.
        folder: where trials are stored; None for no storage.
    """

    def __init__(self, task: TargetImages, folder: pathlib.Path | None = None):
        self._task, self._folder = task, folder
        self._compiled: dict[tuple[str, int, bool], Any] = {}
        self._evaluations: dict[Any, Evaluation] = {}

    def run(
        self,
        candidate: Candidate,
        *,
        fold: int,
        stride: int = 1,
        deadline: float = float('inf'),
    ) -> Trial:
        """Runs a trial, or reads its stored result.

        Args:
            candidate: to be trained.
            fold: that is held out.
            stride: of the schedule: a trial has one `stride`-th of the experiment's steps.
            deadline: by `time.monotonic`.

        Raises:
            OutOfTimeError: the deadline has passed.
            InputError: the candidate cannot be run.
        """
        experiment = experiment_of(candidate, self._task, fold)
        validation.validate(experiment)
        text = config_json.to_json(experiment)
        path = None
        if self._folder is not None:
            path = self._folder / _file_name(candidate.name, fold, stride)
            if (stored := _read(path, text)) is not None:
                return stored
        try:
            with console.quiet():
                trial = self.train(candidate.name, experiment, stride, deadline)
        except jax.errors.JaxRuntimeError as error:
            if 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            raise InputError('the device is out of memory; config.accumulate may help') from error
        if path is not None:
            _write(path, text, trial)
        return trial

    def train(
        self,
        name: str,
        experiment: Experiment,
        stride: int = 1,
        deadline: float = float('inf'),
    ) -> Trial:
        """Trains an experiment on its training split and evaluates it on its validation split.

        Args:
            name: a key for compiled programs: experiments of one name differ in their images only.
            experiment: to be run.
            stride: see `run`.
            deadline: see `run`.

        Raises:
            OutOfTimeError: the deadline has passed.
            InputError: the experiment cannot be run.
        """
        started = time.perf_counter()
        job = _with_sample_weights(jobs.setup(experiment))
        progress, phase_started = _Progress(), time.perf_counter()

        def visit(phase: PhasePlan, state: TrainState, solution: Solution | None) -> TrainState:
            nonlocal phase_started
            if solution is not None:
                progress.compile_seconds += time.perf_counter() - phase_started
            if phase.length:
                state = self._train_phase(name, job, phase, state, stride, deadline, progress)
            phase_started = time.perf_counter()
            return state

        state = walk.walk(job, job.phases, visit)
        return Trial(
            predictions=self._predictions(job, state),
            steps=progress.steps,
            compile_seconds=progress.compile_seconds,
            step_seconds=progress.stepping_seconds / max(progress.steps, 1),
            seconds=time.perf_counter() - started,
        )

    def _train_phase(
        self,
        name: str,
        job: Job,
        phase: PhasePlan,
        state: TrainState,
        stride: int,
        deadline: float,
        progress: _Progress,
    ) -> TrainState:
        """The state after a phase; its frozen prefix is cached if that saves time."""
        started = time.perf_counter()
        length = -(-phase.length // stride)
        prefix = prefix_cache.prepare(job, phase, state, progress.steps, progress.steps + length)
        substitute = prefix.train if prefix else None
        feed = Feed(job, phase, substitute=substitute, position=progress.position)
        key, compile_seconds = jobs.train_key(job), 0.0
        for step_of_phase in range(0, phase.length, stride):
            if time.monotonic() > deadline:
                raise OutOfTimeError
            step = phase.start + step_of_phase
            batch, compile_started = feed.take(step), time.perf_counter()
            compiled = self._step(name, job, phase, prefix, with_samples='source' in batch)
            compile_seconds += time.perf_counter() - compile_started
            if stride > 1:
                state = walk.at_step(job.mesh, state, step, step_of_phase)
            state, sums = compiled(key, state, batch, *job.penalty_arrays)
            jax.block_until_ready(sums)
        progress.steps += length
        progress.compile_seconds += compile_seconds
        progress.stepping_seconds += time.perf_counter() - started - compile_seconds
        progress.position = feed.position
        return state

    def _step(
        self,
        name: str,
        job: Job,
        phase: PhasePlan,
        prefix: PrefixCache | None,
        *,
        with_samples: bool,
    ) -> Any:
        """The compiled step of a phase, with source-domain rows or without."""
        program = name, phase.index, with_samples
        if program not in self._compiled:
            shape = prefix.shape if prefix else None
            self._compiled[program] = compiled_step.compile_train_step(
                job, phase, features=shape, with_samples=with_samples
            )
        return self._compiled[program]

    def _predictions(self, job: Job, state: TrainState) -> HeldOutPredictions:
        """Of the trained network on the validation split, with its adapters merged."""
        network = job.experiment.backbone.weights, job.model.names
        if network not in self._evaluations:
            model = dataclasses.replace(job.model, adapters=())
            self._evaluations[network] = Evaluation.of(job.experiment, model, job.mesh, Centre())
        evaluation = self._evaluations[network]
        params = stages.plain(job.model.adapters, states.evaluated(state))
        rows = []
        for batch, _, logits in evaluation.batches(params, state.stats, job.splits['val']):
            mask = np.asarray(batch['mask'])
            rows.append([np.asarray(x)[mask] for x in (batch['id'], batch['label'], logits)])
        ids, labels, logits = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        logits = job.model.task.class_logits(logits)
        return HeldOutPredictions(ids=ids, labels=labels, logits=logits)


def _with_sample_weights(job: Job) -> Job:
    """The job with its source-domain samples weighted; the trial shows whether they help."""
    if job.samples is None:
        return job
    weights, _ = preparation.measure(job, job.samples)
    return dataclasses.replace(job, samples=dataclasses.replace(job.samples, weights=weights))


def _file_name(name: str, fold: int, stride: int) -> str:
    return f'{re.sub("[^a-z0-9.]+", "-", name.lower())}-fold{fold}-stride{stride}.npz'


def _write(path: pathlib.Path, text: str, trial: Trial) -> None:
    """Writes a trial in one atomic step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.part')
    times = [trial.steps, trial.compile_seconds, trial.step_seconds, trial.seconds]
    arrays = {name: getattr(trial.predictions, name) for name in ARRAYS}
    with part.open('wb') as file:
        np.savez(file, version=VERSION, config=np.array(text), times=np.array(times), **arrays)
    part.replace(path)


def _read(path: pathlib.Path, text: str) -> Trial | None:
    """A stored trial of the same experiment; None if there is none that can be read."""
    try:
        with path.open('rb') as opened, np.load(opened) as file:
            same = json_form.current(json.loads(str(file['config']))) == json.loads(text)
            if int(file['version']) != VERSION or not same:
                return None
            predictions = HeldOutPredictions(**{name: file[name] for name in ARRAYS})
            steps, compile_seconds, step_seconds, seconds = file['times'].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Trial(
        predictions=predictions,
        steps=int(steps),
        compile_seconds=compile_seconds,
        step_seconds=step_seconds,
        seconds=seconds,
    )
