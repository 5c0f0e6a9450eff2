"""Prints the ranges of the values of a step, and where the first one that is not finite arises."""

from collections.abc import Sequence

import rich.box
import rich.table

from tljax.records import console
from tljax.training.nonfinite import ids_text
from tljax.training.step_trace import OUTPUT, ValueRange

MOST_LEAVES = 12  # of a kind, unless their values are not finite


def announce(number: int, ids: Sequence[int], ranges: Sequence[ValueRange]) -> None:
    """Prints the images of a step, the table of its values, and the first bad one.

    Args:
        number: the step.
        ids: of its images, by row.
        ranges: of its values, in their order.
    """
    console.console.print(f'Images: ids {ids_text(list(ids), len(ids))}', soft_wrap=True)
    console.console.print(_table(ranges))
    console.console.print(_verdict(number, ids, ranges), soft_wrap=True, markup=False)


def _verdict(number: int, ids: Sequence[int], ranges: Sequence[ValueRange]) -> str:
    first = next((one for one in ranges if one.bad), None)
    if first is None:
        return f'Every value of step {number} is finite.'
    place = f'{first.kind} {first.name}'.strip()
    text = f'The first value that is not finite: {place}, {first.bad} of {first.count} values'
    if not first.rows:
        return f'{text}.'
    images = sorted({ids[row] for row in first.rows})
    return f'{text}, of the images with the ids {ids_text(images)}.'


def shown(ranges: Sequence[ValueRange]) -> list[ValueRange]:
    """The rows of the table: whole stages, the layers of the first bad one, and leaves.

    Of many leaves, only those that are not finite are shown, and one row stands for the others.
    """
    rows: list[ValueRange] = []
    bad_stage = next((one.kind for one in ranges if one.bad), None)
    for kind in dict.fromkeys(one.kind for one in ranges):
        members = [one for one in ranges if one.kind == kind]
        if any(one.name == OUTPUT for one in members):  # the images, or a stage
            rows += [one for one in members if one.name == OUTPUT or _is_bad(one, bad_stage)]
        elif len(members) <= MOST_LEAVES:
            rows += members
        else:
            bad = [one for one in members if one.bad][:MOST_LEAVES]
            rows += [*bad, _together(kind, [one for one in members if one not in bad])]
    return rows


def _is_bad(one: ValueRange, kind: str | None) -> bool:
    return bool(one.bad) and one.kind == kind


def _together(kind: str, members: Sequence[ValueRange]) -> ValueRange:
    """One range for several."""
    return ValueRange(
        kind=kind,
        name=f'{len(members)} others' if members else 'no others',
        low=min((one.low for one in members if one.low is not None), default=None),
        high=max((one.high for one in members if one.high is not None), default=None),
        count=sum(one.count for one in members),
        bad=sum(one.bad for one in members),
    )


def _table(ranges: Sequence[ValueRange]) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column('value')
    table.add_column('layer or leaf')
    for name in ('smallest', 'largest', 'values', 'not finite'):
        table.add_column(name, justify='right')
    for one in shown(ranges):
        ends = ['' if end is None else f'{end:.3g}' for end in (one.low, one.high)]
        style = 'bold' if one.bad else None
        table.add_row(one.kind, one.name, *ends, f'{one.count:,}', f'{one.bad:,}', style=style)
    return table
