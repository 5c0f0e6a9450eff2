"""Every cell with its settings and metrics: a folded table, and cells.csv."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from tljax.records.csv_text import cell_text
from tljax.records.figures.axes import seconds_text
from tljax.records.pages.blocks import Row, Section, Table
from tljax.records.pages.score_texts import percent
from tljax.sweep.report.content import Content
from tljax.sweep.results import TEST, VALIDATION, CellResult

NUMBERS = ('step', 'steps', 'flops', 'wall_seconds', 'trained_parameters', 'frozen_parameters')
MOST_ROWS = 2000  # of the table of the page


def section(content: Content) -> Section:
    """The table of all cells."""
    results = content.results
    chosen = {id(cell) for variant in results.variants for cell in variant.chosen}
    axes = [axis.name for axis in results.record.axes]
    shown = results.cells[:MOST_ROWS]
    more = f' Only the first {MOST_ROWS:,}; cells.csv has all.' * (len(shown) < len(results.cells))
    table = Table(
        name=f'{len(results.cells):,} cells',
        columns=[
            'cell',
            *(content.names.labels[axis] for axis in axes),
            'status',
            'validation, %',
            'test, %',
            'steps',
            'time',
        ],
        rows=[
            Row(cells=_row(cell, axes), style='chosen' if id(cell) in chosen else '')
            for cell in shown
        ],
        texts=range(1, len(axes) + 2),
        caption='Green: chosen by the validation split. The run of a cell is in the folder '
        f'cells/ and has the name of the cell.{more}',
        folded=True,
    )
    return Section(title='Cells', blocks=[table])


def _row(cell: CellResult, axes: list[str]) -> list[str]:
    steps, seconds = cell.number('steps'), cell.number('wall_seconds')
    return [
        cell.record.name,
        *(cell.record.settings.get(axis, '–') for axis in axes),
        cell.status.value,
        percent(cell.score(VALIDATION)),
        percent(cell.score(TEST)),
        '–' if steps is None else f'{steps:,.0f}',
        '–' if seconds is None else seconds_text(seconds),
    ]


def as_csv(content: Content) -> str:
    """One line for each cell, with the values of all axes and all metrics that are numbers."""
    results = content.results
    chosen = {id(cell) for variant in results.variants for cell in variant.chosen}
    axes = [axis.name for axis in results.record.axes]
    metrics = [_metrics(cell) for cell in results.cells]
    names = list(dict.fromkeys(name for one in metrics for name in one))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    header = ['cell', 'status', 'chosen', *axes, *names, 'error']
    rows.writerow([cell_text(name) for name in header])
    for cell, values in zip(results.cells, metrics, strict=True):
        settings = [_csv_text(cell.record.settings.get(axis, '')) for axis in axes]
        numbers = [values.get(name, '') for name in names]
        start = [cell_text(cell.record.name), cell.status.value, int(id(cell) in chosen)]
        rows.writerow([*start, *settings, *numbers, cell_text(cell.error)])
    return text.getvalue()


def _csv_text(text: str) -> str:
    """Text that no spreadsheet runs as a formula; a number stays a number."""
    try:
        float(text)
    except ValueError:
        return cell_text(text)
    return text


def _metrics(cell: CellResult) -> dict[str, Any]:
    """`{'val_accuracy': 0.9, …}`, and numbers of the run."""
    values: dict[str, Any] = {}
    for split in (VALIDATION, TEST):
        values |= {f'{split}_{name}': v for name, v in _numbers(cell.metrics(split)).items()}
    return values | {n: v for n, v in _numbers(cell.result).items() if n in NUMBERS}


def _numbers(fields: Mapping[str, Any]) -> dict[str, int | float]:
    return {
        str(name): value
        for name, value in fields.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
