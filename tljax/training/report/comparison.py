"""The page that compares several runs."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.metrics import scores
from tljax.metrics.paired_accuracy import PairedDifference
from tljax.records import console, tables
from tljax.records.figures import colors, curves, intervals
from tljax.records.figures.axes import seconds_text, share_text
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages import page
from tljax.records.pages.blocks import Block, Figures, Page, Row, Section, Table, Text
from tljax.training.report import compared_classes, inputs, pairs, result
from tljax.training.report.curves import MEASURES
from tljax.training.report.inputs import Inputs, split_name
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError


def write(folders: Sequence[pathlib.Path], path: pathlib.Path) -> pathlib.Path:
    """Writes a page that compares runs, and its figures into a folder next to it.

    Args:
        folders: of the runs.
        path: of the page.

    Returns:
        The path of the page.

    Raises:
        InputError: a folder holds no finished run, or the page cannot be written there.
    """
    names = pairs.folder_names(folders)
    runs = {n: Inputs(TrainedRun(f)) for n, f in zip(names, folders, strict=True)}
    for run in runs.values():
        result.facts(run)  # raises an error if a folder holds no finished run
    if not path.absolute().parent.is_dir():
        raise InputError(f'{path}: there is no folder {path.parent} to write it into')
    content = gather(runs)
    page.write(path, content)
    page.write_figures(path.with_name(f'{path.stem}_figures'), content.figures())
    return path


def gather(runs: dict[str, Inputs]) -> Page:
    """Makes the page of runs, by their names."""
    sections = [_results(runs), _differences(runs), _settings(runs), _training(runs)]
    try:
        sections.append(compared_classes.section(runs))
    except InputError as error:
        sections.append(Section(title='Classes', blocks=[Text(str(error), 'missing')]))
    return Page(
        title=f'Comparison of {len(runs)} runs',
        opening=[Text(_verdict(runs), 'verdict')],
        sections=sections,
        footer='The figures and their numbers are in a folder next to this page.',
        contents=True,
    )


def _verdict(runs: dict[str, Inputs]) -> str:
    """A sentence that names the best run, and whether its lead is significant."""
    names = list(runs)
    try:
        differences = {
            (a, b): pairs.difference(runs[a], runs[b]) for a, b in itertools.combinations(names, 2)
        }
    except InputError:
        return ' and '.join(names) if len(names) == 2 else f'{len(names)} runs'

    def lead(name: str) -> float:
        return sum(
            pair.difference * (1 if name == a else -1)
            for (a, b), pair in differences.items()
            if name in (a, b)
        )

    best, second = sorted(names, key=lead, reverse=True)[:2]
    pair = pairs.difference(runs[best], runs[second])
    points = f'{100 * pair.difference:.1f} points'
    if pair.low > 0:
        return f'{best} is better than {second} by {points}'
    return f'No significant difference: {best} is {points} above {second}'


def _split(runs: dict[str, Inputs]) -> str | None:
    """The split that all runs were evaluated on: test, else validation."""
    for split in inputs.EVALUATED:
        if all(run.run.result.get(split) for run in runs.values()):
            return split
    return None


def _results(runs: dict[str, Inputs]) -> Section:
    split = _split(runs)
    if split is None:
        return Section(
            title='Results', blocks=[Text('No split was evaluated by all runs.', 'missing')]
        )
    values, rows, measure = [], [], 'accuracy'
    columns: dict[str, None] = {}
    for name, run in runs.items():
        content = run.run.result
        metrics = console.with_interval(content[split])
        score = scores.of(metrics) or scores.ACCURACY
        key, measure = score.compared, score.compared_title
        values.append((name, metrics[key] or 0.0, *metrics[f'{key}_interval']))
        measures = {**tables.measures(metrics), **_calibration(content, split)}
        columns |= dict.fromkeys(measures)
        cost = [f'{content["trained_parameters"]:,}', seconds_text(content['wall_seconds'])]
        rows.append((name, measures, cost))
    marks = [
        Interval(
            name=n, value=v, low=low, high=high, text=f'{100 * v:.1f} %', color=colors.series(i)
        )
        for i, (n, v, low, high) in enumerate(values)
    ]
    texts = '; '.join(f'{name} {100 * value:.1f} %' for name, value, *_ in values)
    figure = Figure(
        name='results',
        title='Results.',
        alt=f'{texts}.',
        drawing=intervals.dots(marks, label=f'{split_name(split)} {measure}, 95 % interval'),
        columns=('run', 'value', 'low', 'high'),
        rows=values,
    )
    table = Table(
        name='Results of the runs',
        columns=('run', *columns, 'trained parameters', 'time'),
        rows=[
            Row(cells=[name, *(measures.get(c, '–') for c in columns), *cost])
            for name, measures, cost in rows
        ],
    )
    return Section(title='Results', blocks=[Figures([figure]), table])


def _calibration(content: Mapping[str, Any], split: str) -> dict[str, str]:
    """The calibration error before and after temperature scaling; empty if it is not recorded."""
    measured = (content.get('calibration') or {}).get(split)
    if not measured:
        return {}
    return {
        f'calibration error {when}': share_text(measured[when]['ece'])
        for when in ('before', 'after')
    }


def _differences(runs: dict[str, Inputs]) -> Section:
    """The paired difference of every two runs."""
    rows, marks, blocks = [], [], []
    for a, b in itertools.combinations(runs, 2):
        try:
            pair = pairs.difference(runs[a], runs[b])
        except (InputError, OSError) as error:
            blocks.append(
                Text(f'{a} and {b} cannot be compared image by image: {error}', 'missing')
            )
            continue
        rows.append((f'{a} – {b}', pair))
        sure = pair.low > 0 or pair.high < 0
        marks.append(
            Interval(
                name=f'{a} – {b}',
                value=pair.difference,
                low=pair.low,
                high=pair.high,
                text=f'{100 * pair.difference:+.1f}',
                color='accent' if sure else 'quiet',
            )
        )
    if not rows:
        return Section(title='Differences', blocks=blocks)
    figure = Figure(
        name='differences',
        title='Differences of the score.',
        alt='; '.join(f'{name} {100 * pair.difference:+.1f} points' for name, pair in rows) + '.',
        drawing=intervals.dots(marks, label='first minus second, 95 % interval'),
        columns=('pair', 'images', 'only first', 'only second', 'difference', 'low', 'high', 'p'),
        rows=[(name, *pair) for name, pair in rows],
        caption='Green: the interval excludes 0, so the difference is significant.',
    )
    return Section(
        title='Differences', blocks=[Figures([figure]), _difference_table(rows), *blocks]
    )


def _difference_table(rows: Sequence[tuple[str, PairedDifference]]) -> Table:
    return Table(
        name='Paired differences',
        columns=(
            'pair',
            'images',
            'only first right',
            'only second right',
            'difference (95 % interval), points',
            'p',
        ),
        rows=[Row(cells=_cells(name, pair)) for name, pair in rows],
        caption='Two runs are compared on the images that both were evaluated on. Intervals are '
        'bootstrap intervals over images. p is of the exact McNemar test, or of a permutation test '
        'if the score is no accuracy. Among many pairs, some have a small p by chance.',
    )


def _cells(name: str, pair: PairedDifference) -> list[str]:
    interval = f'{100 * pair.low:+.1f} to {100 * pair.high:+.1f}'
    p = '< 0.0001' if pair.p_value < 1e-4 else f'{pair.p_value:.2g}'
    counts = ['–' if n is None else f'{n:,}' for n in pair[:3]]
    return [name, *counts, f'{100 * pair.difference:+.1f} ({interval})', p]


def _settings(runs: dict[str, Inputs]) -> Section:
    """The settings in which the runs differ."""
    facts = {name: dict(result.facts(run)) for name, run in runs.items()}
    keys = dict.fromkeys(key for one in facts.values() for key in one)
    differing = [k for k in keys if len({one.get(k, '–') for one in facts.values()}) > 1]
    rows = [Row(cells=[k, *(one.get(k, '–') for one in facts.values())]) for k in differing]
    texts = tuple(range(1, len(runs) + 1))
    table = Table(name='Settings that differ', columns=('', *runs), rows=rows, texts=texts)
    blocks: list[Block] = [table] if rows else [Text('The runs have the same settings.')]
    return Section(title='Different settings', blocks=blocks)


def _training(runs: dict[str, Inputs]) -> Section:
    figures = []
    for name, title in MEASURES.items():
        lines = []
        for index, (run, source) in enumerate(runs.items()):
            records = source.run.metrics
            split = 'val' if any(r['split'] == 'val' and r.get(name) for r in records) else 'train'
            rows = [r for r in records if r['split'] == split and r.get(name) is not None]
            if rows:
                xs, ys = [r['epoch'] for r in rows], [r[name] for r in rows]
                label = f'{run}, {split_name(split)}'
                lines.append(Curve(name=label, xs=xs, ys=ys, color=colors.series(index), dots=True))
        if lines:
            figures.append(_curves(name, title, lines))
    blocks: list[Block] = [Figures(figures)] if figures else []
    return Section(title='Training', blocks=blocks or [Text('No run has metrics.', 'missing')])


def _curves(name: str, title: str, lines: Sequence[Curve]) -> Figure:
    return Figure(
        name=f'training-{name.replace("_", "-")}',
        title=f'{title} by epoch.',
        alt=f'{title} of {", ".join(line.name for line in lines)}.',
        drawing=curves.chart(lines, x_label='epoch', percent=name != 'loss'),
        columns=('run', 'epoch', name),
        rows=[(o.name, x, y) for o in lines for x, y in zip(o.xs, o.ys, strict=True)],
    )
