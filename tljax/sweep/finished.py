"""A sweep in Python: `tljax.run_sweep`, and the folder of a sweep as an object."""

import dataclasses
import pathlib

from tljax.config import validation
from tljax.config.experiment import Experiment
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Block, Text
from tljax.records.pages.shown import Shown
from tljax.sweep import report, run
from tljax.sweep.folder import SweepFolder
from tljax.sweep.report import content, differences, main_table, outputs
from tljax.sweep.space import Part


@dataclasses.dataclass(frozen=True, repr=False)
class Sweep:
    """The results of a sweep, read from its folder; a notebook shows them.

    Attributes:
        workdir: the folder of the sweep.
        name: of the sweep, if its config has several.
    """

    workdir: pathlib.Path
    name: str = ''

    def __init__(self, workdir: str | pathlib.Path, name: str = ''):
        # A frozen dataclass assigns its fields in this way.
        object.__setattr__(self, 'workdir', pathlib.Path(workdir).expanduser())
        object.__setattr__(self, 'name', name)

    def show(self, baseline: str | None = None) -> Shown:
        """The table of results, the differences from the baseline, and their figures.

        Args:
            baseline: the value that others are compared with; None for the one that the sweep
                marks, or else the first value of the first compared axis.

        Returns:
            An object that a notebook displays, and whose `repr` is text. `report.html` in the
            folder of the sweep has more.

        Raises:
            SweepError: there is no such sweep or baseline.
        """
        source = content.read(SweepFolder(self.workdir), self.name, baseline)
        blocks: list[Block] = [Text(outputs.verdict(source), 'verdict')]
        blocks += [Text(outputs.status_text(source), 'lead'), *main_table.section(source).blocks]
        section = differences.section(source)
        return Shown([*blocks, *(section.blocks if section else ())])

    def figure(self, name: str = 'results') -> Figure:
        """A figure of the report by its name; `figures/` has each as SVG, PNG and CSV.

        Raises:
            KeyError: there is no such figure; the message lists their names.
        """
        page = outputs.gather(content.read(SweepFolder(self.workdir), self.name))
        figures = {figure.name: figure for figure in page.figures()}
        if name not in figures:
            raise KeyError(f'{name}: wanted one of {", ".join(figures)}')
        return figures[name]

    def _repr_html_(self) -> str:
        source = content.read(SweepFolder(self.workdir), self.name)
        blocks: list[Block] = [Text(outputs.verdict(source), 'verdict')]
        blocks += [Text(outputs.status_text(source), 'lead'), main_table.table(source)]
        return Shown(blocks)._repr_html_()

    def __repr__(self) -> str:
        """The main results as lines of text."""
        return report.text(SweepFolder(self.workdir), self.name)


def run_sweep(
    experiment: Experiment, axes: Part, workdir: str | pathlib.Path = 'sweeps/notebook'
) -> Sweep:
    """Runs the cells of a sweep in this process, and writes its report, like `tljax sweep`.

    The same call goes on with a sweep that was stopped, and runs only what is new if an axis has
    got another value.

    Args:
        experiment: the one that all cells start from.
        axes: what the cells differ in, e.g. `Product(Axis('epochs', [5, 10]), Seeds(3))`.
        workdir: the folder of the sweep.

    Returns:
        The results. A cell that failed keeps its error in its folder, and the table says so.

    Raises:
        InputError: the experiment or an axis cannot be used.
        Interrupted: a signal stopped the sweep; the same call goes on.
    """
    validation.validate(experiment)
    folder = pathlib.Path(workdir).expanduser()
    run.run(experiment, axes, run.Options(workdir=folder))
    return Sweep(folder)
