"""The main table: the mean of each variant with its interval, and the figure of its seeds."""

from collections.abc import Sequence

from tljax.metrics.seed_intervals import BCA_LEAST
from tljax.records.figures import intervals
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Row, Section, Table, Text
from tljax.records.pages.score_texts import interval_text, percent
from tljax.sweep.report.content import Content
from tljax.sweep.report.summaries import Summary, score_text, split_text
from tljax.sweep.results import TEST, Status

HOLES = [status for status in Status if status not in (Status.DONE, Status.PRUNED)]
MOST_ROWS = 60  # of the figure


def section(content: Content) -> Section:
    """The table and the figure."""
    if not content.known:
        text = 'No cell has a score yet.'
        return Section(title='Results', blocks=[Text(text, 'missing'), table(content)])
    blocks: list[Block] = [table(content), Figures([_figure(content)])]
    return Section(title='Results', blocks=[*_warnings(content), *blocks])


def _warnings(content: Content) -> list[Text]:
    """Why the numbers are not final, or optimistic."""
    texts = [holes_text(content)] if holes_text(content) else []
    if content.results.split != TEST:
        texts.append(
            'There is no test split. The scores are those of the validation split, which selected '
            'the checkpoint and the tuned values, so they are optimistic.'
        )
    return [Text(text, 'missing') for text in texts]


def holes_text(content: Content) -> str:
    """A sentence on the cells without a result; empty without holes."""
    counts = {s: content.results.count(s) for s in HOLES}
    parts = [f'{count} {status.value}' for status, count in counts.items() if count]
    if not parts:
        return ''
    text = (
        f'This table has holes: of {len(content.results.cells)} cells, {", ".join(parts)}. '
        'A mean over fewer seeds than planned says so in its row.'
    )
    if content.results.tuned:
        text += ' Where configurations are missing, the choice among the others is provisional.'
    return text


def table(content: Content) -> Table:
    """The main table; the page, Markdown and LaTeX show the same one."""
    extra = _extra_columns(content)
    return Table(
        name='Results by variant',
        columns=[
            *(_axis_columns(content)),
            f'{score_text(content.results)}, %',
            '95 % interval',
            'deviation',
            'seeds',
            *extra,
        ],
        rows=[Row(cells=_cells(content, one)) for one in content.summaries],
        texts=range(1, len(content.names.axes)),
        caption=_caption(content),
    )


def _axis_columns(content: Content) -> list[str]:
    return [content.names.labels[axis.name] for axis in content.names.axes] or ['cells']


def _extra_columns(content: Content) -> list[str]:
    columns = ['BCa interval'] if any(one.bca for one in content.summaries) else []
    if content.results.split == TEST:
        columns.append('validation, %')
    return columns + ['configurations'] * content.results.tuned


def _cells(content: Content, one: Summary) -> list[str]:
    deviation = None if one.interval is None else one.interval.standard_deviation
    extra = {
        'BCa interval': interval_text(one.bca),
        'validation, %': percent(one.validation),
        'configurations': one.variant.budget_text(),
    }
    return [
        *(content.names.cells(one.variant.settings) or ['all']),
        percent(one.mean),
        interval_text(one.interval),
        percent(deviation),
        one.variant.seeds_text(content.results.split or TEST),
        *(extra[column] for column in _extra_columns(content)),
    ]


def _caption(content: Content) -> str:
    texts = [
        "Mean over seeds with Student's t interval. Deviation: the standard deviation over seeds."
    ]
    if any(one.bca for one in content.summaries):
        texts.append(f'BCa: the bootstrap interval, from {BCA_LEAST} seeds.')
    if content.results.tuned:
        texts.append(
            'Configurations: tried for each seed. The one with the highest validation score was '
            'chosen for each row and seed; the test split had no part in it.'
        )
    if content.results.split == TEST and not content.results.tuned:
        texts.append('Validation selected the checkpoint, so its score is optimistic.')
    return ' '.join(texts)


def _figure(content: Content) -> Figure:
    shown = content.known
    if len(shown) > MOST_ROWS:
        shown = sorted(shown, key=lambda one: -(one.mean or 0.0))[:MOST_ROWS]
    caption = 'Disc: mean. Line: 95 % t interval. Rings: seeds.'
    if len(shown) < len(content.known):
        caption += f' The {MOST_ROWS} highest means of {len(content.known)}.'
    return Figure(
        name='results',
        title=f'{score_text(content.results).capitalize()} of each variant.',
        alt='; '.join(f'{one.title} {percent(one.mean)} %' for one in shown[:10]) + '.',
        drawing=intervals.dots(
            content.grouped([(one.variant, _mark(one)) for one in shown]),
            label=score_text(content.results),
        ),
        columns=('variant', 'seed', split_text(content.results.split)),
        rows=[(one.title, *pair) for one in shown for pair in _points(one)],
        caption=caption,
    )


def _mark(one: Summary) -> Interval:
    low, high = one.ends
    text = f'{percent(one.mean)} %'
    if one.partial:
        text += f' ({len(one.scores)} of {len(one.variant.seeds)})'
    return Interval(
        name=one.title,
        value=one.mean,
        low=low,
        high=high,
        text=text,
        color='quiet' if one.partial else 'accent',
        points=list(one.scores.values()),
    )


def _points(one: Summary) -> Sequence[tuple[str, float]]:
    """The mean, the ends of its interval, and the score of each seed."""
    low, high = one.ends
    return [('mean', one.mean or 0.0), ('low', low), ('high', high), *one.scores.items()]
