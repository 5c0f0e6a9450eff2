"""What an advice leaves: a config that can be run, a page, the numbers, and a summary."""

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.table

from tljax.advise import advice, config_source, evidence, networks, page, sentences, tasks
from tljax.advise.advice import Advice
from tljax.config import json_form
from tljax.config.experiment import Experiment
from tljax.records import checkpoint, console, writers
from tljax.records.figures.axes import seconds_text
from tljax.strategies import strategies

CONFIG, PAGE, NUMBERS, TRIALS = 'advised.py', 'report.html', 'advice.json', 'trials'


def advise(
    experiment: Experiment,
    workdir: pathlib.Path,
    *,
    budget_seconds: float,
    more_weights: Sequence[str] = (),
) -> Advice:
    """Finds an advice and writes it into a folder.

    Args:
        experiment: see `advice.find`.
        workdir: the folder; what is there of an earlier search is begun with.
        budget_seconds: of the whole.
        more_weights: sources of further candidate weights.

    Raises:
        InputError: see `advice.find`; another process works in the folder.
    """
    with checkpoint.lock(workdir):
        found = advice.find(
            experiment,
            budget_seconds=budget_seconds,
            more_weights=more_weights,
            folder=workdir / TRIALS,
        )
        write(found, workdir)
    tell(found, workdir)
    return found


def write(found: Advice, workdir: pathlib.Path) -> None:
    """The three files."""
    command = f'tljax train --config={shlex.quote(str(workdir / CONFIG))}'
    title = f'{type(found.experiment.data).__name__}, {_network(found)}'
    _whole(workdir / CONFIG, config_source.source(found.experiment, _docstring(found, command)))
    writers.write_json(workdir / NUMBERS, numbers(found))
    _whole(workdir / PAGE, page.render(found, title, command))


def _whole(path: pathlib.Path, text: str) -> None:
    part = path.with_suffix('.part')
    part.write_text(text)
    part.replace(path)


def _network(found: Advice) -> str:
    return networks.short(found.experiment.backbone.weights)


def _docstring(found: Advice, command: str) -> str:
    answers = found.answers[found.candidate.name]
    lines = [
        f'What tljax.advise advises: {found.candidate.name}.',
        '',
        command,
        '',
        f'{sentences.accuracy(answers)} of {len(answers)} held-out images right, before the',
        f'training on all labelled images. Why, and what else was tried: {PAGE}.',
    ]
    return '\n'.join(lines)


def numbers(found: Advice) -> dict[str, Any]:
    """All of it, as JSON has it."""
    return {
        'advised': found.candidate.name,
        'family': found.candidate.family,
        'strategy': strategies.name_of(found.experiment.strategy),
        'weights': found.experiment.backbone.weights,
        'experiment': json_form.encode(found.experiment),
        'reference': found.choice.reference,
        'within': list(found.choice.within),
        'gains': {name: dataclasses.asdict(gain) for name, gain in found.choice.gains.items()},
        'candidates': [_entry_numbers(found, entry) for entry in found.search.entries],
        'left_out': [dataclasses.asdict(drop) for drop in found.dropped],
        'networks': [evidence.summary(look) for look in found.looks],
        'gradient_ratios': {
            networks.short(source): dict(price.ratios) for source, price in found.prices.items()
        },
        'data': tasks.facts(found.task),
        'rungs': [dataclasses.asdict(rung) for rung in found.search.rungs],
        'seconds': found.seconds,
    }


def _entry_numbers(found: Advice, entry: Any) -> dict[str, Any]:
    answers = entry.answers()
    made = [trial for folds in entry.trials.values() for trial in folds.values()]
    return {
        'name': entry.candidate.name,
        'family': entry.candidate.family,
        'accuracy': None if answers is None else answers.accuracy,
        'interval': None if answers is None else list(answers.interval),
        'merit': None if answers is None else sentences.merit(answers) / 100,
        'images': 0 if answers is None else len(answers),
        'stride': entry.stride,
        'trials': len(made),
        'steps': sum(trial.steps for trial in made),
        'seconds': sum(trial.seconds for trial in made),
        'predicted_seconds': page.seconds(found, entry),
        'failed': entry.failed,
        'dropped': entry.dropped,
    }


def tell(found: Advice, workdir: pathlib.Path) -> None:
    """Prints what was tried, and what to run."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column('candidate')
    columns = 'held-out accuracy (95 % interval)', 'images', 'expected gain', 'whole training'
    for column in columns:
        table.add_column(column, justify='right')
    for entry in sorted(found.search.entries, key=lambda e: -sentences.rank(found, e)):
        answers, name = entry.answers(), entry.candidate.name
        if answers is None or name not in found.answers:
            continue
        style = 'bold' if name == found.choice.name else None
        cells = [name, sentences.accuracy(answers), str(len(answers)), sentences.gain(found, name)]
        table.add_row(*cells, seconds_text(page.seconds(found, entry)), style=style)
    print_ = console.console.print
    print_(table)
    for sentence in sentences.why(found)[:2]:
        print_(sentence)
    print_(f'\nAdvised: [bold]{found.candidate.name}[/bold]. {found.seconds:.0f} s. To run it:')
    print_(f'  tljax train --config={workdir / CONFIG}')
    print_(f'The report is {workdir / PAGE}.')
