"""The section on where the time of a run went."""

from collections.abc import Mapping
from typing import Any

from tljax.records.figures import intervals
from tljax.records.figures.axes import seconds_text, share_text
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Section, Text
from tljax.training.report.inputs import Inputs, MissingError
from tljax.training.wall_time import STAGES


def section(inputs: Inputs) -> Section:
    """A bar for each stage of the run, and its restarts.

    Raises:
        MissingError: the run is of a version that did not record its stages, or it was trained in
            one program with others.
    """
    result = inputs.run.result
    if 'shared' in result:
        raise MissingError('The head was trained in one program with those of other runs.')
    record = result.get('wall_time')
    if not record:
        raise MissingError(
            'result.json has no wall_time: the run is of a version of tljax that did not record it.'
        )
    seconds = record['seconds']
    blocks: list[Block] = [_restarts(record), Figures([_figure(seconds)])]
    if seconds.get('unrecorded'):
        blocks.append(
            Text('A part of the run is of a version of tljax that did not record it.', 'missing')
        )
    return Section(title='Where the time went', blocks=blocks)


def _restarts(record: Mapping[str, Any]) -> Text:
    if not record['restarts']:
        return Text('One process trained the run, without a restart.')
    times = 'once' if record['restarts'] == 1 else f'{record["restarts"]} times'
    stopped = seconds_text(record['stopped_seconds'])
    return Text(
        f'The run was restarted {times}. In between, no process ran for {stopped}, which is not '
        'part of its time.'
    )


def _figure(seconds: dict[str, float]) -> Figure:
    total = sum(seconds.values()) or 1.0
    marks = [
        Interval(
            name=name,
            value=seconds[name],
            text=f'{seconds_text(seconds[name])}, {share_text(seconds[name] / total, 1)}',
            color='accent' if name == 'step' else 'quiet',
        )
        for name in STAGES
        if name in seconds
    ]
    most = max(seconds, key=lambda name: seconds[name])
    return Figure(
        name='wall-time',
        title=f'Time of the run: {seconds_text(total)}.',
        alt=f'Most of the time is {STAGES[most]}: {share_text(seconds[most] / total, 1)}.',
        drawing=intervals.bars(marks),
        columns=('stage', 'seconds'),
        rows=[(STAGES[name], seconds[name]) for name in STAGES if name in seconds],
        caption=' '.join(f'{name}: {STAGES[name]}.' for name in STAGES if name in seconds),
    )
