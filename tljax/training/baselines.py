"""Runs an experiment and its baselines, or prints what its steps cost."""

import dataclasses
import pathlib
from collections.abc import Collection
from typing import Any

from tljax.config import validation
from tljax.config.experiment import Experiment
from tljax.records import console, tables, writers
from tljax.sample_transfer import WithoutSource
from tljax.strategies import strategies
from tljax.training import compiled_step, jobs, step_cost
from tljax.training.report import page
from tljax.training.run import train
from tljax.training.summary import announce
from tljax.types import Strategy

GAIN_FILE = 'source_gain.json'  # accuracy by class with samples and without


def train_all(
    experiment: Experiment, workdir: pathlib.Path, allow_change: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Runs an experiment, then its baselines, and prints their results side by side.

    Args:
        experiment: its `baselines` differ from it in their strategy and have no adapters, or have
            no samples.
        workdir: the folder of the run. Baselines get folders under `baselines/` in it, and the
            gain of each class by samples is written into `source_gain.json`.
        allow_change: see `run.train`.

    Returns:
        The content of each result.json, `{name: result}`, first that of the experiment.
    """
    validation.validate(experiment)
    own_name = strategies.name_of(experiment.strategy)
    # With baselines, the page is written after them because it shows their results.
    report = not experiment.baselines
    results = {own_name: train(experiment, workdir, report=report, allow_change=allow_change)}
    gain = None
    for baseline in experiment.baselines:
        other = baseline_of(experiment, baseline)
        name = strategies.name_of(other.strategy)
        if isinstance(baseline, WithoutSource):
            name += ', no source'
        while name in results:
            name += "'"
        folder = workdir / 'baselines' / name.replace(' ', '_').replace("'", '_again')
        results[name] = train(other, folder, show_model=False, allow_change=allow_change)
        if isinstance(baseline, WithoutSource):
            gain = tables.gain(results[own_name], results[name])
    console.console.print(f'\n{tables.headline(results)}')
    console.console.print(tables.table(results))
    if gain is not None:
        writers.write_json(workdir / GAIN_FILE, gain)
        console.console.print(tables.gain_table(gain))
    console.console.print(f'Records are in {workdir}.')
    if experiment.report:
        page.announce(workdir, again=bool(experiment.baselines))
    return results


def baseline_of(experiment: Experiment, baseline: Strategy | WithoutSource) -> Experiment:
    """The experiment of a baseline."""
    if isinstance(baseline, WithoutSource):
        return dataclasses.replace(experiment, samples=None, baselines=())
    return dataclasses.replace(experiment, strategy=baseline, adapters=(), baselines=())


def dry_run(experiment: Experiment) -> None:
    """Prints the model, the data and the cost of a training step; trains nothing."""
    job = jobs.setup(experiment)
    announce(job)
    for phase in job.phases:
        with_samples = bool(job.samples and job.samples.steps_in(phase))
        program = compiled_step.compile_train_step(job, phase, with_samples=with_samples)
        for name, value in step_cost.of(job, phase, program).lines().items():
            console.console.print(f'  {name:<34}{value:>20}')
    console.console.print('Nothing was trained.')
