"""Curves over each numeric compared axis, and heat maps over two compared axes."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from tljax.records.figures import colors, curves, heat_map
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Figures, Section
from tljax.records.pages.score_texts import percent
from tljax.sweep.folder import AxisRecord
from tljax.sweep.report.content import Content
from tljax.sweep.report.summaries import Summary, partial_text, score_text
from tljax.sweep.results import value_of

MOST_CURVES = 6  # of one figure; more are divided into several figures
MOST_FIGURES = 6
LOG_RATIO = 8  # from here on, values that are closer to a geometric series have a log axis


def section(content: Content) -> Section | None:
    """The figures; None without a numeric axis and without two axes."""
    figures = _with_unique_names([*_all_curves(content), *_heat_maps(content)])
    return Section(title='Effects of the axes', blocks=[Figures(figures)]) if figures else None


def _with_unique_names(figures: Sequence[Figure]) -> list[Figure]:
    """The figures; a name that an earlier figure has gets a number."""
    names: dict[str, None] = {}
    for figure in figures:
        name = figure.name
        while name in names:
            name += '-2'
        names[name] = None
    return [dataclasses.replace(one, name=name) for one, name in zip(figures, names, strict=True)]


def numbers_of(axis: AxisRecord) -> dict[str, float]:
    """The number of each value; empty unless all values are numbers."""
    numbers = {value.name: value.number for value in axis.values}
    known = {n: x for n, x in numbers.items() if x is not None and math.isfinite(x)}
    return known if len(known) == len(numbers) else {}


def is_log(numbers: Sequence[float]) -> bool:
    """Whether numbers look better on a logarithmic axis."""
    ordered = sorted(set(numbers))
    if len(ordered) < 2 or ordered[0] <= 0 or ordered[-1] / ordered[0] < LOG_RATIO:
        return False
    plain = np.diff(ordered)
    ratios = np.diff(np.log(ordered))
    return float(ratios.std() / ratios.mean()) <= float(plain.std() / plain.mean()) + 1e-9


def _all_curves(content: Content) -> list[Figure]:
    figures = []
    for axis in content.names.axes:
        numbers = numbers_of(axis)
        groups = _groups(content, axis, numbers)
        if not any(len(points) > 1 for points in groups.values()):
            continue
        panels = _panels(groups)
        for index, panel in enumerate(panels):
            suffix = f'-{index + 1}' if len(panels) > 1 else ''
            figures.append(_curves(content, axis, numbers, panel, suffix))
    return figures


Groups = dict[str, list[Summary]]


def _groups(content: Content, axis: AxisRecord, numbers: dict[str, float]) -> Groups:
    """The variants with a score on each line: those that differ in this axis only."""
    groups: Groups = {}
    for one in content.known:
        if one.variant.settings.get(axis.name) in numbers:
            title = content.names.title(one.variant.settings, without=[axis.name])
            groups.setdefault(title, []).append(one)
    for points in groups.values():
        points.sort(key=lambda one: numbers[one.variant.settings[axis.name]])
    return groups


def _panels(groups: Groups) -> list[Groups]:
    """Divides lines into at most six figures of at most six lines."""
    names = list(groups)
    size = max(MOST_CURVES, math.ceil(len(names) / MOST_FIGURES))
    return [{n: groups[n] for n in names[i : i + size]} for i in range(0, len(names), size)]


def _curves(
    content: Content, axis: AxisRecord, numbers: dict[str, float], groups: Groups, suffix: str
) -> Figure:
    label = content.names.labels[axis.name]

    def number(one: Summary) -> float:
        return numbers[one.variant.settings[axis.name]]

    lines = [
        Curve(
            name=title,
            xs=[number(one) for one in points],
            ys=[one.mean for one in points],
            color=colors.series(index),
            band=[one.ends for one in points],
            dots=True,
        )
        for index, (title, points) in enumerate(groups.items())
    ]
    score = score_text(content.results)
    log = is_log(list(numbers.values()))
    named = [line for line in lines if line.name]
    ticks = sorted({x for line in lines for x in line.xs})
    return Figure(
        name=f'curves-{_file_part(label)}{suffix}',
        title=f'{score.capitalize()} by {label}.',
        alt='; '.join(
            f'{line.name or score} from {percent(line.ys[0])} to {percent(line.ys[-1])} %'
            for line in lines
        )
        + '.',
        drawing=curves.chart(
            lines if named else [_unnamed(line, score) for line in lines],
            x_label=f'{label} (log scale)' if log else label,
            y_label=score,
            percent=True,
            log_x=log,
            x_ticks=ticks,
        ),
        columns=('line', label, score, 'low', 'high', 'seeds'),
        rows=[
            (title, number(one), one.mean, *one.ends, len(one.scores))
            for title, points in groups.items()
            for one in points
        ],
        caption='Mean over seeds with 95 % t intervals.'
        + partial_text([one for points in groups.values() for one in points]),
    )


def _unnamed(line: Curve, name: str) -> Curve:
    return Curve(name=name, xs=line.xs, ys=line.ys, color=line.color, band=line.band, dots=True)


def _file_part(label: str) -> str:
    """A part of a file name."""
    text = ''.join(c if c.isascii() and c.isalnum() else '-' for c in label.lower())
    return '-'.join(part for part in text.split('-') if part)[:40] or 'axis'


def _heat_maps(content: Content) -> list[Figure]:
    """A map for the two axes with most values, for each combination of the others."""
    axes = content.names.axes
    if len(axes) < 2:
        return []
    row, column = axes[0], axes[1]
    if len(axes) > 2:
        row, column = sorted(axes, key=lambda axis: -len(axis.values))[:2]
    groups: dict[str, list[Summary]] = {}
    for one in content.known:
        if row.name in one.variant.settings and column.name in one.variant.settings:
            title = content.names.title(one.variant.settings, without=[row.name, column.name])
            groups.setdefault(title, []).append(one)
    groups = {title: group for title, group in groups.items() if _is_grid(group, row, column)}
    return [
        _heat_map(content, (row, column), title, group, f'-{index + 1}' if title else '')
        for index, (title, group) in enumerate(itertools.islice(groups.items(), MOST_FIGURES))
    ]


def _is_grid(group: Sequence[Summary], row: AxisRecord, column: AxisRecord) -> bool:
    """Whether there are at least two rows and two columns."""
    return all(
        len({one.variant.settings[axis.name] for one in group}) > 1 for axis in (row, column)
    )


def _ordered(axis: AxisRecord) -> list[str]:
    """The values of an axis, numbers in ascending order."""
    names = [value.name for value in axis.values]
    numbers = numbers_of(axis)
    return sorted(names, key=lambda name: numbers[name]) if numbers else names


def _heat_map(
    content: Content,
    axes: tuple[AxisRecord, AxisRecord],
    title: str,
    group: Sequence[Summary],
    suffix: str,
) -> Figure:
    rows, columns = map(_ordered, axes)
    values = np.full((len(rows), len(columns)), math.nan)
    for one in group:
        row, column = (one.variant.settings[axis.name] for axis in axes)
        values[rows.index(row), columns.index(column)] = one.mean
    labels = [content.names.labels[axis.name] for axis in axes]
    best = max(group, key=lambda one: one.mean or 0.0)
    return Figure(
        name=f'map-{_file_part(labels[0])}-{_file_part(labels[1])}{suffix}',
        title=f'{score_text(content.results).capitalize()}, %{f": {title}" if title else ""}.',
        alt=f'The highest mean is {percent(best.mean)} %, of {best.title}.',
        drawing=heat_map.heat_map(
            values, [_name(axes[0], labels[0], name) for name in rows], columns, label=labels[1]
        ),
        columns=(labels[0], *columns),
        rows=[(name, *map(_number, line)) for name, line in zip(rows, values, strict=True)],
        caption=f'Mean over seeds, by {labels[0]} and {labels[1]}. A dash: no result.'
        + partial_text(group),
    )


def _name(axis: AxisRecord, label: str, name: str) -> str:
    value = value_of(axis, name)
    return f'{label}={name}' if value is not None and value.number is not None else name


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
