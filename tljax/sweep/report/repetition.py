"""Everything that is needed to repeat a sweep, and the cells that failed."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tljax.records.figures.axes import seconds_text
from tljax.records.pages.blocks import Block, Code, Facts, Listing, Row, Section, Table, Text
from tljax.sweep.folder import AxisRecord
from tljax.sweep.report.content import Content
from tljax.sweep.results import Status

UNKNOWN = 'not recorded'
MOST_FAILURES = 50
MOST_VALUES = 12  # of an axis
ERROR_LENGTH = 300  # letters


def section(content: Content) -> Section:
    """The command, the config, versions, hardware and revisions."""
    record = content.results.record
    done = [cell.result for cell in content.results.cells if cell.status is Status.DONE]
    seconds = sum(cell.number('wall_seconds') or 0.0 for cell in content.results.cells)
    facts = [
        ('versions', distinct(_versions_text(one) for one in done)),
        ('hardware', distinct(_device_text(one) for one in done)),
        ('revision', distinct(str(one.get('git_revision') or UNKNOWN) for one in done)),
        ('time of all cells', seconds_text(seconds)),
    ]
    if weights := _weights(done):
        facts.append(('weights', weights))
    blocks: list[Block] = [
        Code(record.command),
        Listing([_axis_text(axis) for axis in record.axes]),
        Facts(facts),
        Code(json.dumps(record.config, indent=2, ensure_ascii=False), 'The config of the sweep'),
        Text('The config of each cell is in the folder configs/. To repeat one cell alone:'),
        Code(f'tljax train --config={_quoted(content)}/configs/CELL.json --workdir=NEW_FOLDER'),
    ]
    return Section(title='To repeat it', blocks=blocks)


def _axis_text(axis: AxisRecord) -> str:
    """`per_class, compared: 5, 20, 100`."""
    names = [value.name for value in axis.values[:MOST_VALUES]]
    more = len(axis.values) - len(names)
    return f'{axis.name}, {axis.role.value}: {", ".join(names)}{f" and {more} more" * bool(more)}'


def _quoted(content: Content) -> str:
    return shlex.quote(str(content.folder.path))


def distinct(texts) -> str:
    """The different texts, the most frequent first; several have the number of their cells."""
    counts = Counter(texts).most_common()
    if not counts:
        return UNKNOWN
    if len(counts) == 1:
        return counts[0][0]
    return '; '.join(f'{text} ({count} cells)' for text, count in counts)


def _versions_text(result: Mapping[str, Any]) -> str:
    versions = result.get('versions')
    if not isinstance(versions, Mapping):
        return UNKNOWN
    return ', '.join(f'{name} {version}' for name, version in versions.items())


def _device_text(result: Mapping[str, Any]) -> str:
    device = result.get('device')
    if not isinstance(device, Mapping):
        return UNKNOWN
    return f'{result.get("device_count", "?")} × {device.get("kind")} ({device.get("platform")})'


def _weights(results: list[Mapping[str, Any]]) -> str:
    """Where the starting weights came from."""
    records = [one['weights'] for one in results if isinstance(one.get('weights'), Mapping)]
    if not records:
        return ''
    return distinct(str(r.get('source') or r.get('sha256') or UNKNOWN) for r in records)


def failures(content: Content) -> Section | None:
    """The cells that failed with their errors; None without such a cell."""
    failed = [cell for cell in content.results.cells if cell.status is Status.FAILED]
    if not failed:
        return None
    rows = []
    for cell in failed[:MOST_FAILURES]:
        attempts = cell.failure.attempts if cell.failure else 1
        error = ' '.join(cell.error.split())
        error = error if len(error) <= ERROR_LENGTH else f'{error[:ERROR_LENGTH]}…'
        rows.append(Row(cells=[cell.record.name, cell.record.title, error, str(attempts)]))
    more = len(failed) - len(rows)
    table = Table(
        name='Failed cells',
        columns=('cell', 'settings', 'error', 'attempts'),
        rows=rows,
        texts=(1, 2),
        caption='tljax sweep --retry runs them again. What a cell printed is in output.txt in its '
        f'folder.{f" {more} more failed cells are in cells.csv." if more else ""}',
    )
    return Section(title='Failed cells', blocks=[table])
