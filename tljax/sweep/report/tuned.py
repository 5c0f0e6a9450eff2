"""Tuned axes: what was chosen, how the score depends on the budget, and the optimistic figure."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tljax.metrics import tuning_budget
from tljax.metrics.tuning_budget import Curve as BudgetCurve
from tljax.records.figures import colors, curves
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Block, Figures, Row, Section, Table, Text
from tljax.records.pages.score_texts import percent
from tljax.sweep.folder import AxisRecord
from tljax.sweep.report import search
from tljax.sweep.report.axis_figures import numbers_of
from tljax.sweep.report.content import Content
from tljax.sweep.report.summaries import Summary, mean, split_text
from tljax.sweep.results import TEST, VALIDATION, Settings, settings_of
from tljax.sweep.space import Role

MOST_CURVES = 6


def section(content: Content) -> Section | None:
    """The table and figures; None if nothing was tuned."""
    if not content.results.tuned or not content.known:
        return None
    blocks: list[Block] = [_table(content)]
    blocks += [Text(text) for text in _edges(content)]
    figures = _budget_figures(content)
    figures += [figure for figure in [search.figure(content)] if figure is not None]
    return Section(title='Tuning', blocks=[*blocks, Figures(figures)] if figures else blocks)


def _table(content: Content) -> Table:
    has_test = content.results.split == TEST
    test = ['test of the chosen, %', 'best on test, % (optimistic)'] if has_test else []
    return Table(
        name='Chosen configurations',
        columns=[
            'variant',
            'seeds',
            'configurations',
            _chosen_column(content),
            'validation, %',
            *test,
        ],
        rows=[Row(cells=_cells(content, one)) for one in content.known],
        texts=(3,),
        caption='Chosen by the validation split, for each seed. '
        + (
            'Best on test: the mean over seeds of the highest test score of all configurations. It '
            'is chosen on the test images, so no network can be expected to reach it on new '
            'images; it is shown to judge the choice and is not a result.'
            if has_test
            else ''
        ),
    )


def _cells(content: Content, one: Summary) -> list[str]:
    seeds = one.variant.seeds_text(content.results.split or VALIDATION)
    cells = [one.title, seeds, one.variant.budget_text(), _choices_text(content, one)]
    cells.append(percent(one.validation))
    if content.results.split == TEST:
        cells += [percent(one.mean), percent(best_on_test(one))]
    return cells


def best_on_test(one: Summary) -> float | None:
    """The mean over seeds of the highest test score of any configuration: an optimistic figure."""
    tests = [[cell.score(TEST) for cell in seed.tried] for seed in one.variant.seeds]
    known = [[score for score in scores if score is not None] for scores in tests]
    return mean([max(scores) for scores in known if scores])


def _tuned_axes(content: Content) -> list[AxisRecord]:
    return [axis for axis in content.results.axes(Role.TUNED) if len(axis.values) > 1]


def _chosen_column(content: Content) -> str:
    axes = _tuned_axes(content)
    name = content.names.labels[axes[0].name] if len(axes) == 1 else 'configuration'
    return f'chosen {name} (seeds)'


def _configuration(content: Content, settings: Settings) -> str:
    labels = content.names.labels
    if len(_tuned_axes(content)) == 1:
        return ''.join(settings.values())
    return ', '.join(f'{labels[axis]}={value}' for axis, value in settings.items())


def _choices_text(content: Content, one: Summary) -> str:
    """`0.03 (3); 0.1 (2)`."""
    axes = _tuned_axes(content)
    chosen = [_configuration(content, settings_of(cell, axes)) for cell in one.variant.chosen]
    counts = Counter(chosen).most_common()
    texts = [f'{text or "the only one"} ({count})' for text, count in counts]
    more = [f'{len(texts) - 3} more'] if len(texts) > 4 else []
    return '; '.join(texts[:3] + more if more else texts)


def _edges(content: Content) -> list[str]:
    """A sentence for each numeric tuned axis whose largest or smallest value is chosen often."""
    sentences = []
    chosen = [cell for one in content.known for cell in one.variant.chosen]
    for axis in content.results.axes(Role.TUNED):
        numbers = numbers_of(axis)
        values = [numbers.get(cell.record.settings.get(axis.name, '')) for cell in chosen]
        known = [value for value in values if value is not None]
        if len(numbers) < 3 or not known:
            continue
        ends = {'smallest': min(numbers.values()), 'largest': max(numbers.values())}
        sentences += [
            f'The {word} value of {content.names.labels[axis.name]}, {end:g}, was chosen in '
            f'{known.count(end)} of {len(known)} cases. A wider range may be better.'
            for word, end in ends.items()
            if known.count(end) > len(known) / 2
        ]
    return sentences


def expected(one: Summary, *, with_test: bool) -> BudgetCurve | None:
    """The expected scores by budget, averaged over the seeds whose configurations are all done.

    Args:
        one: the variant.
        with_test: whether test scores are needed.
    """
    results = []
    for seed in one.variant.seeds:
        validation = [cell.score(VALIDATION) for cell in seed.cells]
        test = [cell.score(TEST) for cell in seed.cells] if with_test else None
        if len(seed.cells) > 1 and None not in validation and None not in (test or []):
            values = np.array(validation, float)
            results.append(
                tuning_budget.expected_best(values, None if test is None else np.array(test, float))
            )
    lengths = {len(curve.budget) for curve in results}
    if len(lengths) != 1:
        return None
    tests = [curve.test for curve in results if curve.test is not None]
    return BudgetCurve(
        results[0].budget,
        np.mean([curve.validation for curve in results], axis=0),
        np.mean([curve.deviation for curve in results], axis=0),
        np.mean(tests, axis=0) if tests else None,
    )


def _budget_figures(content: Content) -> list[Figure]:
    has_test = content.results.split == TEST
    known = [(one, expected(one, with_test=has_test)) for one in content.known]
    pairs = [(one, curve) for one, curve in known if curve is not None]
    if not pairs:
        return []
    pairs = sorted(pairs, key=lambda pair: -(pair[0].mean or 0.0))
    figures = [_budget_figure(pairs, VALIDATION)]
    return [*figures, _budget_figure(pairs, TEST)] if has_test else figures


def _budget_figure(pairs: Sequence[tuple[Summary, BudgetCurve]], split: str) -> Figure:
    name = split_text(split)

    def values(curve: BudgetCurve) -> list[float]:
        chosen = curve.test if split == TEST else curve.validation
        return [] if chosen is None else chosen.tolist()

    shown = pairs[:MOST_CURVES]
    lines = [
        Curve(
            name=one.title,
            xs=curve.budget.tolist(),
            ys=values(curve),
            color=colors.series(index),
            dots=len(curve.budget) <= 12,
        )
        for index, (one, curve) in enumerate(shown)
    ]
    most = f' The {MOST_CURVES} best of {len(pairs)} variants.' if len(shown) < len(pairs) else ''
    best = 'highest' if split == VALIDATION else 'chosen'
    return Figure(
        name=f'budget-{name}',
        title=f'Expected {name} score by budget.',
        alt='; '.join(map(_alt, lines)) + '.',
        drawing=curves.chart(
            lines,
            x_label='configurations tried',
            percent=True,
            x_ticks=_budget_ticks(max(len(line.xs) for line in lines)),
        ),
        columns=('variant', 'configurations', f'expected_{name}', 'deviation_of_validation'),
        rows=[
            (one.title, int(k), score, float(deviation))
            for one, curve in pairs
            for k, score, deviation in zip(
                curve.budget, values(curve), curve.deviation, strict=True
            )
        ],
        caption=f'The {name} score of the {best} of k random configurations, in expectation over '
        'the configurations that were run (Dodge et al. 2019), mean over the seeds whose '
        f'configurations are all done.{most}',
    )


def _alt(line: Curve) -> str:
    first, last = percent(line.ys[0]), percent(line.ys[-1])
    return f'{line.name}: {first} % with one configuration, {last} % with {len(line.xs)}'


def _budget_ticks(count: int) -> list[float]:
    step = math.ceil(count / 10)
    return [1.0, *(float(k) for k in range(step, count + 1, step) if k > 1)]
