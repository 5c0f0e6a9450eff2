"""Prints the resolved experiment: every field, its value, what set it, and its default.

tljax config --config=quickstart --config.seed=1
tljax config --config=runs/quickstart/config.json --json

--config=NAME_OR_FILE[:ARGUMENT]   as for tljax train, with --config.FIELD=VALUE
--json                      prints JSON instead of a table

A field is set by the command line, by the config, or by its default. A value in the config that
equals the default counts as the default. Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit, overrides
from tljax.config.value_text import value_text

# Widths of the columns in characters; with the gaps between columns they fill 100.
WIDTHS = {'field': 22, 'value': 16, 'set by': 12, 'default': 10, 'what it does': 26}


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('config', __doc__, fields=True)
    result.switch('--json')
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    experiment, name = config_files.load(arguments.config)
    overrides.apply(experiment, arguments.config.overrides)
    from tljax.config import resolved, validation

    validation.validate(experiment)
    rows = resolved.rows(experiment, [one.field for one in arguments.config.overrides])
    if arguments.json:
        print(json.dumps({'name': name, 'fields': [row.record() for row in rows]}, indent=2))
    else:
        _print(rows)


def _print(rows) -> None:
    """Prints a table of 100 characters' width."""
    import rich.box
    import rich.markup
    import rich.table

    from tljax.config import resolved
    from tljax.records import console

    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for title, width in WIDTHS.items():
        table.add_column(title, width=width, overflow='fold')
    for row in rows:
        style = 'dim' if row.set_by == resolved.DEFAULT else None
        default = '' if row.set_by == resolved.DEFAULT else _short(row.default)
        cells = (_indented(row.path), _short(row.value), row.set_by, default, row.text)
        table.add_row(*map(rich.markup.escape, cells), style=style)
    console.console.print(table)


def _indented(path: str) -> str:
    """`  .stage` for `strategy.stage`: its row follows that of the strategy."""
    depth = path.count('.')
    start = path.rfind('.')
    if depth and path[:start].endswith(']'):
        start = path.rfind('[', 0, start)
    return '  ' * depth + (path[start:] if depth else path)


def _short(value) -> str:
    """A value as text; an object as its class alone, because the rows of its fields follow."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__
    if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        return f'({", ".join(map(_short, value))})'
    return value_text(value)
