"""The report of `tljax data`: counts, bad files, duplicates."""

import collections
import pathlib
import sys
from collections.abc import Sequence

from tljax.data import check, folder, manifest
from tljax.data.check import CheckedImage
from tljax.data.files import FolderError, Listed

SHOWN = 100  # lines in one list
TOTAL = 'total'


def run(path: pathlib.Path, sheet: pathlib.Path | None, least_px: int) -> bool:
    """Checks a data set, prints the problems, and saves a contact sheet.

    Args:
        path: a folder of images, or a list of image files.
        sheet: file of the contact sheet; None for `NAME_sheet.png` in the current folder.
        least_px: the smallest permitted length of each side of an image.

    Returns:
        Whether there are no problems.

    Raises:
        FolderError: there is no data set, or the sheet would be written into it.
    """
    sheet = sheet or pathlib.Path(f'{path.resolve().stem}_sheet.png')
    if path.is_dir() and sheet.resolve().is_relative_to(path.resolve()):
        raise FolderError(f'{sheet} would be written into {path}: choose another file with --out')
    listed, class_names, notes = _listing(path)
    images = _check_images(listed, least_px)
    good = report(images, class_names, list(listed), notes)
    check.contact_sheet(images, class_names).save(sheet)
    print(f'\nContact sheet: {sheet}')
    return good


def _listing(path: pathlib.Path) -> tuple[dict[str, list[Listed]], list[str], list[str]]:
    if path.is_dir() or not path.exists():
        return folder.listing(str(path))
    return manifest.listing(str(path))


def _check_images(listed: dict[str, list[Listed]], least_px: int) -> list[CheckedImage]:
    """Checks all files, with a counter on a terminal."""
    total = sum(map(len, listed.values()))
    images = []
    for image in check.check_images(listed, least_px):
        images.append(image)
        if sys.stderr.isatty():
            print(f'\r{len(images)} of {total} files', end='', file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return images


NOTES_ABOVE = 'The files that are used are valid. Assumptions and skipped files are listed above.'


def report(
    images: Sequence[CheckedImage],
    class_names: Sequence[str],
    splits: Sequence[str],
    notes: Sequence[str],
) -> bool:
    """Prints the results; returns whether there are no problems."""
    _print_counts(images, class_names, splits)
    _print_list('assumption(s) and skipped file(s)', notes)
    bad = [f'{image}: {image.problem}' for image in images if image.problem]
    _print_list('unusable file(s)', bad)
    suffixes = [f'{image}: {image.suffix_note}' for image in images if image.suffix_note]
    _print_list('file(s) with another suffix than their format (harmless)', suffixes)
    groups = check.exact_duplicates(images)
    leaks = [_group(g) for g in groups if len({one.split for one in g}) > 1]
    conflicts = [_group(g) for g in groups if len({one.label for one in g}) > 1]
    repeats = [_group(g) for g in groups if len({(one.split, one.label) for one in g}) == 1]
    near = [f'{a} = {b}' for a, b in check.near_duplicates(images)]
    _print_list('exact duplicate(s) in several splits (leakage)', leaks)
    _print_list('near duplicate(s) in several splits (leakage)', near)
    several = any(isinstance(image.label, tuple) for image in images)
    where = 'with other labels' if several else 'in several classes'
    _print_list(f'exact duplicate(s) {where}', conflicts)
    _print_list('exact duplicate(s) within a split', repeats)
    good = not (bad or leaks or near or conflicts)
    if good:
        print(f'\n{NOTES_ABOVE if notes else "No problems."}')
    return good


def _group(group: Sequence[CheckedImage]) -> str:
    return ' = '.join(map(str, group))


def _print_counts(
    images: Sequence[CheckedImage], class_names: Sequence[str], splits: Sequence[str]
) -> None:
    """Prints the number of images per class and split."""
    good = [image for image in images if not image.problem]
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
        print(f'An image has {each:.2g} labels on average, and counts in the row of each label.')


def _print_list(what: str, lines: Sequence[str]) -> None:
    if lines:
        print(f'\n{len(lines)} {what}:')
        for line in lines[:SHOWN]:
            print(f'  {line}')
        if len(lines) > SHOWN:
            print(f'  and {len(lines) - SHOWN} more')
