"""Parallel coordinates of the configurations of a search."""

import math
from collections.abc import Sequence

from tljax.records.figures import axes, parallel
from tljax.records.figures.figure import Figure
from tljax.records.figures.parallel import Coordinate
from tljax.records.pages.score_texts import percent
from tljax.sweep.folder import AxisRecord
from tljax.sweep.report.axis_figures import is_log, numbers_of
from tljax.sweep.report.content import Content
from tljax.sweep.report.summaries import mean
from tljax.sweep.results import VALIDATION, Variant, settings_of
from tljax.sweep.space import Role

MANY_VALUES = 8  # an axis with more is clearer in parallel coordinates than in a table
MOST_AXES = 6
MOST_LINES = 400
HIGHLIGHTED = 0.1  # the share of configurations


Configuration = tuple[dict[str, str], float]  # the values of its axes, and its validation score


def figure(content: Content) -> Figure | None:
    """A line for each configuration; None for a grid of few values, or without validation."""
    if not is_search(content):
        return None
    shown = [*_varied(content, Role.COMPARED), *_varied(content, Role.TUNED)][-MOST_AXES:]
    configurations = _configurations(content, shown)[:MOST_LINES]
    if len(configurations) < 2:
        return None
    scores = [score for _, score in configurations]
    coordinates = [
        _coordinate(axis, content.names.labels[axis.name], configurations) for axis in shown
    ]
    coordinates.append(parallel.numeric('validation', scores, log=False, text=axes.percent_text))
    best = sorted(range(len(scores)), key=lambda i: -scores[i])
    count = max(1, math.ceil(HIGHLIGHTED * len(scores)))
    labels = [content.names.labels[axis.name] for axis in shown]
    top = configurations[best[0]][0]
    return Figure(
        name='configurations',
        title='All configurations.',
        alt=f'The best of {len(scores)} has '
        f'{", ".join(f"{content.names.labels[axis]}={value}" for axis, value in top.items())} and '
        f'a validation score of {percent(scores[best[0]])} %.',
        drawing=parallel.parallel(coordinates, best[:count]),
        columns=(*labels, 'validation'),
        rows=[(*(s.get(axis.name, '') for axis in shown), v) for s, v in configurations],
        caption=f'Validation score, mean over seeds. Green: the best {count} of {len(scores)}.',
        wide=True,
    )


def is_search(content: Content) -> bool:
    """Whether values were drawn at random, or an axis has many values."""
    compared, tuned = (_varied(content, role) for role in (Role.COMPARED, Role.TUNED))
    many = [axis for axis in (*compared, *tuned) if len(axis.values) > MANY_VALUES]
    if any(axis in tuned for axis in many) or (many and len(compared) > 1):
        return True
    return any(_is_drawn(variant, tuned) for variant in content.results.variants)


def _varied(content: Content, role: Role) -> list[AxisRecord]:
    """The axes with several values."""
    return [axis for axis in content.results.axes(role) if len(axis.values) > 1]


def _is_drawn(variant: Variant, axes: Sequence[AxisRecord]) -> bool:
    """Whether the configurations of a variant are only a part of the grid of their values."""
    cells = [cell for seed in variant.seeds for cell in seed.cells]
    settings = {tuple(settings_of(cell, axes).items()) for cell in cells}
    values: dict[str, set[str]] = {}
    for axis, value in (pair for one in settings for pair in one):
        values.setdefault(axis, set()).add(value)
    return len(settings) < math.prod(map(len, values.values()))


def _configurations(content: Content, shown: Sequence[AxisRecord]) -> list[Configuration]:
    """The mean validation score over seeds of each configuration, the best first."""
    scores: dict[tuple, list[float]] = {}
    for cell in content.results.cells:
        score = cell.score(VALIDATION)
        if score is not None:
            scores.setdefault(tuple(settings_of(cell, shown).items()), []).append(score)
    means = [(dict(settings), mean(values) or 0.0) for settings, values in scores.items()]
    return sorted(means, key=lambda one: -one[1])


def _coordinate(
    axis: AxisRecord, label: str, configurations: Sequence[Configuration]
) -> Coordinate:
    numbers = numbers_of(axis)
    names = [settings.get(axis.name) for settings, _ in configurations]
    values = [None if name is None else numbers.get(name) for name in names]
    if numbers and any(value is not None for value in values):
        known = [value for value in values if value is not None]
        return parallel.numeric(label, values, log=is_log(known))
    return parallel.named(label, names)
