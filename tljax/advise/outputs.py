"""The outputs of an advice: a config to train, a page, all numbers as JSON, and a summary."""

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.table

from tljax.advise import advice, config_source, evidence, networks, page, sentences, tasks
from tljax.advise.advice import Advice
from tljax.advise.halving import Entry
from tljax.config import json_form
from tljax.config.experiment import Experiment
from tljax.records import console, folder_lock, writers
from tljax.records.figures.axes import seconds_text
from tljax.strategies import strategies
from tljax.training import signals

CONFIG, PAGE, NUMBERS, TRIALS = 'advised.py', 'report.html', 'advice.json', 'trials'


def advise(
    experiment: Experiment,
    workdir: pathlib.Path,
    *,
    budget_seconds: float,
    more_weights: Sequence[str] = (),
) -> Advice:
    """Finds an advice, writes it into a folder and prints a summary.

    Args:
        experiment: see `advice.find`.
        workdir: the folder; its trials of an earlier search are reused.
        budget_seconds: of everything.
        more_weights: sources of further candidate weights.

    Raises:
        InputError: see `advice.find`; or another process uses the folder.
        Interrupted: a signal stopped the search; the same call reuses its finished trials.
    """
    with signals.heard(), folder_lock.lock(workdir):
        result = advice.find(
            experiment,
            budget_seconds=budget_seconds,
            more_weights=more_weights,
            folder=workdir / TRIALS,
        )
        write(result, workdir)
    print_summary(result, workdir)
    return result


def write(result: Advice, workdir: pathlib.Path) -> None:
    """Writes the config, the numbers and the page."""
    command = f'tljax train --config={shlex.quote(str(workdir / CONFIG))}'
    network = networks.short(result.experiment.backbone.weights)
    title = f'{type(result.experiment.data).__name__}, {network}'
    config = config_source.source(result.experiment, _docstring(result, command))
    _write_text(workdir / CONFIG, config)
    writers.write_json(workdir / NUMBERS, numbers(result))
    _write_text(workdir / PAGE, page.render(result, title, command))


def _write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file in one atomic step."""
    part = path.with_suffix('.part')
    part.write_text(text)
    part.replace(path)


def _docstring(result: Advice, command: str) -> str:
    predictions = result.predictions[result.candidate.name]
    lines = [
        f'Advised by tljax advise: {result.candidate.name}.',
        '',
        command,
        '',
        f'Accuracy on {len(predictions)} held-out images, before training on all labelled images:',
        f'{sentences.accuracy(predictions)}. {PAGE} gives the reasons and the alternatives.',
    ]
    return '\n'.join(lines)


def numbers(result: Advice) -> dict[str, Any]:
    """The content of advice.json."""
    return {
        'advised': result.candidate.name,
        'family': result.candidate.family,
        'strategy': strategies.name_of(result.experiment.strategy),
        'weights': result.experiment.backbone.weights,
        'experiment': json_form.encode(result.experiment),
        'reference': result.choice.reference,
        'within': list(result.choice.contenders),
        'gains': {name: dataclasses.asdict(gain) for name, gain in result.choice.gains.items()},
        'candidates': [_entry_numbers(result, entry) for entry in result.search.entries],
        'left_out': [dataclasses.asdict(drop) for drop in result.dropped],
        'screening': [dataclasses.asdict(one) for one in result.screened],
        'networks': [evidence.summary(one) for one in result.evidence],
        'gradient_ratios': {
            networks.short(source): dict(cost.gradient_ratios)
            for source, cost in result.network_costs.items()
        },
        'data': tasks.facts(result.task),
        'rungs': [dataclasses.asdict(rung) for rung in result.search.rungs],
        'seconds': result.seconds,
    }


def _entry_numbers(result: Advice, entry: Entry) -> dict[str, Any]:
    predictions = entry.predictions()
    trials = [trial for folds in entry.trials.values() for trial in folds.values()]
    return {
        'name': entry.candidate.name,
        'family': entry.candidate.family,
        'accuracy': None if predictions is None else predictions.accuracy,
        'interval': None if predictions is None else list(predictions.interval),
        'merit': None if predictions is None else sentences.score(predictions) / 100,
        'images': 0 if predictions is None else len(predictions),
        'stride': entry.stride,
        'trials': len(trials),
        'steps': sum(trial.steps for trial in trials),
        'seconds': sum(trial.seconds for trial in trials),
        'predicted_seconds': page.seconds(result, entry),
        'failed': entry.failed,
        'dropped': entry.dropped,
    }


def print_summary(result: Advice, workdir: pathlib.Path) -> None:
    """Prints the candidates, the reasons and the command that trains the advised one."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column('candidate')
    columns = 'held-out accuracy (95 % interval)', 'images', 'expected gain', 'training time'
    for column in columns:
        table.add_column(column, justify='right')
    for entry in sorted(result.search.entries, key=lambda e: -sentences.rank(result, e)):
        name = entry.candidate.name
        predictions = result.predictions.get(name)
        if predictions is None:
            continue
        cells = sentences.accuracy(predictions), str(len(predictions)), sentences.gain(result, name)
        time_text = seconds_text(page.seconds(result, entry))
        style = 'bold' if name == result.choice.name else None
        table.add_row(name, *cells, time_text, style=style)
    print_ = console.console.print
    print_(table)
    for sentence in sentences.reasons(result)[:2]:
        print_(sentence)
    print_(f'\nAdvised after {result.seconds:.0f} s: [bold]{result.candidate.name}[/bold]')
    print_(f'  tljax train --config={workdir / CONFIG}')
    print_(f'Report: {workdir / PAGE}')
