"""Prints the network of a file of weights, and the path of every entry."""

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
UNVERIFIED = 'not verified: neither this format nor anything beside the file has a checksum'


def show(spec: str, *, with_activations: bool) -> int:
    """Prints the origin, network, entries and checks of weights.

    Args:
        spec: as for a backbone's `weights`.
        with_activations: whether to check the output of every stage for a few images.

    Returns:
        The exit code: 1 if a check fails.

    Raises:
        InputError: the weights cannot be read.
    """
    opened = loading.open_(spec)
    checked = verify.checked_by(opened.origin)
    _print_fields(
        source=spec,
        file=str(opened.origin.path.absolute() if opened.origin.path else 'none'),
        format=f'{opened.origin.format}, {len(opened.entries):,} entries, '
        f'{console.bytes_text(files.size_bytes(opened.entries))}',
        sha256=opened.origin.sha256 or 'none',
        values=f'verified by {checked}' if checked else UNVERIFIED,
    )
    network = translation.recognised(opened)
    pretrained = translation.translate(opened, network, allow_nonfinite=True)
    _print_network(pretrained, network)
    for note in pretrained.assumed:
        print_(note, markup=False)
    _print_placements(opened, network)
    for note in pretrained.origin.notes:
        print_(note, markup=False)
    dropped = network.matched.dropped
    if dropped:
        print_(f'Dropped because tljax does not use them ({len(dropped)}): {_few(dropped)}.')
    bad = verify.not_finite(pretrained.params, pretrained.stats)
    _print_checks(network, bad)
    if not with_activations:
        return 1 if bad else 0
    rows = verify.activations(pretrained, network.model)
    print_(_activations_table(rows))
    flaws = [f'{row.stage} ({row.flaw})' for row in rows if row.flaw]
    print_(f'Flawed: {", ".join(flaws)}.' if flaws else 'No stage is flawed.')
    return 1 if flaws or bad else 0


def _print_fields(**fields: str) -> None:
    for name, value in fields.items():
        print_(f'  {name:<15}{value}', soft_wrap=True, markup=False)


def _print_network(pretrained: Pretrained, network: Recognised) -> None:
    origin, image = pretrained.origin, pretrained.preprocessing
    task = origin.task
    head = task.counted(task.count(network.num_classes)) if network.num_classes else 'none'
    if origin.class_names:
        head += f': {_few(origin.class_names)}'
    naming = 'paths of tljax' if network.naming == port.OWN else f'those of {network.naming}'
    stated = (
        '' if origin.preprocessing_is_stated else " (the family's, because the file states none)"
    )
    _print_fields(
        network=str(network.backbone),
        names=naming,
        parameters=f'{tree.count(pretrained.params):,}',
        head=head,
        preprocessing=f'{image.size_px} px out of {image.resize_px}, {image.interpolation.value}, '
        f'mean {_numbers(image.mean)}, std {_numbers(image.std)}{stated}',
        licence=origin.licence or 'unknown',
    )


def _print_placements(opened: Opened, network: Recognised) -> None:
    """Prints a line with every entry and its path; lines are not cut, so they can be searched."""
    rows = [('name', 'shape', 'leaf', 'its shape', 'layout')]
    for path, (rule, names) in network.matched.leaves.items():
        here = tree.shape_text(network.matched.leaf(path, opened.entries))
        rows += [
            (name, tree.shape_text(opened.entries[name]), path, here, rule.transform.says)
            for name in names[:1]
        ]
        rows += [
            (name, tree.shape_text(opened.entries[name]), '', '', 'joined to the entry above')
            for name in names[1:]
        ]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    print_()
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_('  ' + ''.join(cells).rstrip(), soft_wrap=True, markup=False)
    print_()


def _print_checks(network: Recognised, bad: list[str]) -> None:
    count = len(network.matched.leaves)
    print_(
        f'Checked: each of the {count} leaves of this network is filled once, in its shape; '
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
