"""The page of a run: its parts gathered, rendered and written."""

import pathlib
import time
from collections.abc import Callable

import jax

from tljax.records import console
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
    result,
    slices,
)
from tljax.training.report.budget import ASKED_SECONDS, Budget, of_training
from tljax.training.report.inputs import Inputs
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError

REPORT_FILE = 'report.html'
PARTS: dict[str, Callable[[Inputs], Section]] = {
    'Result': result.section,
    'Training': curves.section,
    'Classes': classes.section,
    'Confidence': calibration.section,
    'Images': images.section,
    'Map of the images': embedding.section,
    'Weak slices': slices.section,
    'What training changed': change.section,
    'Doubtful data': data_faults.section,
}


def write(workdir: pathlib.Path, job: Job | None = None) -> pathlib.Path:
    """Writes report.html and the folder figures/ into the folder of a run.

    Args:
        workdir: the folder; what it lacks is named on the page.
        job: its experiment made ready, if it has just been trained; None reads it from the folder.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder holds no run.
    """
    run = TrainedRun(workdir)
    budget = Budget(ASKED_SECONDS) if job is None else of_training(run.result['wall_seconds'])
    content = gather(Inputs(run, job, budget))
    path = workdir / REPORT_FILE
    page.write(path, content)
    page.write_figures(workdir / page.FIGURES, content.figures())
    return path


def gather(source: Inputs) -> Page:
    """The page of a run.

    Raises:
        InputError: the folder holds no run.
    """
    started = time.perf_counter()
    opening = result.opening(source)
    sections = [_part(title, make, source) for title, make in PARTS.items()]
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


def _part(title: str, make: Callable[[Inputs], Section], source: Inputs) -> Section:
    """A part of the page; what went wrong takes its place."""
    try:
        return make(source)
    except (InputError, OSError) as error:
        return Section(title=title, blocks=[Text(str(error), 'missing')])
    except Exception as error:  # one part must not keep the others from the reader
        reason = f'This part could not be made: {type(error).__name__}: {error}'
        return Section(title=title, blocks=[Text(reason, 'missing')])


def write_after_training(workdir: pathlib.Path, job: Job | None = None) -> None:
    """Writes the page of a run that has just ended; a failure is a line and not an error.

    Of several processes the first writes.
    """
    if jax.process_index():
        return
    try:
        write(workdir, job)
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        console.console.print(f'No {REPORT_FILE}: {reason}', soft_wrap=True, markup=False)


def announce(workdir: pathlib.Path, *, again: bool) -> None:
    """Prints the path of the page of a run; writes it if it is not there.

    Args:
        workdir: the folder of the run.
        again: whether a page that is there is written again.
    """
    path = workdir / REPORT_FILE
    if again or not path.exists():
        write_after_training(workdir)
    if path.exists():
        console.console.print(f'Report: {path}', soft_wrap=True, markup=False)
