"""The loop: what happens at every step, what is recorded, and how a run ends or resumes."""

import contextlib
import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax import (
    ahead,
    checkpoint,
    config,
    metrics,
    preprocessing,
    report,
    schedule,
    sharding,
    solved_head,
    sourcing,
    strategies,
)
from tljax import job as jobs
from tljax import model as models
from tljax import state as states
from tljax.batches import train_batches
from tljax.config import ConfigError, Experiment
from tljax.evaluation import Evaluate, make_evaluate
from tljax.fitting import FittingStep
from tljax.job import Job
from tljax.plan import PhasePlan
from tljax.runs import (
    CHECKPOINTS,
    CONFIG_FILE,
    NETWORK_FILE,
    PASSED_OVER_FILE,
    RESULT_FILE,
    SPLITS_FILE,
)
from tljax.signals import Interrupted, Signals
from tljax.state import TrainState


class NotFiniteError(RuntimeError):
    """The loss became infinite or not a number; the message names the step."""


@dataclasses.dataclass(kw_only=True)
class Run:
    """What the loop changes. Everything but the clock is in a checkpoint."""

    state: TrainState
    totals: metrics.Sums  # of the steps since the last record
    accumulate: int  # parts of a batch; more than the experiment's after running out of memory
    step: int = 0
    starts: list[int] = dataclasses.field(default_factory=lambda: [0])  # of each phase so far
    best: list[float] | None = None  # score, -loss, step of this phase's best evaluation
    stale: int = 0  # evaluations since then
    seconds: float = 0.0  # of earlier attempts
    data: dict[str, Any] | None = None  # the iterator's position

    @property
    def phase(self) -> int:
        """The index of the present one."""
        return len(self.starts) - 1

    def over(self, phase: PhasePlan) -> bool:
        """Whether the present phase has run its length, or out of patience."""
        patience = phase.phase.patience
        finished = self.step - self.starts[-1] >= phase.length
        return finished or (patience is not None and self.stale >= patience)


def run(
    experiment: Experiment, workdir: pathlib.Path, *, show_model: bool = True
) -> dict[str, Any]:
    """Trains and evaluates an experiment, or what is left of it.

    Args:
        experiment: what to do.
        workdir: the folder of its records; holds a run of the same experiment, or none.
        show_model: whether the table of stages is printed.

    Returns:
        The content of result.json.

    Raises:
        InputError: the experiment cannot run, or the folder holds another one.
        Interrupted: a signal came; the state is saved and the same call resumes.
        NotFiniteError: the loss is not finite.
    """
    started = time.perf_counter()
    with checkpoint.lock(workdir):
        if finished := _claim(experiment, workdir):
            report.console.print(f'{workdir}: this run is finished; its result:')
            return finished
        job = jobs.setup(experiment)
        ahead.check(job)
        # Only now: what could not be set up must not keep its own correction out of the folder.
        if not (workdir / CONFIG_FILE).exists():
            report.write_json(workdir / CONFIG_FILE, json.loads(config.to_json(experiment)))
        _write_splits(job, workdir)
        network = {
            'preprocessing': preprocessing.to_fields(job.model.preprocessing),
            'multi_label': job.splits['train'].multi_label,
            'weights': job.weights,
        }
        report.write_json(workdir / NETWORK_FILE, network)
        _write_findings(job, workdir)
        announce(job, show_model=show_model)
        job = sourcing.prepare(job, workdir)
        checkpoints = checkpoint.Checkpoints(workdir / CHECKPOINTS)
        current = _resume_or_start(job, checkpoints)
        records = report.Records(workdir, current.step)
        evaluate = make_evaluate(job)
        try:
            _train(job, current, checkpoints, records, evaluate, started)
            result = _conclude(job, current, checkpoints, evaluate, started)
            if source := sourcing.finish(job, current.state, workdir):
                result['source'] = source
        except BaseException:
            for opened in (records, checkpoints):
                with contextlib.suppress(Exception):  # it must not hide what went wrong before
                    opened.close()
            raise
        finally:
            _write_findings(job, workdir)
        records.close()
        checkpoints.close()
        report.write_json(workdir / RESULT_FILE, result)
        return result


def _claim(experiment: Experiment, workdir: pathlib.Path) -> dict[str, Any] | None:
    """Holds the config against the one that is there, if any; the result, if finished."""
    path = workdir / CONFIG_FILE
    text = config.to_json(experiment)
    if not path.exists():
        return None
    changed = config.difference(text, path.read_text())
    if changed:
        raise ConfigError(
            f'{workdir} holds a run of another experiment; name another --workdir:\n  '
            + '\n  '.join(changed)
        )
    result = workdir / RESULT_FILE
    return json.loads(result.read_text()) if result.exists() else None


def _write_splits(job: Job, workdir: pathlib.Path) -> None:
    """Which examples are in which split, by their ids, and the classes in order.

    Raises:
        ConfigError: the run began on other data.
    """
    content: dict[str, Any] = {'class_names': list(job.splits['train'].class_names)}
    for name, split in job.splits.items():
        content[name] = {'ids': split.ids.tolist(), 'labels': split.label_lists()}
        if split.encoded is not None:
            content[name]['files'] = [str(image) for image in split.encoded]
    path = workdir / SPLITS_FILE
    if not path.exists():
        report.write_json(path, content)
        return
    before = json.loads(path.read_text())
    changed = [name for name in content if before.get(name) != content[name]]
    if changed:
        raise ConfigError(
            f'{workdir}: the data is not what this run began with (changed: {", ".join(changed)}); '
            'name another --workdir'
        )


def _write_findings(job: Job, workdir: pathlib.Path) -> None:
    """What the source passed over, and the bad files that were left out, with the reasons."""
    findings = job.splits['train'].findings
    if findings is not None:
        content = {'notes': findings.notes, 'bad_files': dict(findings.bad)}
        report.write_json(workdir / PASSED_OVER_FILE, content)


def announce(job: Job, *, show_model: bool = True) -> None:
    """Prints the model, what of it trains, and the data."""
    print_ = report.console.print
    backbone = job.experiment.backbone
    origin = f'weights {job.weights["source"]}' if job.weights else 'random weights'
    name = strategies.name_of(job.experiment.strategy)
    print_(f'\n[bold]{name}[/bold]: {type(backbone).__name__}, {origin}')
    if job.dropped:
        print_(f'Not used of the weights: {", ".join(job.dropped)}.')
    for note in job.notes:
        print_(note)
    for phase in job.phases:
        if len(job.phases) > 1:
            print_(f'Phase {phase.index + 1}, steps {phase.start} to {phase.stop}:')
        if show_model:
            print_(report.model_table(models.describe(job.model, job.params), phase.labels))
        trained, frozen = report.counts(job.params, phase.labels)
        print_(f'{trained:,} parameters train, {frozen:,} are frozen.')
    if show_model:
        sizes = ', '.join(f'{len(split):,} {name}' for name, split in job.splits.items())
        print_(f'{sizes} images of {job.model.num_classes} classes{_labels_each(job)}.')
        if 'test' not in job.splits:
            print_('There is no test split.')
        findings = job.splits['train'].findings
        for note in findings.notes if findings else ():
            print_(f'{note}.')
        if findings and findings.bad:
            print_(f'{len(findings.bad)} bad file(s) left out: {PASSED_OVER_FILE} in the workdir.')
    devices = f'{job.mesh.size} {jax.devices()[0].platform} device{"s" * (job.mesh.size > 1)}'
    print_(
        f'{job.steps} steps of {job.experiment.batch_size} images '
        f'({job.steps / job.steps_per_epoch:.4g} epochs) on {devices}.'
    )


def _labels_each(job: Job) -> str:
    train = job.splits['train']
    return f', {train.labels.sum() / len(train):.2g} labels each' if train.multi_label else ''


def _resume_or_start(job: Job, checkpoints: checkpoint.Checkpoints) -> Run:
    totals = sharding.put_replicated(job.mesh, jobs.zero_totals(job))
    latest = checkpoints.latest_intact()
    if latest is None:
        accumulate = job.experiment.accumulate
        current = Run(state=jobs.first_state(job), totals=totals, accumulate=accumulate)
        return _solved(job, current, job.phases[0])
    record = checkpoints.record(latest)
    arrays, _ = checkpoints.restore(latest, jobs.checkpoint_shapes(job, _phase_of(job, record)))
    report.console.print(f'Resuming at step {latest} of {job.steps}.')
    fields = {name: record[name] for name in SAVED}
    return Run(state=arrays['state'], totals=arrays['totals'], step=latest, **fields)


SAVED = ('starts', 'best', 'stale', 'accumulate', 'seconds', 'data')  # of `Run`, in the record


def _phase_of(job: Job, record: dict[str, Any]) -> PhasePlan:
    return job.phases[len(record['starts']) - 1]


def _train(
    job: Job,
    current: Run,
    checkpoints: checkpoint.Checkpoints,
    records: report.Records,
    evaluate: Evaluate,
    started: float,
) -> None:
    """Every step that is left, in every phase."""
    loop = _Loop(job, current, checkpoints, records, evaluate, started)
    with report.progress(job.steps, current.step) as update, Signals() as signals:
        while True:
            phase = job.phases[current.phase]
            if not current.over(phase):
                loop.train(phase, update, signals)
            if phase.phase.patience is not None:
                _go_back(job, current, phase, checkpoints)
            if current.phase + 1 == len(job.phases):
                return
            _enter(job, current, job.phases[current.phase + 1])


def _go_back(job: Job, current: Run, phase: PhasePlan, checkpoints: checkpoint.Checkpoints) -> None:
    """To the values of the phase's best evaluation; the count of steps stays."""
    if current.best is None or current.best[-1] == current.step:
        return
    best = int(current.best[-1])
    arrays, _ = checkpoints.restore(best, jobs.checkpoint_shapes(job, phase))
    current.state = dataclasses.replace(arrays['state'], step=current.state.step)
    report.console.print(
        f'Phase {phase.index + 1} ends at step {current.step}, with the values of step {best}.'
    )


def _enter(job: Job, current: Run, phase: PhasePlan) -> None:
    current.state = jobs.next_state(job, current.state, phase)
    current.starts.append(current.step)
    current.best, current.stale = None, 0
    _solved(job, current, phase)


def _solved(job: Job, current: Run, phase: PhasePlan) -> Run:
    """The run with the head solved, where the phase asks for it."""
    if phase.phase.solver is not None:
        current.state, found = solved_head.solve(job, current.state, phase)
        report.console.print(
            f'Head solved: loss {float(found.value):.4f} after {int(found.iterations)} iterations, '
            f'gradient norm {float(found.gradient_norm):.1e}.'
        )
    return current


@dataclasses.dataclass
class _Loop:
    """What the steps of every phase share."""

    job: Job
    current: Run
    checkpoints: checkpoint.Checkpoints
    records: report.Records
    evaluate: Evaluate
    started: float
    batches: Any = None  # of the present phase

    def train(self, phase: PhasePlan, update: Any, signals: Signals) -> None:
        """The steps that are left of a phase."""
        job, current, experiment = self.job, self.current, self.job.experiment
        due = schedule.marks(experiment.evaluate_every_epochs, job.steps_per_epoch, job.steps)
        end = current.starts[-1] + phase.length
        prefix = ahead.prepare(job, phase, current.state, current.step, end)
        self.batches = _batches(job, current, prefix)
        clock = report.Clock(experiment.batch_size)
        train_step = FittingStep(job, phase, current.accumulate, prefix, current.step)
        evaluate = _evaluate_in(job, prefix, self.evaluate)
        add = jax.jit(metrics.add)
        source_ends = jobs.source_ends(job, phase)
        clock.restart()
        while not current.over(phase):
            with clock.waiting():
                batch = next(self.batches)
                if current.step >= source_ends:
                    batch.pop('source', None)
                batch = sharding.put_batch(job.mesh, batch)
            current.state, sums = train_step(current.state, batch)
            current.accumulate = train_step.accumulate
            current.totals = add(current.totals, sums)
            current.step += 1
            clock.tick(sums['count'])
            update(current.step, clock.images_per_second, clock.waiting_share)
            at_mark = current.step in due or current.step == end
            if at_mark or current.step % experiment.log_every_steps == 0:
                _record_training(job, current, phase, self.records, clock)
            validation = None
            if at_mark:
                validation = _record_evaluation(job, current, phase, self.records, evaluate)
                clock.restart()
            every = experiment.checkpoint_every_steps
            stop = signals.received(current.step)
            if at_mark or stop or (every and current.step % every == 0):
                self.save(validation)
            if stop:
                raise Interrupted(stop, current.step)
        current.data = self.batches.get_state()

    def save(self, validation: dict[str, float] | None) -> None:
        """A checkpoint of the present step, ranked by its validation, if there was one."""
        current = self.current
        _check_finite(self.job, current)
        record = {name: getattr(current, name) for name in SAVED}
        record['data'] = self.batches.get_state()
        record['seconds'] = current.seconds + time.perf_counter() - self.started
        self.checkpoints.keep(int(current.best[-1]) if current.best else None)
        arrays = {'state': current.state, 'totals': current.totals}
        self.checkpoints.save(current.step, arrays, record, validation)


def _batches(job: Job, current: Run, prefix: ahead.Ahead | None) -> Any:
    """The batches from the present step on."""
    batches: Any = iter(train_batches(job, job.steps, prefix.train if prefix else None))
    if current.data is not None:
        batches.set_state(current.data)
    return batches


def _evaluate_in(job: Job, prefix: ahead.Ahead | None, usual: Evaluate) -> Evaluate:
    """How splits are evaluated in a phase: by what its frozen stages gave, where that is there."""
    if prefix is None or not prefix.evaluated:
        return usual
    return ahead.make_evaluate(job, prefix)


def _record_training(
    job: Job, current: Run, phase: PhasePlan, records: report.Records, clock: report.Clock
) -> None:
    """Reads the sums since the last record (the one wait for the device) and starts them anew."""
    _check_loss(job, current.totals)
    summary = metrics.scalars(metrics.summary(current.totals))
    step_of_phase = current.step - 1 - current.starts[-1]
    record = {
        **_place(job, current, phase, 'train'),
        **summary,
        'learning_rate': np.asarray(phase.learning_rate(step_of_phase)).item(),
        'images_per_second': clock.images_per_second,
        'waiting_share': clock.waiting_share,
        'seconds_left': clock.seconds_left(job.steps - current.step),
    }
    records.write(record)
    report.print_record(record)
    zeros = jobs.zero_totals(job)
    current.totals = sharding.put_replicated(job.mesh, zeros)


def _record_evaluation(
    job: Job, current: Run, phase: PhasePlan, records: report.Records, evaluate: Evaluate
) -> dict[str, float] | None:
    """Evaluates the splits that are asked for; what of it ranks the checkpoint."""
    ranking = None
    for split in job.experiment.evaluate:
        if not len(job.splits.get(split, ())):
            continue
        found = evaluate(states.evaluated(current.state), current.state.stats, split)
        record = {**_place(job, current, phase, split), **metrics.scalars(found)}
        records.write(record)
        report.print_record(record)
        if split == 'val':
            ranking = metrics.ranking(found)
            _rank(current, ranking)
    return ranking


def _rank(current: Run, ranking: dict[str, float]) -> None:
    """Holds an evaluation against the best one of its phase."""
    rank = [ranking['score'], -ranking['loss']]
    if current.best is None or rank > current.best[:2]:
        current.best, current.stale = [*rank, current.step], 0
    else:
        current.stale += 1


def _place(job: Job, current: Run, phase: PhasePlan, split: str) -> dict[str, Any]:
    epoch = current.step / job.steps_per_epoch
    return {'step': current.step, 'epoch': epoch, 'phase': phase.index, 'split': split}


def _check_loss(job: Job, totals: metrics.Sums) -> None:
    first = int(totals['first_bad_step'])
    if first != metrics.NO_STEP:
        raise _not_finite(job, 'the loss', first)


def _check_finite(job: Job, current: Run) -> None:
    """What is about to be saved; an update can overflow before a loss shows it."""
    _check_loss(job, current.totals)
    if not _all_finite((current.state.params, current.state.stats)):
        raise _not_finite(job, 'a parameter or statistic', current.step)


@jax.jit
def _all_finite(arrays: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays)]).all()


def _not_finite(job: Job, what: str, step: int) -> NotFiniteError:
    return NotFiniteError(
        f'{what} is not finite at step {step} (epoch {step / job.steps_per_epoch:.2f}); '
        'a lower config.optimizer.learning_rate, a warm-up or config.clip_norm may help. '
        'No checkpoint was written since.'
    )


def _conclude(
    job: Job,
    current: Run,
    checkpoints: checkpoint.Checkpoints,
    evaluate: Evaluate,
    started: float,
) -> dict[str, Any]:
    """The result: of the best checkpoint on validation, or of the last step without any."""
    best = checkpoints.best() if len(job.splits['val']) else None
    state = current.state
    if best is not None and best != current.step:
        phase = _phase_of(job, checkpoints.record(best))
        arrays, _ = checkpoints.restore(best, jobs.checkpoint_shapes(job, phase))
        state = arrays['state']
    params = states.evaluated(state)
    found = {
        split: report.with_interval(evaluate(params, state.stats, split, final=True))
        if len(job.splits[split])
        else None
        for split in ('val', 'test')
        if split in job.splits
    }
    trained, frozen = report.counts(job.params, job.phases[-1].labels)
    return {
        **found,
        'step': best if best is not None else current.step,
        'steps': current.step,
        'phase_starts': current.starts,
        'train_count': len(job.splits['train']),
        'trained_parameters': trained,
        'frozen_parameters': frozen,
        'class_names': list(job.splits['train'].class_names),
        'multi_label': job.splits['train'].multi_label,
        'weights': job.weights,
        'seed': job.experiment.seed,
        **report.environment(),
        'wall_seconds': current.seconds + time.perf_counter() - started,
    }
