"""A comparison of runs as a table, and as a file: Markdown, LaTeX, CSV or JSON."""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

from tljax.metrics.paired_seeds import LEVEL
from tljax.records.pages import table_texts
from tljax.records.pages.blocks import Row, Table
from tljax.records.pages.score_texts import (
    UNKNOWN,
    ends_text,
    interval_text,
    p_text,
    percent,
    points_text,
    result_text,
    too_few_seeds_text,
)
from tljax.training.report.inputs import split_name
from tljax.training.report.paired_runs import RunComparison, RunRow
from tljax.types import InputError

WIDTH = 120  # of the table in a terminal
CSV_COLUMNS = (
    'name',
    'runs',
    'seeds',
    'mean',
    'low',
    'high',
    'difference',
    'difference_low',
    'difference_high',
    'paired_seeds',
    'paired_images',
    'p',
    'p_holm',
    'distinguishable',
    'seeds_needed',
)


def text(comparison: RunComparison) -> str:
    """The table and its remarks, for a terminal."""
    content = table(comparison)
    lines = '\n'.join(notes(comparison))
    return f'{table_texts.terminal(content, WIDTH)}\n\n{lines}'


def table(comparison: RunComparison) -> Table:
    """A row for each group of runs, the baseline first."""
    return Table(
        name=f'Differences from {comparison.baseline}',
        columns=(
            'run',
            'seeds',
            f'{split_name(comparison.split)} {comparison.measure}, % (95 % interval)',
            'difference, points (95 % interval)',
            'p',
            'p (Holm)',
            'result',
            'seeds needed',
        ),
        rows=[Row(cells=_cells(comparison, row)) for row in comparison.rows],
        texts=(6,),
        caption=' '.join(notes(comparison)),
    )


def _cells(comparison: RunComparison, row: RunRow) -> list[str]:
    paired = len(row.runs) if row.pair is None else row.pair.seeds
    seeds = str(paired) if paired == len(row.runs) else f'{paired} of {len(row.runs)}'
    mean = f'{percent(row.interval.mean)} ({interval_text(row.interval)})'
    if row.pair is None:
        baseline = row.name == comparison.baseline
        return [row.name, seeds, mean, '', '', '', 'baseline' if baseline else 'no common seed', '']
    return [
        row.name,
        seeds,
        mean,
        f'{points_text(row.pair.difference)} ({ends_text(row.pair)})',
        p_text(row.pair.p_value),
        p_text(row.adjusted),
        result_text(row.pair, row.adjusted),
        UNKNOWN if row.seeds_needed is None else f'{row.seeds_needed:,}',
    ]


def notes(comparison: RunComparison) -> list[str]:
    """Sentences that say how to read the table, and why nothing can be significant in it."""
    pairs = [row.pair for row in comparison.rows if row.pair is not None]
    several = [pair for pair in pairs if pair.seeds > 1]
    paired = 'image by image' if comparison.is_share else 'on the same images'
    notes = [f'Differences from {comparison.baseline}, {paired}.']
    if several:
        both = 'seeds and images' if comparison.is_share else 'seeds'
        notes.append(
            f'p: exact sign-flip test over seeds. Intervals of differences cover {both}; '
            'those of means cover seeds.'
        )
    if len(several) < len(pairs):
        notes.append(
            'With one seed, p and the intervals are over images: another seed would give another '
            'difference.'
        )
    if comparison.tests:
        notes.append(
            f'A difference is distinguishable if p, adjusted by Holm for {comparison.tests} '
            f'test{"s" * (comparison.tests != 1)}, is below {LEVEL} and the interval excludes 0.'
        )
    if any(row.seeds_needed for row in comparison.rows):
        points = f'{100 * comparison.difference:g}'
        notes.append(
            f'Seeds needed: they find a true difference of {points} point{"s" * (points != "1")} '
            'with a probability of 80 %, as differences vary over the seeds here.'
        )
    if too_few := too_few_seeds_text(pairs, comparison.tests):
        notes.append(too_few)
    if any(row.pair is None for row in comparison.rows[1:]):
        notes.append('Rows without a common seed with the baseline are not compared.')
    if comparison.split == 'val':
        notes.append('Validation images selected the checkpoints, so the scores are optimistic.')
    return notes


def write(comparison: RunComparison, path: pathlib.Path) -> None:
    """Writes a comparison; the ending of the file name chooses the format.

    Raises:
        InputError: the ending is unknown, or the file cannot be written there.
    """
    make = writer(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f'{path}: there is no folder {path.parent} to write it into')
    path.write_text(make(comparison), encoding='utf-8', errors='backslashreplace')


def writer(path: pathlib.Path) -> Callable[[RunComparison], str]:
    """The function that makes the text of a file.

    Raises:
        InputError: the ending of its name is unknown.
    """
    formats: dict[str, Callable[[RunComparison], str]] = {
        '.md': lambda comparison: table_texts.markdown(table(comparison)),
        '.tex': lambda comparison: table_texts.latex(table(comparison)),
        '.csv': as_csv,
        '.json': as_json,
    }
    if path.suffix.lower() not in formats:
        raise InputError(f'{path}: wanted a name that ends in {", ".join(formats)}')
    return formats[path.suffix.lower()]


def as_csv(comparison: RunComparison) -> str:
    """A line for each row, with shares between 0 and 1; empty cells for unknown numbers."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    rows.writerow(CSV_COLUMNS)
    for row in comparison.rows:
        values = [row.interval.mean, row.interval.low, row.interval.high]
        if row.pair is not None:
            values += [row.pair.difference, row.pair.low, row.pair.high]
            values += [row.pair.seeds, row.pair.images, row.pair.p_value, row.adjusted]
            values += [row.distinguishable, row.seeds_needed]
        runs = ' '.join(map(str, row.runs))
        values = [row.name, runs, ' '.join(map(str, row.seeds)), *map(_known, values)]
        rows.writerow([*values, *[None] * (len(CSV_COLUMNS) - len(values))])
    return text.getvalue()


def as_json(comparison: RunComparison) -> str:
    """All numbers; null for unknown ones."""
    content = dataclasses.asdict(comparison)
    for fields, row in zip(content['rows'], comparison.rows, strict=True):
        fields['runs'] = [str(path) for path in row.runs]
        fields['interval'] = row.interval._asdict()
        fields['pair'] = None if row.pair is None else row.pair._asdict()
    return json.dumps(_json_form(content), indent=2) + '\n'


def _json_form(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_form(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_form(item) for item in value]
    return _known(value)


def _known(value: Any) -> Any:
    """None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value
