"""Cost beside accuracy, with the Pareto front."""

import dataclasses
from collections.abc import Callable, Sequence

from tljax.records.figures import axes, colors, costs
from tljax.records.figures.costs import Point
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Figures, Row, Section, Table
from tljax.records.pages.score_texts import percent
from tljax.sweep.report.content import Content
from tljax.sweep.report.summaries import Summary, mean, partial_text, score_text
from tljax.sweep.results import CellResult, Status

UNKNOWN = '–'
MOST_NAMED = 16  # points; of more, only those on the front have names


@dataclasses.dataclass(frozen=True)
class Cost:
    """A kind of cost.

    Attributes:
        field: of result.json.
        column: its name in the table.
        label: of the axis of its figure.
        text: writes a value.
    """

    field: str
    column: str
    label: str
    text: Callable[[float], str]


def _flops_text(value: float) -> str:
    return f'{value:.2e}'


def _time_text(seconds: float) -> str:
    """`100 s`, `12 min`."""
    return f'{seconds:.0f} s' if 10 <= seconds < 600 else axes.seconds_text(seconds)


KINDS = (
    Cost('steps', 'steps', 'training steps', axes.number_text),
    Cost('flops', 'FLOPs', 'floating-point operations of the training', _flops_text),
    Cost('wall_seconds', 'time', 'time of the run', _time_text),
)


def section(content: Content) -> Section | None:
    """The table and a figure for each cost that differs between variants; None without results."""
    if not content.known:
        return None
    figures = [_figure(content, kind) for kind in KINDS if _differs(content, kind)]
    return Section(title='Cost', blocks=[Figures(figures), _table(content)])


def cost_of(one: Summary, kind: Cost) -> float | None:
    """The mean cost of the chosen cells of a variant."""
    values = [cell.number(kind.field) for cell in one.variant.chosen]
    return mean([value for value in values if value is not None])


def _differs(content: Content, kind: Cost) -> bool:
    values = {cost_of(one, kind) for one in content.known} - {None, 0.0}
    return len(values) > 1


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """The indices of points that no cheaper or equally cheap one exceeds, by ascending cost."""
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i])):
        if not front or scores[index] > scores[front[-1]]:
            front.append(index)
    return front


def _front(content: Content, kind: Cost) -> list[Summary]:
    known = [(one, cost_of(one, kind)) for one in content.known]
    pairs = [(one, cost) for one, cost in known if cost]
    front = pareto_front([cost for _, cost in pairs], [one.mean or 0.0 for one, _ in pairs])
    return [pairs[index][0] for index in front]


def _figure(content: Content, kind: Cost) -> Figure:
    front = [id(one) for one in _front(content, kind)]
    shown = [(one, cost) for one in content.known if (cost := cost_of(one, kind))]
    points = [_point(content, one, cost, id(one) in front, len(shown)) for one, cost in shown]
    order = [[id(one) for one, _ in shown].index(one) for one in front]
    names = ', '.join(shown[index][0].title for index in order[:10])
    return Figure(
        name=f'cost-{kind.column.lower()}',
        title=f'{score_text(content.results).capitalize()} against {kind.label}.',
        alt=f'On the Pareto front: {names}.',
        drawing=costs.costs(
            points, label=kind.label, text=kind.text, front=order, legend=_legend(content)
        ),
        columns=('variant', kind.field, 'mean', 'low', 'high', 'on_front'),
        rows=[(one.title, cost, one.mean, *one.ends, int(id(one) in front)) for one, cost in shown],
        caption='Mean over seeds with 95 % t intervals. Filled: the Pareto front; no other '
        'variant has a higher mean at the same or a lower cost.'
        + partial_text([one for one, _ in shown]),
        wide=True,
    )


def _point(content: Content, one: Summary, cost: float, on_front: bool, count: int) -> Point:
    """The point of a variant; its color is that of its value on the first axis."""
    firsts = [name for name, _ in _legend(content)]
    color = colors.series(firsts.index(content.first_value(one.variant))) if firsts else 'accent'
    name = content.other_values(one.variant) if firsts else one.title
    return Point(
        name=name if count <= MOST_NAMED or on_front else '',
        cost=cost,
        accuracy=one.mean or 0.0,
        interval=one.ends,
        color=color,
        hollow=not on_front,
    )


def _legend(content: Content) -> list[tuple[str, str]]:
    """The values of the first axis with their colors; empty with fewer than two axes."""
    if len(content.names.axes) < 2:
        return []
    names = dict.fromkeys(content.first_value(one.variant) for one in content.known)
    return [(name, colors.series(index)) for index, name in enumerate(names)]


def _table(content: Content) -> Table:
    kinds = [kind for kind in KINDS if any(cost_of(one, kind) is not None for one in content.known)]
    fronts = {
        kind.field: {id(one) for one in _front(content, kind)}
        for kind in kinds
        if _differs(content, kind)
    }
    tuned = ['time with tuning'] if content.results.tuned else []
    return Table(
        name='Cost by variant',
        columns=[
            'variant',
            f'{score_text(content.results)}, %',
            'seeds',
            'trained parameters',
            *(kind.column for kind in kinds),
            *tuned,
            'Pareto front',
        ],
        rows=[Row(cells=_cells(content, one, kinds, fronts)) for one in content.known],
        texts=(4 + len(kinds) + len(tuned),),
        caption=_caption(content, bool(tuned)),
    )


def _cells(
    content: Content, one: Summary, kinds: Sequence[Cost], fronts: dict[str, set[int]]
) -> list[str]:
    counts = [cell.number('trained_parameters') for cell in one.variant.chosen]
    texts = [f'{int(n):,}' for n in sorted({n for n in counts if n is not None})]
    values = [cost_of(one, kind) for kind in kinds]
    on = [kind.column for kind in kinds if id(one) in fronts.get(kind.field, ())]
    return [
        one.title,
        percent(one.mean),
        one.variant.seeds_text(content.results.split or ''),
        f'{texts[0]} to {texts[-1]}' if len(texts) > 1 else ''.join(texts) or UNKNOWN,
        *(
            UNKNOWN if value is None else kind.text(value)
            for kind, value in zip(kinds, values, strict=True)
        ),
        *([axes.seconds_text(_seconds_tried(one))] if content.results.tuned else []),
        ', '.join(on),
    ]


def _seconds_tried(one: Summary) -> float:
    """The mean over seeds of the time of all configurations."""
    totals = [sum(map(_seconds, seed.tried)) for seed in one.variant.seeds if seed.tried]
    return mean(totals) or 0.0


def _seconds(cell: CellResult) -> float:
    return cell.number('wall_seconds') or 0.0


def _caption(content: Content, tuned: bool) -> str:
    texts = ['Means over seeds of the chosen cells.']
    if tuned:
        texts.append('Time with tuning: of all configurations that were tried for a seed.')
    done = [cell.result for cell in content.results.cells if cell.status is Status.DONE]
    if len({str(result.get('device')) for result in done}) > 1:
        texts.append('Cells ran on several kinds of devices, so their times are not comparable.')
    return ' '.join(texts)
