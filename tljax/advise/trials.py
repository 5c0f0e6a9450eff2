"""Training a candidate on all folds but one, and what it then says of that one."""

import contextlib
import dataclasses
import json
import pathlib
import re
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tljax.advise.candidates import Candidate
from tljax.advise.choice import Answers
from tljax.advise.tasks import Task
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

ANSWERS = ('ids', 'labels', 'logits')
VERSION = 2  # of kept trials; those of another one were trained by other rules


class OutOfTime(Exception):  # noqa: N818  (it is no error)
    """The budget ended before a trial did; nothing of it is kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate's answers on one fold.

    Attributes:
        answers: of the fold's images.
        steps: that it was trained.
        compile_seconds: that its programs took; 0 where they were there.
        step_seconds: of a step.
        seconds: in all, evaluation included.
    """

    answers: Answers
    steps: int
    compile_seconds: float
    step_seconds: float
    seconds: float


@dataclasses.dataclass
class _Done:
    """Of a trial under way: its steps, the seconds they took, and the position in the data."""

    steps: int = 0
    compiling: float = 0.0
    stepping: float = 0.0
    position: dict[str, Any] | None = None


def experiment_of(candidate: Candidate, task: Task, fold: int) -> Experiment:
    """What a trial runs: the candidate on a fold."""
    e = candidate.experiment
    return dataclasses.replace(
        e, data=task.fold(fold), per_class=None, subset=type(e.subset)(), evaluate=('val',)
    )


class Runner:
    """Runs trials; what was compiled for a candidate serves all its lengths and folds.

    A trial at a third of the length goes through the schedule in strides of three: the step's
    program, whose schedule is that of the whole length, stays the same. Its count of steps and what
    depends on it, the source among them, move with the schedule; batches follow one another.

    Args:
        task: whose folds.
        folder: where trials are kept; None keeps none.
    """

    def __init__(self, task: Task, folder: pathlib.Path | None = None):
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
        """A trial, or what it gave when it was run before.

        Args:
            candidate: to train.
            fold: the one that is held out.
            stride: through the schedule: the length is that of the experiment over it.
            deadline: by `time.monotonic`.

        Raises:
            OutOfTime: it is not done by then.
            InputError: the candidate cannot be run.
        """
        experiment = experiment_of(candidate, self._task, fold)
        validation.validate(experiment)
        text = config_json.to_json(experiment)
        path = None
        if self._folder is not None:
            path = self._folder / _file_name(candidate.name, fold, stride)
            if (kept := _read(path, text)) is not None:
                return kept
        try:
            with _quiet():
                found = self.train(candidate.name, experiment, stride, deadline)
        except jax.errors.JaxRuntimeError as error:
            if 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            raise InputError('the device is out of memory; config.accumulate may help') from error
        if path is not None:
            _write(path, text, found)
        return found

    def train(
        self,
        name: str,
        experiment: Experiment,
        stride: int = 1,
        deadline: float = float('inf'),
    ) -> Trial:
        """Trains an experiment on its training split, and asks it about its validation split.

        Args:
            name: of what it is compiled for: experiments of one name differ in their images alone.
            experiment: to be run.
            stride: see `run`.
            deadline: likewise.

        Raises:
            OutOfTime: it is not done by then.
            InputError: it cannot be run.
        """
        begun = time.perf_counter()
        job = _weighed(jobs.setup(experiment))
        done, left = _Done(), time.perf_counter()

        def visit(phase: PhasePlan, state: TrainState, solution: Solution | None) -> TrainState:
            nonlocal left
            if solution is not None:
                done.compiling += time.perf_counter() - left
            if phase.length:
                state = self._phase(name, job, phase, state, stride, deadline, done)
            left = time.perf_counter()
            return state

        state = walk.walk(job, job.phases, visit)
        return Trial(
            answers=self._answers(job, state),
            steps=done.steps,
            compile_seconds=done.compiling,
            step_seconds=done.stepping / max(done.steps, 1),
            seconds=time.perf_counter() - begun,
        )

    def _phase(
        self,
        name: str,
        job: Job,
        phase: PhasePlan,
        state: TrainState,
        stride: int,
        deadline: float,
        done: '_Done',
    ) -> TrainState:
        """The state after the steps of a phase, its frozen stages run ahead where that pays."""
        started = time.perf_counter()
        length = -(-phase.length // stride)
        prefix = prefix_cache.prepare(job, phase, state, done.steps, done.steps + length)
        substitute = prefix.train if prefix else None
        feed = Feed(job, phase, substitute=substitute, position=done.position)
        key, compiled = jobs.train_key(job), 0.0
        for of_phase in range(0, phase.length, stride):
            if time.monotonic() > deadline:
                raise OutOfTime
            batch, begun = feed.take(phase.start + of_phase), time.perf_counter()
            step = self._step(name, job, phase, prefix, with_samples='source' in batch)
            compiled += time.perf_counter() - begun
            if stride > 1:
                state = walk.at_step(job.mesh, state, phase.start + of_phase, of_phase)
            state, sums = step(key, state, batch, *job.penalty_arrays)
            jax.block_until_ready(sums)
        done.steps += length
        done.compiling += compiled
        done.stepping += time.perf_counter() - started - compiled
        done.position = feed.position
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
        """The compiled step of a phase, with rows of a source or without."""
        program = name, phase.index, with_samples
        if program not in self._compiled:
            self._compiled[program] = compiled_step.compile_train_step(
                job, phase, features=prefix.shape if prefix else None, with_samples=with_samples
            )
        return self._compiled[program]

    def _answers(self, job: Job, state: TrainState) -> Answers:
        """What the trained network says of the validation split, adapters merged."""
        place = job.experiment.backbone.weights, job.model.names
        if place not in self._evaluations:
            plain = dataclasses.replace(job.model, adapters=())
            made = Evaluation.of(job.experiment, plain, job.mesh, Centre())
            self._evaluations[place] = made
        params = stages.plain(job.model.adapters, states.evaluated(state))
        ids, labels, logits = [], [], []
        evaluation = self._evaluations[place]
        for batch, _, found in evaluation.batches(params, state.stats, job.splits['val']):
            mask = np.asarray(batch['mask'])
            ids.append(np.asarray(batch['id'])[mask])
            labels.append(np.asarray(batch['label'])[mask])
            logits.append(np.asarray(found)[mask])
        return Answers(
            ids=np.concatenate(ids), labels=np.concatenate(labels), logits=np.concatenate(logits)
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A context in which what a run prints is not."""
    before, console.console.quiet = console.console.quiet, True
    try:
        yield
    finally:
        console.console.quiet = before


def _weighed(job: Job) -> Job:
    """The job with its source weighed; the trial itself tells whether it helps."""
    if job.samples is None:
        return job
    weights, _ = preparation.measure(job, job.samples)
    return dataclasses.replace(job, samples=dataclasses.replace(job.samples, weights=weights))


def _file_name(name: str, fold: int, stride: int) -> str:
    return f'{re.sub("[^a-z0-9.]+", "-", name.lower())}-fold{fold}-stride{stride}.npz'


def _write(path: pathlib.Path, text: str, trial: Trial) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.part')
    times = [trial.steps, trial.compile_seconds, trial.step_seconds, trial.seconds]
    arrays = {name: getattr(trial.answers, name) for name in ANSWERS}
    with part.open('wb') as file:
        np.savez(file, version=VERSION, config=np.array(text), times=np.array(times), **arrays)
    part.replace(path)


def _read(path: pathlib.Path, text: str) -> Trial | None:
    """A kept trial of the same experiment; None where there is none that can be read."""
    try:
        with path.open('rb') as opened, np.load(opened) as file:
            same = json_form.current(json.loads(str(file['config']))) == json.loads(text)
            if int(file['version']) != VERSION or not same:
                return None
            answers = Answers(**{name: file[name] for name in ANSWERS})
            steps, compiling, stepping, whole = file['times'].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Trial(
        answers=answers,
        steps=int(steps),
        compile_seconds=compiling,
        step_seconds=stepping,
        seconds=whole,
    )
