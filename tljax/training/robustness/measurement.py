"""Measures a run where it will be used: the work of `tljax robustness`."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.table
import rich.text

from tljax.augment.corruptions import suite
from tljax.augment.corruptions.corruption import SEVERITIES
from tljax.records import console, writers
from tljax.records.pages import page
from tljax.records.pages.blocks import Table
from tljax.training.robustness import (
    corrupted,
    forgetting,
    robustness_page,
    shifted,
    subject,
    unfamiliar,
)
from tljax.types import BadFiles, InputError

RECORD_FILE = 'robustness.json'
PAGE_FILE = 'robustness.html'
FIGURES = 'robustness_figures'

print_ = console.console.print


def run(given: argparse.Namespace) -> None:
    """Measures, prints tables, and writes the record, the page and its figures.

    Args:
        given: the words of `tljax robustness`, by name.

    Raises:
        InputError: the run or the images cannot be used.
    """
    record = measure(
        given.run,
        corruptions=given.corruptions,
        severities=given.severities,
        shifted_sets=given.shifted,
        ood=given.ood,
        source=given.source,
        baseline=given.baseline,
        images=given.images,
        seed=given.seed,
        batch_size=given.batch_size,
        bad_files=BadFiles(given.bad_files),
    )
    content = robustness_page.page(record)
    for section in content.sections:
        for block in section.blocks:
            if isinstance(block, Table):
                print_(block.name, markup=False)
                print_(_terminal(block))
    out = (given.out or given.run).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    writers.write_json(out / RECORD_FILE, {**record, **writers.environment()})
    page.write(out / PAGE_FILE, content)
    page.write_figures(out / FIGURES, content.figures())
    print_(f'Page: {out / PAGE_FILE}', soft_wrap=True, markup=False)


def measure(
    folder: pathlib.Path,
    *,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    shifted_sets: Sequence[str] = (),
    ood: Sequence[str] = (),
    source: str | None = None,
    baseline: pathlib.Path | None = None,
    images: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    bad_files: BadFiles = BadFiles.ERROR,
) -> dict[str, Any]:
    """Everything that is asked for, as JSON. All folders are read before anything is computed.

    Args:
        folder: of the run.
        corruptions: names or groups; None for all, () for none.
        severities: 1 to 5.
        shifted_sets: labelled folders with the classes of the run.
        ood: folders with images of other classes.
        source: labelled images of the upstream task.
        baseline: a run that the errors under corruption are compared with.
        images: corrupted images at the most.
        seed: of the corruptions and of the bootstrap.
        batch_size: of images, over all devices; None for the run's own.
        bad_files: what happens to files that cannot be read.

    Raises:
        InputError: the run, a folder or a name cannot be used.
    """
    chosen = suite.chosen(corruptions)
    if not severities or not set(severities) <= set(SEVERITIES):
        raise InputError(f'severities are {list(severities)}, wanted some of 1 to 5')
    one = subject.read(folder, batch_size)
    sets = [
        subject.labelled_set(one.network, path, bad_files, one.recorded) for path in shifted_sets
    ]
    others = {path: unfamiliar.read(one, path, bad_files) for path in ood}
    upstream = forgetting.read(one, source, bad_files) if source else None
    below = subject.read(baseline, batch_size) if baseline else None
    if below is not None and below.network.class_names != one.network.class_names:
        raise InputError(f'--baseline: {baseline} has other classes than {folder}')
    record: dict[str, Any] = {'run': str(folder)}
    if chosen:
        _say(f'{len(chosen)} corruptions at {len(severities)} severities')
        record['corrupted'] = corrupted.measure(
            one, chosen, severities, baseline=below, images=images, seed=seed
        )
    if sets:
        record['shifted'] = [shifted.measure(one, data) for data in sets]
    if others:
        known = unfamiliar.familiar(one)
        record['ood'] = [unfamiliar.measure(one, known, *pair) for pair in others.items()]
    if upstream is not None:
        _say(f'{len(forgetting.ALPHAS)} networks between the start and the end of training')
        record['forgetting'] = forgetting.measure(one, upstream)
    return record


def _say(text: str) -> None:
    print_(f'Measuring {text}.', soft_wrap=True, markup=False)


def _terminal(table: Table) -> rich.table.Table:
    """A table of the page for the terminal."""
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        text = index == 0 or index in table.texts
        shown.add_column(rich.text.Text(column), justify='left' if text else 'right')
    for row in table.rows:
        shown.add_row(*(rich.text.Text(cell) for cell in row.cells))
    return shown
