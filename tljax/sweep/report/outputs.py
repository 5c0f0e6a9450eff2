"""Writes what a sweep says: a page, tables, figures, and a short text for the terminal."""

import pathlib
import textwrap
import uuid
from collections.abc import Callable

from tljax.records.figures import pdf
from tljax.records.figures.drawing import printable
from tljax.records.pages import page, table_texts
from tljax.records.pages.blocks import Block, Page, Row, Section, Table, Text
from tljax.records.pages.score_texts import (
    NOT_DISTINGUISHABLE,
    are_too_few,
    interval_text,
    p_text,
    percent,
    points_text,
    result_text,
)
from tljax.sweep.folder import SweepFolder
from tljax.sweep.report import (
    axis_figures,
    cells,
    content,
    costs,
    differences,
    main_table,
    repetition,
    shares,
    tuned,
)
from tljax.sweep.report.content import Content
from tljax.sweep.report.summaries import Summary, score_text
from tljax.sweep.results import TEST, Status

REPORT_FILE = 'report.html'
PARTS: dict[str, Callable[[Content], Section | None]] = {
    'Results': main_table.section,
    'Differences from the baseline': differences.section,
    'Effects of the axes': axis_figures.section,
    'Cost': costs.section,
    'Tuning': tuned.section,
    'Which axis explains how much': shares.section,
    'Failed cells': repetition.failures,
    'To repeat it': repetition.section,
    'Cells': cells.section,
}


def write(folder: SweepFolder, name: str = '', *, baseline: str | None = None) -> pathlib.Path:
    """Writes report.html, table.md, table.tex, cells.csv and the folder figures/.

    They are written into the folder of the sweep, also while it runs.

    Args:
        folder: of the sweeps.
        name: of the sweep.
        baseline: the value that others are compared with, as `NAME` or `AXIS=NAME`; None for the
            one that the sweep marks, or else the first value of the first compared axis.

    Returns:
        The path of report.html.

    Raises:
        SweepError: there is no such sweep or baseline, or its record is damaged.
    """
    source = content.read(folder, name, baseline)
    target = folder.path / name
    report = gather(source)
    _write(target / 'table.md', ''.join(f'{table_texts.markdown(t)}\n' for t in _tables(source)))
    preamble = '% Needs \\usepackage{booktabs,textcomp}; letters that are not Latin need XeLaTeX.\n'
    latex = '\n'.join(map(table_texts.latex, _tables(source)))
    _write(target / 'table.tex', preamble + latex)
    _write(target / 'cells.csv', cells.as_csv(source))
    page.write_figures(target / page.FIGURES, report.figures(), with_pdf=pdf.is_available())
    _write(target / REPORT_FILE, page.render(report))
    return target / REPORT_FILE


def _write(path: pathlib.Path, text: str) -> None:
    """Writes a file completely or not at all."""
    part = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')  # several processes may write
    try:
        part.write_text(text, encoding='utf-8', errors='backslashreplace')
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _tables(source: Content) -> list[Table]:
    """The tables for a paper."""
    tables = [main_table.table(source)]
    return [*tables, differences.table(source)] if source.comparison.differences else tables


def text(folder: SweepFolder, name: str = '', *, baseline: str | None = None) -> str:
    """The main results as lines of at most 110 characters.

    Args:
        folder: of the sweeps.
        name: of the sweep.
        baseline: see `write`.

    Raises:
        SweepError: there is no such sweep or baseline, or its record is damaged.
    """
    source = content.read(folder, name, baseline)
    if not source.known:
        return _wrapped(status_text(source))
    parts = [status_text(source), table_texts.terminal(_short_table(source)), f'{verdict(source)}.']
    return '\n\n'.join([_wrapped(parts[0]), parts[1], _wrapped(parts[2])])


def _wrapped(text: str) -> str:
    return textwrap.fill(printable(text), table_texts.TERMINAL_WIDTH)


def _short_table(source: Content) -> Table:
    columns = ['mean, %', '95 % interval', 'seeds'] + ['tried'] * source.results.tuned
    columns += ['points', 'p (Holm)'] * bool(source.comparison.differences)
    return Table(
        name='Results',
        columns=['variant', *columns],
        rows=[Row(cells=_short_cells(source, one)) for one in source.summaries],
    )


def _short_cells(source: Content, one: Summary) -> list[str]:
    cells = [one.title, percent(one.mean), interval_text(one.interval)]
    cells.append(one.variant.seeds_text(source.results.split or ''))
    cells += [one.variant.budget_text()] * source.results.tuned
    compared = [d for d in source.comparison.differences if d.variant is one.variant and d.pair]
    for difference in compared[:1]:
        if difference.pair is not None:
            cells.append(points_text(difference.pair.difference))
            cells.append(p_text(difference.adjusted))
    return cells


def gather(source: Content) -> Page:
    """Makes the page of a sweep."""
    record = source.results.record
    opening: list[Block] = [Text(verdict(source), 'verdict'), Text(status_text(source), 'lead')]
    pdfs = 'PDF' if pdf.is_available() else "PDF is missing: pip install 'tljax[plot]'"
    return Page(
        title=f'Sweep {record.name or source.folder.path.absolute().name}',
        opening=opening,
        sections=[part for title, make in PARTS.items() if (part := _part(title, make, source))],
        footer='The tables are in table.md and table.tex, the cells in cells.csv, the figures and '
        f'their numbers in figures/ (SVG, PNG, CSV; {pdfs}). '
        f'tljax sweep --report {source.folder.path} makes this page again.',
        contents=True,
    )


def _part(title: str, make: Callable[[Content], Section | None], source: Content) -> Section | None:
    """A section of the page; an error message if it fails."""
    try:
        return make(source)
    except Exception as error:  # an error in a section must not prevent the others
        reason = f'This part could not be made: {type(error).__name__}: {error}'
        return Section(title=title, blocks=[Text(reason, 'missing')])


def verdict(source: Content) -> str:
    """A sentence with the main result."""
    known = source.known
    if not known:
        return 'No results yet'
    compared = [one for one in source.comparison.differences if one.pair is not None]
    if not compared:
        best = max(known, key=lambda one: one.mean or 0.0)
        name = f'{best.title}: ' if len(source.summaries) > 1 else ''
        return f'{name}{score_text(source.results)} {percent(best.mean)} %'
    baseline = differences.baseline_text(source)
    if len(compared) == 1:
        return _single_verdict(source)
    count = sum(one.distinguishable for one in compared)
    if seeds := _too_few_seeds(source):
        return f'{seeds} seeds are too few to distinguish a variant from the baseline {baseline}'
    if not count:
        return f'No variant is distinguishable from the baseline {baseline}'
    better = sum(result_text(one.pair, one.adjusted) == 'better' for one in compared if one.pair)
    return (
        f'{better} better and {count - better} worse than the baseline {baseline}, '
        f'{len(compared) - count} {NOT_DISTINGUISHABLE}'
    )


def _single_verdict(source: Content) -> str:
    """The result of the only difference."""
    one = next(one for one in source.comparison.differences if one.pair is not None)
    names = [source.names.title(side.settings) for side in (one.variant, one.baseline)]
    points = abs(100 * one.pair.difference) if one.pair else 0.0
    if seeds := _too_few_seeds(source):
        return f'{seeds} seeds are too few to distinguish {names[0]} from {names[1]}'
    if not one.distinguishable:
        return f'{names[0]} is {NOT_DISTINGUISHABLE} from {names[1]}'
    word = result_text(one.pair, one.adjusted) if one.pair else ''
    return f'{names[0]} is {word} than {names[1]} by {points:.1f} points'


def _too_few_seeds(source: Content) -> int:
    """The number of seeds if no test over them can find a difference; else 0."""
    compared = [one for one in source.comparison.differences if one.pair is not None]
    pairs = [one.pair for one in compared if one.pair]
    too_few = are_too_few(pairs, compared[0].tests)
    return max(pair.seeds for pair in pairs) if too_few else 0


def status_text(source: Content) -> str:
    """The number of cells by status, and the images and seeds that the results are of."""
    results = source.results
    counts = {status.value: results.count(status) for status in Status}
    parts = [f'{count} {status}' for status, count in counts.items() if count]
    lines = [f'{len(results.cells)} cells: {", ".join(parts)}.']
    images = {cell.metrics(results.split).get('count') for cell in results.cells if results.split}
    sizes = sorted(n for n in images if isinstance(n, int))
    if sizes:
        size = f'{sizes[0]:,}' if len(sizes) == 1 else f'{sizes[0]:,} to {sizes[-1]:,}'
        score, count = score_text(results), len(results.seeds)
        seeds = f'{count} seed{"s" * (count != 1)}'
        note = '' if results.split == TEST else ' It selected the results, so it is optimistic.'
        lines.append(f'The score is the {score} of {size} images, with {seeds}.{note}')
    return ' '.join(lines)
