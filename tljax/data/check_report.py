"""What the check of a data set prints: counts, bad files, duplicates."""

import collections
import pathlib
import sys
from collections.abc import Sequence

from tljax.data import check, folder, manifest
from tljax.data.check import CheckedImage
from tljax.data.files import FolderError, Listed

SHOWN = 100  # lines of one kind
TOTAL = 'total'


def run(path: pathlib.Path, sheet: pathlib.Path | None, least_px: int) -> bool:
    """Checks a data set, prints what is wrong, and draws its contact sheet.

    Args:
        path: a folder of images, or a list of them.
        sheet: where the contact sheet goes; None for `NAME_sheet.png` in the current folder.
        least_px: of each side of an image.

    Returns:
        Whether nothing is wrong.

    Raises:
        FolderError: there is no data set, or the sheet would be written into it.
    """
    sheet = sheet or pathlib.Path(f'{path.resolve().stem}_sheet.png')
    if path.is_dir() and sheet.resolve().is_relative_to(path.resolve()):
        raise FolderError(f'{sheet} would be written into {path}: name another place with --out')
    listed, class_names, notes = _listing(path)
    seen = _look(listed, least_px)
    fine = report(seen, class_names, list(listed), notes)
    check.contact_sheet(seen, class_names).save(sheet)
    print(f'\nContact sheet: {sheet}')
    return fine


def _listing(path: pathlib.Path) -> tuple[dict[str, list[Listed]], list[str], list[str]]:
    if path.is_dir() or not path.exists():
        return folder.listing(str(path))
    return manifest.listing(str(path))


def _look(listed: dict[str, list[Listed]], least_px: int) -> list[CheckedImage]:
    total = sum(map(len, listed.values()))
    seen = []
    for one in check.look_closely(listed, least_px):
        seen.append(one)
        if sys.stderr.isatty():
            print(f'\r{len(seen)} of {total} files', end='', file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return seen


NOTES_ABOVE = 'The files that are used are sound; what was assumed or passed over is listed above.'


def report(
    seen: Sequence[CheckedImage],
    class_names: Sequence[str],
    splits: Sequence[str],
    notes: Sequence[str],
) -> bool:
    """Prints what was found; returns whether nothing is wrong."""
    _print_counts(seen, class_names, splits)
    _print_list('assumed or passed over', notes)
    bad = [f'{one}: {one.problem}' for one in seen if one.problem]
    _print_list('that cannot be used', bad)
    named = [f'{one}: {one.suffix_note}' for one in seen if one.suffix_note]
    _print_list('with another suffix than their format (harmless)', named)
    groups = check.exact_duplicates(seen)
    leaks = [_group(g) for g in groups if len({one.split for one in g}) > 1]
    conflicts = [_group(g) for g in groups if len({one.label for one in g}) > 1]
    repeats = [_group(g) for g in groups if len({(one.split, one.label) for one in g}) == 1]
    near = [f'{a} = {b}' for a, b in check.near_duplicates(seen)]
    _print_list('in several splits, byte for byte (leakage)', leaks)
    _print_list('in several splits, nearly the same (leakage)', near)
    several = any(isinstance(one.label, tuple) for one in seen)
    what = 'with other labels' if several else 'in several classes'
    _print_list(f'{what}, byte for byte', conflicts)
    _print_list('several times in a split, byte for byte', repeats)
    fine = not (bad or leaks or near or conflicts)
    if fine:
        print(f'\n{NOTES_ABOVE if notes else "Nothing is wrong."}')
    return fine


def _group(group: Sequence[CheckedImage]) -> str:
    return ' = '.join(map(str, group))


def _print_counts(
    seen: Sequence[CheckedImage], class_names: Sequence[str], splits: Sequence[str]
) -> None:
    good = [one for one in seen if not one.problem]
    several = any(isinstance(one.label, tuple) for one in good)
    rows: dict[int | str, str] = dict(enumerate(class_names))
    rows |= {name: name for name in ([check.NO_LABEL, TOTAL] if several else [TOTAL])}
    counts = collections.Counter(
        (row, one.split) for one in good for row in (*(one.labels() or [check.NO_LABEL]), TOTAL)
    )
    width = max(len(name) for name in (*rows.values(), 'class'))
    print('  '.join([f'{"class":<{width}}', *(f'{split or "all":>8}' for split in splits)]))
    for row, name in rows.items():
        print('  '.join([f'{name:<{width}}', *(f'{counts[row, split]:>8,}' for split in splits)]))
    if several:
        each = sum(len(one.labels()) for one in good) / max(1, len(good))
        print(f'An image has {each:.2g} labels in the mean, and counts in the row of each.')


def _print_list(what: str, lines: Sequence[str]) -> None:
    if lines:
        print(f'\n{len(lines)} {what}:')
        for line in lines[:SHOWN]:
            print(f'  {line}')
        if len(lines) > SHOWN:
            print(f'  and {len(lines) - SHOWN} more')
