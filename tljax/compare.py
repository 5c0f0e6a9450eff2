"""An experiment beside its baselines, and what one would cost."""

import dataclasses
import pathlib
from typing import Any

from tljax import comparison, config, costs, report, strategies, train
from tljax import job as jobs
from tljax.config import Experiment


def run(experiment: Experiment, workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Runs an experiment, then its baselines, and prints their results side by side.

    Args:
        experiment: with `baselines`, which differ from it in their strategy, and have no adapters.
        workdir: of the experiment; the baselines get folders under `baselines/` in it.

    Returns:
        The content of each one's result.json, `{name: result}`, the experiment's first.
    """
    config.validate(experiment)
    results = {strategies.name_of(experiment.strategy): train.run(experiment, workdir)}
    for strategy in experiment.baselines:
        name = strategies.name_of(strategy)
        while name in results:
            name += "'"
        other = dataclasses.replace(experiment, strategy=strategy, adapters=(), baselines=())
        folder = workdir / 'baselines' / name.replace(' ', '_').replace("'", '_again')
        results[name] = train.run(other, folder, show_model=False)
    report.console.print(f'\n{comparison.headline(results)}')
    report.console.print(comparison.table(results))
    report.console.print(f'Records are in {workdir}.')
    return results


def dry_run(experiment: Experiment) -> None:
    """Prints the model, the data, and what a training step costs; trains nothing."""
    job = jobs.setup(experiment)
    train.announce(job)
    for phase in job.phases:
        compiled = jobs.compile_train_step(job, phase, None, jobs.has_source(job, phase, 0))
        for name, value in costs.of(job, phase, compiled).lines().items():
            report.console.print(f'  {name:<34}{value:>20}')
    report.console.print('Nothing was trained.')
