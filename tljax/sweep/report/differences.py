"""The section of paired differences."""

import math
from collections.abc import Sequence

from tljax.metrics.paired_seeds import LEVEL, PairedSeeds
from tljax.records.figures import intervals
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Row, Section, Table, Text
from tljax.records.pages.score_texts import (
    UNKNOWN,
    ends_text,
    p_text,
    points_text,
    result_text,
    too_few_seeds_text,
)
from tljax.sweep.report.comparison import Difference
from tljax.sweep.report.content import Content

MOST_NAMED = 5


def section(content: Content) -> Section | None:
    """The table and the figure; None if there is nothing to compare."""
    comparison = content.comparison
    if not comparison.baselines or not (comparison.differences or comparison.unmatched):
        return None
    blocks: list[Block] = []
    if comparison.differences:
        blocks.append(table(content))
    if any(one.pair for one in comparison.differences):
        blocks.append(Figures([_figure(content)]))
    blocks += [Text(text, 'missing') for text in _remarks(content)]
    return Section(title='Differences from the baseline', blocks=blocks)


def baseline_text(content: Content) -> str:
    """The names of the baselines: `LinearProbe`."""
    pairs = content.comparison.baselines.items()
    values = [
        content.names.value(axis, value)
        if any(one.name == axis for one in content.names.axes)
        else f'{content.names.labels[axis]}={value}'
        for axis, value in pairs
    ]
    return ' and '.join(values)


def table(content: Content) -> Table:
    """The paired differences; the page, Markdown and LaTeX show the same table."""
    several = len(content.comparison.baselines) > 1
    return Table(
        name=f'Differences from {baseline_text(content)}',
        columns=(
            'variant',
            *(['baseline'] if several else []),
            'difference, points',
            '95 % interval',
            'seeds',
            'images',
            'p',
            'p (Holm)',
            'result',
            'seeds for 1 point',
        ),
        rows=[
            Row(
                cells=_cells(content, one),
                style='chosen' if one.distinguishable else '',
            )
            for one in content.comparison.differences
        ],
        texts=(1,) if several else (),
        caption=_caption(content),
    )


def _cells(content: Content, one: Difference) -> list[str]:
    sides = (one.variant, one.baseline)[: len(content.comparison.baselines)]
    names = [content.names.title(side.settings) for side in sides]
    if one.pair is None:
        return [*names, *[UNKNOWN] * 6, 'no common seed with results', UNKNOWN]
    needed, planned = one.seeds_needed, len({seed.seed for seed in one.variant.seeds})
    seeds = str(one.pair.seeds) if one.pair.seeds == planned else f'{one.pair.seeds} of {planned}'
    return [
        *names,
        points_text(one.pair.difference),
        ends_text(one.pair),
        seeds,
        f'{one.pair.images:,}' if one.pair.images else UNKNOWN,
        p_text(one.pair.p_value),
        p_text(one.adjusted),
        result_text(one.pair, one.adjusted),
        UNKNOWN if needed is None else f'{needed:,}',
    ]


def _caption(content: Content) -> str:
    pairs = [one.pair for one in content.comparison.differences if one.pair]
    tests = content.comparison.tests
    texts = [
        f'Each variant minus {baseline_text(content)} with the same other values, seed by seed.'
    ]
    if any(pair.seeds > 1 for pair in pairs):
        texts.append('p: exact sign-flip test over seeds.')
    if any(pair.seeds == 1 and pair.images for pair in pairs):
        texts.append(
            'With one seed, p and the interval are over images: another seed would give another '
            'difference.'
        )
    texts.append(
        f'Holm: adjusted for {tests} test{"s" * (tests != 1)}. A difference is '
        f'distinguishable if the adjusted p is below {LEVEL} and the interval excludes 0.'
    )
    texts.append(_images_text(pairs))
    texts.append(
        'Seeds for 1 point: needed to find a true difference of 1 point with a probability of 80 '
        '%, given how the differences vary over these seeds.'
    )
    return ' '.join(text for text in texts if text)


def _images_text(pairs: Sequence[PairedSeeds]) -> str:
    several = [pair for pair in pairs if pair.seeds > 1]
    if not several:
        return ''
    if all(pair.images for pair in several):
        return 'Intervals cover both seeds and images.'
    if not any(pair.images for pair in several):
        return 'Intervals cover seeds, not images: scores of single images are not comparable.'
    return 'Intervals cover both seeds and images, except in rows without a number of images.'


def _remarks(content: Content) -> list[str]:
    """Why no difference can be distinguished, and variants without a baseline."""
    comparison = content.comparison
    pairs = [one.pair for one in comparison.differences if one.pair]
    too_few = too_few_seeds_text(pairs, comparison.tests)
    texts = [too_few] if too_few else []
    if names := [content.names.title(one.settings) for one in comparison.unmatched]:
        more = f' and {len(names) - MOST_NAMED} more' if len(names) > MOST_NAMED else ''
        texts.append(
            'Not compared, because no single baseline has the same other values: '
            f'{"; ".join(names[:MOST_NAMED])}{more}.'
        )
    return texts


def _figure(content: Content) -> Figure:
    pairs = [(one, one.pair) for one in content.comparison.differences if one.pair]
    titles = {id(one): content.names.title(one.variant.settings) for one, _ in pairs}
    marks = [_mark(titles[id(one)], one, pair) for one, pair in pairs]
    return Figure(
        name='differences',
        title=f'Differences from {baseline_text(content)}.',
        alt='; '.join(f'{mark.name} {mark.text} points' for mark in marks[:10]) + '.',
        drawing=intervals.dots(
            content.grouped(
                [(one.variant, mark) for (one, _), mark in zip(pairs, marks, strict=True)]
            ),
            label='variant minus baseline, points',
            tick_text=lambda value: f'{100 * value:.3g}',
        ),
        columns=('variant', 'seeds', 'images', 'difference', 'low', 'high', 'p', 'p_holm'),
        rows=[
            (
                titles[id(one)],
                pair.seeds,
                pair.images,
                pair.difference,
                pair.low,
                pair.high,
                pair.p_value,
                one.adjusted,
            )
            for one, pair in pairs
        ],
        caption='Disc: mean. Line: 95 % interval. Rings: seeds. Green: distinguishable.',
    )


def _mark(title: str, one: Difference, pair: PairedSeeds) -> Interval:
    known = not math.isnan(pair.low)
    return Interval(
        name=title,
        value=pair.difference,
        low=pair.low if known else pair.difference,
        high=pair.high if known else pair.difference,
        text=points_text(pair.difference),
        color='accent' if one.distinguishable else 'quiet',
        points=pair.differences if pair.seeds > 1 else (),
    )
