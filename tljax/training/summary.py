"""Prints a summary of an experiment before it is trained."""

import jax

from tljax import devices
from tljax.models import shared_programs, stages
from tljax.records import console
from tljax.records.runs import PASSED_OVER_FILE
from tljax.strategies import strategies
from tljax.training.jobs import Job


def announce(job: Job, *, show_model: bool = True) -> None:
    """Prints the model, the trained stages of each phase, and the data."""
    print_ = console.console.print
    if show_model:
        kind = jax.devices()[0].device_kind
        print_(f'Device: {job.mesh.size} × {kind} ({jax.default_backend()})')
    backbone = job.experiment.backbone
    origin = f'weights {job.weights["source"]}' if job.weights else 'random weights'
    name = strategies.name_of(job.experiment.strategy)
    print_(f'\n[bold]{name}[/bold]: {type(backbone).__name__}, {origin}')
    if job.dropped:
        print_(f'Stages of the weights that are not used: {", ".join(job.dropped)}.')
    for note in job.notes:
        print_(note)
    for phase in job.phases:
        if len(job.phases) > 1:
            print_(f'Phase {phase.index + 1}, steps {phase.start} to {phase.stop}:')
        if show_model:
            rows = shared_programs.get(
                ('stages', job.model), lambda: stages.describe(job.model, job.params)
            )
            print_(console.model_table(rows, phase.labels))
        trained, frozen = console.counts(job.params, phase.labels)
        print_(f'{trained:,} parameters train, {frozen:,} are frozen.')
    if show_model:
        _announce_data(job)
    print_(
        f'{job.steps} steps of {job.experiment.batch_size} {job.model.preprocessing.inputs} '
        f'({job.steps / job.steps_per_epoch:.4g} epochs) on {devices.layout_text(job.mesh)}.'
    )


def _announce_data(job: Job) -> None:
    """Prints the sizes of the splits, and what the data source left out."""
    sizes = ', '.join(f'{len(split):,} {name}' for name, split in job.splits.items())
    model = job.model
    labels, read = job.splits['train'].labels, model.preprocessing.inputs
    described = model.task.described(labels, model.num_classes, read)
    console.console.print(f'{sizes} {described}.')
    if 'test' not in job.splits:
        console.console.print('There is no test split.')
    findings = job.splits['train'].findings
    for note in findings.notes if findings else ():
        console.console.print(f'{note}.')
    if findings and findings.bad:
        console.console.print(
            f'{len(findings.bad)} bad file(s) left out: {PASSED_OVER_FILE} in the workdir.'
        )
