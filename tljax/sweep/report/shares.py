"""How much of the variance of the scores each axis explains."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tljax.metrics import variance_shares
from tljax.metrics.variance_shares import SEED
from tljax.records.figures import intervals
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Section, Text
from tljax.sweep import trials
from tljax.sweep.report.content import Content
from tljax.sweep.report.summaries import score_text
from tljax.sweep.results import CellResult, settings_of
from tljax.sweep.space import Role, SweepError

MOST_ROWS = 12
SMALL = 0.005  # smaller shares of interactions are summed
NOISE = 'seeds (not explained)'


def section(content: Content) -> Section | None:
    """The shares over all cells, or why there are none; None with fewer than two axes."""
    axes = [axis.name for axis in content.names.axes]
    axes += [axis.name for axis in content.results.axes(Role.TUNED) if len(axis.values) > 1]
    if not axes or len(content.results.cells) < 3:
        return None
    title = 'Which axis explains how much'
    grid = _grid(content, axes)
    if isinstance(grid, str):
        return Section(title=title, blocks=[_of_search(content) or Text(grid, 'missing')])
    # Axes are numbered, because only the seeds may have the name of the noise.
    names = [str(index) for index in range(len(axes))]
    shares = variance_shares.shares(grid, [*names, SEED])
    labels = [content.names.labels[axis] for axis in axes]
    rows = {_name(key, labels): share for key, share in shares.items()}
    caption = (
        'Over all cells, tuned values included. × is an interaction: the part that depends on both '
        'axes together. Seeds: what repeating the same cell changes.'
    )
    blocks: list[Block] = [Figures([_figure(content, rows, caption)])]
    return Section(title=title, blocks=blocks)


def _of_search(content: Content) -> Figures | None:
    """The importance of the axes of a search; None without a search or enough trials."""
    try:
        result = trials.importance(content.folder.path, content.results.record.name)
    except SweepError:
        return None
    if not result.by_axis:
        return None
    caption = (
        f'PED-ANOVA (Watanabe et al. 2023) over the {result.trials} trials of the search, by their '
        'first validation: how far the values of the better trials differ from those of all.'
    )
    return Figures([_figure(content, result.by_axis, caption)])


def _grid(content: Content, axes: Sequence[str]) -> np.ndarray | str:
    """The score of every cell, [values of each axis..., seeds]; or why the grid is not full."""
    results = content.results
    places: dict[tuple[str, ...], float] = {}
    used = [axis for axis in results.record.axes if axis.name in axes]
    for variant in results.variants:
        for seed in variant.seeds:
            for cell in seed.cells:
                settings = settings_of(cell, used)
                key = tuple(settings.get(axis, '') for axis in axes)
                places[*key, seed.seed] = _score(cell, results.split)
    values = [sorted({key[index] for key in places}) for index in range(len(axes) + 1)]
    cells = math.prod(map(len, values))
    if len(places) < cells:
        return (
            f'The sweep has {len(places)} of the {cells} combinations of its values. The '
            'decomposition of the variance needs a full grid.'
        )
    if missing := sum(map(math.isnan, places.values())):
        return (
            f'{missing} of {cells} cells have no score. The decomposition of the variance needs a '
            'full grid.'
        )
    grid = np.full([len(names) for names in values], math.nan)
    for key, score in places.items():
        grid[tuple(names.index(name) for names, name in zip(values, key, strict=True))] = score
    return grid


def _score(cell: CellResult, split: str | None) -> float:
    score = cell.score(split) if split else None
    return math.nan if score is None else score


def _name(key: Sequence[str], labels: Sequence[str]) -> str:
    if SEED in key:
        return NOISE
    return ' × '.join(labels[int(index)] for index in key)


def _figure(content: Content, shares: Mapping[str, float], caption: str) -> Figure:
    ordered = sorted(shares.items(), key=lambda pair: (pair[0] == NOISE, -pair[1]))
    shown = [pair for pair in ordered if pair[1] >= SMALL or ' × ' not in pair[0]][:MOST_ROWS]
    rest = sum(share for pair in ordered if pair not in shown for share in pair[1:])
    if len(shown) < len(ordered):
        shown.append(('the rest', rest))
    rows = [
        Interval(
            name=name,
            value=max(share, 0.0),
            text=f'{100 * share:.1f} %',
            color='quiet' if name == NOISE else 'accent',
        )
        for name, share in shown
    ]
    return Figure(
        name='variance',
        title=f'Shares of the variance of the {score_text(content.results)}.',
        alt='; '.join(f'{name} {100 * share:.1f} %' for name, share in shown) + '.',
        drawing=intervals.bars(rows),
        columns=('effect', 'share'),
        rows=list(shares.items()),
        caption=caption,
    )
