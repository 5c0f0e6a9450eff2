"""Draws measurements with matplotlib, which is optional: `pip install 'tljax[plot]'`."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tljax.types import InputError

LINE, POINTS, MARK = '#0b6e4f', '#b9bcc0', '#e08e0b'
# Positions of a label relative to its point: offset in units of `LABEL_GAP_PT`, and alignment.
LABEL_POSITIONS = [
    (dx, dy, {-1: 'right', 0: 'center', 1: 'left'}[dx], {-1: 'top', 0: 'center', 1: 'bottom'}[dy])
    for dx, dy in ((1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1))
]
LABEL_GAP_PT = 6.0


class NoPictureError(InputError):
    """matplotlib is not installed."""


def _figure(columns: int = 1) -> tuple[Any, Any]:
    """Makes a figure with a row of axes, without pyplot's global state.

    Raises:
        NoPictureError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NoPictureError("no picture without matplotlib: pip install 'tljax[plot]'") from error
    figure = Figure(figsize=(1.6 + 4.8 * columns, 3.6), dpi=160, layout='constrained')
    axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    for one in axes:
        one.spines[['top', 'right']].set_visible(False)
    return figure, axes


def learning_rates(
    path: pathlib.Path,
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestions: Mapping[str, float],
) -> None:
    """Draws the loss against a rising learning rate, and the suggested rates.

    Args:
        path: the file of the picture.
        rates: [N], ascending.
        losses: [N] of single batches.
        smoothed: [N] running means of the losses.
        suggestions: a learning rate for each rule.

    Raises:
        NoPictureError: matplotlib is not installed.
    """
    figure, (axes,) = _figure()
    axes.plot(rates, losses, color=POINTS, lw=0.8, label='loss of a batch')
    axes.plot(rates, smoothed, color=LINE, label='smoothed')
    low, high = min(smoothed), max(smoothed[0], min(smoothed) * 1.1)
    axes.set_ylim(low - 0.15 * (high - low), high + 0.5 * (high - low))
    for style, (name, rate) in zip(('-', '--', ':'), suggestions.items(), strict=True):
        axes.axvline(rate, color=MARK, ls=style, lw=1.2, label=f'{name}: {rate:.2g}')
    axes.set(xscale='log', xlabel='learning rate', ylabel='loss')
    axes.legend(frameon=False)
    figure.savefig(path)


def frontier(
    path: pathlib.Path,
    *,
    names: Sequence[str],
    panels: Mapping[str, Sequence[float]],
    fronts: Sequence[Sequence[int]],
    accuracies: Sequence[float],
    intervals: Sequence[Sequence[float]],
    split: str,
) -> None:
    """Draws accuracy against cost with the Pareto front, in a panel for each kind of cost.

    Args:
        path: the file of the picture.
        names: [N] names of the points.
        panels: [N] costs for each title of a panel.
        fronts: for each panel, the indices of its Pareto front, by ascending cost.
        accuracies: [N] in [0, 1].
        intervals: [N] lower and upper limits of the accuracies.
        split: `test` or `val`, on which the accuracies were measured.

    Raises:
        NoPictureError: matplotlib is not installed.
    """
    figure, every_axes = _figure(len(panels))
    percent = [100 * accuracy for accuracy in accuracies]
    below = [100 * (a - low) for a, (low, _) in zip(accuracies, intervals, strict=True)]
    above = [100 * (high - a) for a, (_, high) in zip(accuracies, intervals, strict=True)]
    top, bottom = np.add(percent, above), np.subtract(percent, below)
    pairs = zip(panels.items(), fronts, strict=True)
    for axes, ((title, costs), front) in zip(every_axes, pairs, strict=True):
        axes.errorbar(costs, percent, (below, above), fmt='o', color=POINTS, capsize=2, zorder=1)
        on_front = [costs[i] for i in front], [percent[i] for i in front]
        axes.plot(*on_front, 'o-', color=LINE, label='Pareto front', zorder=2)
        axes.set(xlabel=title)
        axes.set_xlim(0, 1.12 * max(costs))  # room for the last name
    every_axes[0].set_ylabel(f'{"validation" if split == "val" else split} accuracy (%)')
    every_axes[0].legend(frameon=False, loc='lower right')
    figure.draw_without_rendering()  # computes the layout, which the labels need
    for axes, costs, front in zip(every_axes, panels.values(), fronts, strict=True):
        bars = [((x, low), (x, high)) for x, low, high in zip(costs, bottom, top, strict=True)]
        corners = [(costs[i], percent[i]) for i in front]
        lines = [*bars, *itertools.pairwise(corners)]
        _label(axes, names, list(zip(costs, percent, strict=True)), lines)
    figure.savefig(path)


def _label(
    axes: Any,
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
) -> None:
    """Writes each name next to its point, where it covers as little as possible.

    Args:
        axes: with their final layout and limits.
        names: [N].
        points: [N], in data coordinates.
        lines: pairs of points that a line connects, in data coordinates.
    """
    share = np.linspace(0, 1, 200)[:, None]
    ink = np.concatenate([(1 - share) * start + share * end for start, end in np.array(lines)])
    ink = axes.transData.transform(ink)  # pixels that should stay visible
    legend = axes.get_legend()
    if legend is not None:
        ink = np.concatenate([ink, _pixels(legend.get_window_extent())])
    for name, point in zip(names, points, strict=True):
        text = _best_text(axes, name, point, ink)
        ink = np.concatenate([ink, _pixels(text.get_window_extent())])


def _best_text(axes: Any, name: str, point: tuple[float, float], ink: np.ndarray) -> Any:
    """Writes a name at the position around a point that covers the fewest pixels of `ink`."""
    candidates = []
    for dx, dy, horizontal, vertical in LABEL_POSITIONS:
        text = axes.annotate(
            name,
            point,
            (dx * LABEL_GAP_PT, dy * LABEL_GAP_PT),
            textcoords='offset points',
            ha=horizontal,
            va=vertical,
            fontsize=8,
        )
        box = text.get_window_extent()
        outside = box.x1 > axes.bbox.x1 or box.x0 < axes.bbox.x0
        covered = int(((ink > box.min) & (ink < box.max)).all(-1).sum())
        candidates.append((outside, covered, len(candidates), text))
    (*_, best), *others = sorted(candidates, key=lambda candidate: candidate[:3])
    for *_, text in others:
        text.remove()
    return best


def _pixels(box: Any) -> np.ndarray:
    """A grid of points [P, 2] that covers a rectangle."""
    x, y = np.meshgrid(np.arange(box.x0, box.x1, 2), np.arange(box.y0, box.y1, 2))
    return np.stack([x.ravel(), y.ravel()], -1)


def histogram(path: pathlib.Path, values: Sequence[float], quantity: str, counted: str) -> None:
    """Draws a histogram with a logarithmic count.

    Args:
        path: the file of the picture.
        values: [N].
        quantity: the label of the horizontal axis: what the values are.
        counted: the label of the vertical axis: what has the values.

    Raises:
        NoPictureError: matplotlib is not installed.
    """
    figure, (axes,) = _figure()
    axes.hist(values, bins=40, color=LINE)
    axes.set(xlabel=quantity, ylabel=counted, yscale='log')
    figure.savefig(path)
