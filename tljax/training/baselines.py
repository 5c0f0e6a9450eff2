"""An experiment beside its baselines, and what one would cost."""

import dataclasses
import pathlib
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

GAIN_FILE = 'source_gain.json'  # by class, with a source and without


def train_all(experiment: Experiment, workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Runs an experiment, then its baselines, and prints their results side by side.

    Args:
        experiment: with `baselines`, which differ from it in their strategy and have no adapters,
            or in having no source.
        workdir: of the experiment; the baselines get folders under `baselines/` in it, and what a
            source gains or loses in each class is in `source_gain.json`.

    Returns:
        The content of each one's result.json, `{name: result}`, the experiment's first.
    """
    validation.validate(experiment)
    own = strategies.name_of(experiment.strategy)
    # The page has the baselines too, so it is written after them.
    results = {own: train(experiment, workdir, report=not experiment.baselines)}
    gain = None
    for baseline in experiment.baselines:
        other = beside(experiment, baseline)
        name = strategies.name_of(other.strategy)
        if isinstance(baseline, WithoutSource):
            name += ', no source'
        while name in results:
            name += "'"
        folder = workdir / 'baselines' / name.replace(' ', '_').replace("'", '_again')
        results[name] = train(other, folder, show_model=False)
        if isinstance(baseline, WithoutSource):
            gain = tables.gain(results[own], results[name])
    console.console.print(f'\n{tables.headline(results)}')
    console.console.print(tables.table(results))
    if gain is not None:
        writers.write_json(workdir / GAIN_FILE, gain)
        console.console.print(tables.gain_table(gain))
    console.console.print(f'Records are in {workdir}.')
    if experiment.report:
        page.announce(workdir, again=bool(experiment.baselines))
    return results


def beside(experiment: Experiment, baseline: Strategy | WithoutSource) -> Experiment:
    """The experiment that one is compared with."""
    if isinstance(baseline, WithoutSource):
        return dataclasses.replace(experiment, samples=None, baselines=())
    return dataclasses.replace(experiment, strategy=baseline, adapters=(), baselines=())


def dry_run(experiment: Experiment) -> None:
    """Prints the model, the data, and what a training step costs; trains nothing."""
    job = jobs.setup(experiment)
    announce(job)
    for phase in job.phases:
        with_source = bool(job.source and job.source.steps_of(phase, experiment))
        compiled = compiled_step.compile_train_step(job, phase, with_source=with_source)
        for name, value in step_cost.of(job, phase, compiled).lines().items():
            console.console.print(f'  {name:<34}{value:>20}')
    console.console.print('Nothing was trained.')
