"""Measures the robustness of a run: the work of `tljax robustness`."""

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


def run(arguments: argparse.Namespace) -> None:
    """Measures, prints tables, and writes the record, the page and its figures.

    Args:
        arguments: the arguments of `tljax robustness`.

    Raises:
        InputError: the run or the images cannot be used.
    """
    record = measure(
        arguments.run,
        corruptions=arguments.corruptions,
        severities=arguments.severities,
        shifted_sets=arguments.shifted,
        ood=arguments.ood,
        source=arguments.source,
        baseline=arguments.baseline,
        images=arguments.images,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        bad_files=BadFiles(arguments.bad_files),
    )
    content = robustness_page.page(record)
    for section in content.sections:
        for block in section.blocks:
            if isinstance(block, Table):
                print_(block.name, markup=False)
                print_(_terminal(block))
    out = (arguments.out or arguments.run).expanduser()
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
    """Measures a run and returns a JSON record; reads all folders before it computes anything.

    Args:
        folder: of the run.
        corruptions: names or groups; None for all, () for none.
        severities: 1 to 5.
        shifted_sets: labelled folders with the classes of the run.
        ood: folders with images of other classes.
        source: labelled images of the upstream task.
        baseline: a run that the errors under corruption are compared with.
        images: the largest number of images that are corrupted; None for all.
        seed: of the corruptions and of the bootstrap.
        batch_size: of images, over all devices; None for the run's own.
        bad_files: what happens to files that cannot be read.

    Returns:
        `run`, and for each measurement that was asked for an entry: `corrupted`, `shifted`, `ood`,
        `forgetting`.

    Raises:
        InputError: the run, a folder or a name cannot be used.
    """
    suite_part = suite.chosen(corruptions)
    if not severities or not set(severities) <= set(SEVERITIES):
        raise InputError(f'severities are {list(severities)}, wanted numbers from 1 to 5')
    measured = subject.read(folder, batch_size)
    shifted_data = [
        subject.labelled_set(measured.network, path, bad_files, measured.recorded)
        for path in shifted_sets
    ]
    ood_images = {path: unfamiliar.read(measured, path, bad_files) for path in ood}
    upstream = forgetting.read(measured, source, bad_files) if source else None
    other = subject.read(baseline, batch_size) if baseline else None
    if other is not None and other.network.class_names != measured.network.class_names:
        raise InputError(f'--baseline: {baseline} has other classes than {folder}')
    record: dict[str, Any] = {'run': str(folder)}
    if suite_part:
        _announce(f'{len(suite_part)} corruptions at {len(severities)} severities')
        record['corrupted'] = corrupted.measure(
            measured, suite_part, severities, baseline=other, images=images, seed=seed
        )
    if shifted_data:
        record['shifted'] = [shifted.measure(measured, data) for data in shifted_data]
    if ood_images:
        familiar = unfamiliar.familiar(measured)
        record['ood'] = [unfamiliar.measure(measured, familiar, *x) for x in ood_images.items()]
    if upstream is not None:
        _announce(f'{len(forgetting.ALPHAS)} networks between the start and the end of training')
        record['forgetting'] = forgetting.measure(measured, upstream)
    return record


def _announce(text: str) -> None:
    print_(f'Measuring {text}.', soft_wrap=True, markup=False)


def _terminal(table: Table) -> rich.table.Table:
    """A table of the page for the terminal."""
    result = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        text = index == 0 or index in table.texts
        result.add_column(rich.text.Text(column), justify='left' if text else 'right')
    for row in table.rows:
        result.add_row(*(rich.text.Text(cell) for cell in row.cells))
    return result
