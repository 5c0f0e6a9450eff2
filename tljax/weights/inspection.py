"""Shows what a file of weights is and where everything in it goes."""

from typing import Any

import rich.box
import rich.table

from tljax import tree
from tljax.models import port
from tljax.records import console
from tljax.weights import files, loading, translation, verify
from tljax.weights.pretrained import Opened, Pretrained
from tljax.weights.recognise import Recognised

print_ = console.console.print


def show(spec: str, *, with_activations: bool) -> int:
    """Prints what weights are.

    Args:
        spec: what a backbone's `weights` takes.
        with_activations: runs a few images through the network.

    Returns:
        The exit code: 1 where something is flawed.

    Raises:
        InputError: the weights cannot be read.
    """
    opened = loading.open_(spec)
    _print_fields(
        source=spec,
        file=str(opened.origin.path.absolute() if opened.origin.path else 'none'),
        format=f'{opened.origin.format}, {len(opened.entries):,} entries, '
        f'{console.bytes_text(files.size_bytes(opened.entries))}',
        sha256=opened.origin.sha256 or 'that of every file of the checkpoint was checked',
    )
    found = translation.recognised(opened)
    pretrained = translation.translate(opened, found, allow_nonfinite=True)
    _print_network(pretrained, found)
    for note in pretrained.assumed:
        print_(note, markup=False)
    _print_placements(opened, found)
    for note in pretrained.origin.notes:
        print_(note, markup=False)
    dropped = found.matched.dropped
    if dropped:
        print_(f'Dropped, as nothing here reads them ({len(dropped)}): {_few(dropped)}.')
    bad = verify.not_finite(pretrained.params, pretrained.stats)
    _print_checks(found, bad)
    if not with_activations:
        return 1 if bad else 0
    rows = verify.activations(pretrained, found.model)
    print_(_activations_table(rows))
    flaws = [f'{row.stage} ({row.flaw})' for row in rows if row.flaw]
    print_(f'Flawed: {", ".join(flaws)}.' if flaws else 'No stage is flawed.')
    return 1 if flaws or bad else 0


def _print_fields(**fields: str) -> None:
    for name, value in fields.items():
        print_(f'  {name:<15}{value}', soft_wrap=True, markup=False)


def _print_network(pretrained: Pretrained, found: Recognised) -> None:
    origin, shown = pretrained.origin, pretrained.preprocessing
    head = f'{found.num_classes} classes' if found.num_classes else 'none'
    if origin.class_names:
        head += f': {_few(origin.class_names)}'
    naming = 'our own paths' if found.naming == port.OWN else f'those of {found.naming}'
    stated = '' if origin.preprocessing_is_stated else " (the family's: the file does not say)"
    _print_fields(
        network=str(found.backbone),
        names=naming,
        parameters=f'{tree.count(pretrained.params):,}',
        head=head,
        preprocessing=f'{shown.size_px} px out of {shown.resize_px}, {shown.interpolation.value}, '
        f'mean {_numbers(shown.mean)}, std {_numbers(shown.std)}{stated}',
        licence=origin.licence or 'not known',
    )


def _print_placements(opened: Opened, found: Recognised) -> None:
    """Where every entry goes, a line each, never cut short: it is there to be searched."""
    rows = [('name', 'shape', 'leaf', 'shape here', 'layout')]
    for path, (rule, names) in found.matched.leaves.items():
        here = tree.shape_text(found.matched.leaf(path, opened.entries))
        rows += [
            (name, tree.shape_text(opened.entries[name]), path, here, rule.transform.says)
            for name in names[:1]
        ]
        rows += [
            (name, tree.shape_text(opened.entries[name]), '', '', 'joined to the one above')
            for name in names[1:]
        ]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    print_()
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_('  ' + ''.join(cells).rstrip(), soft_wrap=True, markup=False)
    print_()


def _print_checks(found: Recognised, bad: list[str]) -> None:
    count = len(found.matched.leaves)
    print_(
        f'Checked: each of the {count} leaves of this network is filled, once, in its shape; '
        'nothing in the file was executed;',
        'every value is finite.' if not bad else f'[bold red]not finite[/bold red]: {_few(bad)}.',
    )


def _activations_table(rows: list[verify.Activations]) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column('stage')
    table.add_column('output')
    for name in ('mean', 'std', 'largest', 'dead channels', ''):
        table.add_column(name, justify='right')
    for row in rows:
        values = (f'{row.mean:.3g}', f'{row.std:.3g}', f'{row.largest:.3g}')
        shape = ' × '.join(map(str, row.shape))
        style = 'bold red' if row.flaw else None
        table.add_row(
            row.stage, shape, *values, f'{100 * row.dead_share:.0f} %', row.flaw, style=style
        )
    return table


def _few(names: Any) -> str:
    names = list(names)
    more = f', … ({len(names) - 3} more)' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more


def _numbers(values: tuple[float, ...]) -> str:
    return ' '.join(f'{value:.4g}' for value in values)
