"""The page of a run: makes its sections, renders and writes it."""

import pathlib
import time
from collections.abc import Callable

import jax

from tljax.metrics import scores
from tljax.records import console, workdirs
from tljax.records.pages import page
from tljax.records.pages.blocks import Page, Section, Text
from tljax.training.jobs import Job
from tljax.training.report import (
    calibration,
    change,
    classes,
    curves,
    data_faults,
    embedding,
    images,
    numbers,
    result,
    slices,
    timing,
)
from tljax.training.report.budget import ASKED_SECONDS, Budget, of_training
from tljax.training.report.inputs import Inputs
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError

REPORT_FILE = 'report.html'
PARTS: dict[str, Callable[[Inputs], Section]] = {
    'Result': result.section,
    'Training': curves.section,
    'Where the time went': timing.section,
    'Classes': classes.section,
    'Confidence': calibration.section,
    'Images': images.section,
    'Map of the images': embedding.section,
    'Weak slices': slices.section,
    'What training changed': change.section,
    'Doubtful data': data_faults.section,
}

PARTS_OF_NUMBERS: dict[str, Callable[[Inputs], Section]] = {
    'Result': result.section,
    'Training': curves.section,
    'Where the time went': timing.section,
    'Predicted numbers': numbers.section,
    'What training changed': change.section,
    'Doubtful data': data_faults.section,
}


def write(
    workdir: pathlib.Path, job: Job | None = None, budget: Budget | None = None
) -> pathlib.Path:
    """Writes report.html and the folder figures/ into the folder of a run.

    Args:
        workdir: the folder; the page lists missing records.
        job: the job of the run, if it has just been trained; None reads it from the folder.
        budget: the time that the page may take; None for the default of `tljax report`.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder holds no run, or that of a language model, which has no page.
    """
    run = TrainedRun(workdir)
    if not _has_page(run):
        raise InputError(f'{workdir}: the run of a language model has no page')
    content = gather(Inputs(run, job, budget or Budget(ASKED_SECONDS)))
    path = workdir / REPORT_FILE
    page.write(path, content)
    page.write_figures(workdir / page.FIGURES, content.figures())
    return path


def gather(source: Inputs) -> Page:
    """Makes the page of a run.

    Raises:
        InputError: the folder holds no run.
    """
    started = time.perf_counter()
    opening = result.opening(source)
    sections = [_part(title, make, source) for title, make in _parts(source).items()]
    seconds = time.perf_counter() - started
    return Page(
        title=result.name_of(source.run.workdir),
        opening=opening,
        sections=sections,
        footer=f'Made in {seconds:.1f} s. The figures and their numbers are in figures/. '
        f'tljax report {source.run.workdir} makes this page again.',
        contents=True,
        script='points.js',
    )


def _parts(source: Inputs) -> dict[str, Callable[[Inputs], Section]]:
    """The sections that fit what the run predicts."""
    try:
        _, split = source.predictions()
    except (InputError, OSError):  # each section says what is missing
        return PARTS
    if split.task.numbers:
        return PARTS_OF_NUMBERS
    left_out = () if split.task.calibrated else ('Confidence',)
    return {title: make for title, make in PARTS.items() if title not in left_out}


def _part(title: str, make: Callable[[Inputs], Section], source: Inputs) -> Section:
    """A section of the page; an error message if it fails."""
    try:
        return make(source)
    except (InputError, OSError) as error:
        return Section(title=title, blocks=[Text(str(error), 'missing')])
    except Exception as error:  # an unexpected error in a section must not prevent the others
        reason = f'This part could not be made: {type(error).__name__}: {error}'
        return Section(title=title, blocks=[Text(reason, 'missing')])


def write_after_training(workdir: pathlib.Path, job: Job | None = None) -> None:
    """Writes the page of a run that has just ended; prints a line if this fails.

    Of several processes only the first writes.
    """
    if jax.process_index():
        return
    try:
        write(workdir, job, _budget(TrainedRun(workdir)))
    except Exception as error:  # the run is finished, and an error of its page must not fail it
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        console.console.print(f'No {REPORT_FILE}: {reason}', soft_wrap=True, markup=False)


def _budget(run: TrainedRun) -> Budget:
    """The budget of the page of a run, from the time of the run and its baselines."""
    runs = [run, *run.baselines.values()]
    return of_training(sum(one.result['wall_seconds'] for one in runs))


def _has_page(run: TrainedRun) -> bool:
    """Whether a run predicts something for each example, which a language model does not."""
    try:
        result = run.result
    except InputError:  # the page says what is missing
        return True
    metrics = (result.get(split) for split in ('val', 'test'))
    return not any(scores.of(one) is scores.PERPLEXITY for one in metrics if one)


def announce(workdir: pathlib.Path, *, again: bool) -> None:
    """Prints the path of the page of a run, if it has one; writes the page if it is missing.

    Args:
        workdir: the folder of the run.
        again: whether to overwrite an existing page.
    """
    if not _has_page(TrainedRun(workdir)):
        return
    path = workdir / REPORT_FILE
    if again or not path.exists():
        write_after_training(workdir)
    if path.exists():
        console.console.print(f'Report: {workdirs.shown(path)}', soft_wrap=True, markup=False)
