"""Pictures of measurements, drawn by matplotlib, which is an extra: `pip install 'tljax[plot]'`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.types import InputError

LINE, POINTS, MARK = '#0b6e4f', '#b9bcc0', '#e08e0b'


class NoPictureError(InputError):
    """matplotlib is not installed."""


def _figure(columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, side by side, without pyplot's global state.

    Raises:
        NoPictureError: there is no matplotlib.
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
    """Draws the loss against a rising learning rate, with what is suggested.

    Args:
        path: the picture.
        rates: [N], rising.
        losses: [N].
        smoothed: [N].
        suggestions: a learning rate by the name of its rule.

    Raises:
        NoPictureError: there is no matplotlib.
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
) -> None:
    """Draws accuracy against cost, a panel for each kind of cost, with the Pareto fronts.

    Args:
        path: the picture.
        names: [N] of the points.
        panels: [N] costs by what they are.
        fronts: for each panel, the indices of the front, by rising cost.
        accuracies: [N] in [0, 1].
        intervals: [N] lows and highs.

    Raises:
        NoPictureError: there is no matplotlib.
    """
    figure, every_axes = _figure(len(panels))
    percent = [100 * accuracy for accuracy in accuracies]
    below = [100 * (a - low) for a, (low, _) in zip(accuracies, intervals, strict=True)]
    above = [100 * (high - a) for a, (_, high) in zip(accuracies, intervals, strict=True)]
    pairs = zip(panels.items(), fronts, strict=True)
    for axes, ((title, costs), front) in zip(every_axes, pairs, strict=True):
        axes.errorbar(costs, percent, (below, above), fmt='o', color=POINTS, capsize=2, zorder=1)
        on_front = [costs[i] for i in front], [percent[i] for i in front]
        axes.plot(*on_front, 'o-', color=LINE, label='Pareto front', zorder=2)
        for name, cost, height in zip(names, costs, percent, strict=True):
            axes.annotate(name, (cost, height), (5, 5), textcoords='offset points', fontsize=8)
        axes.set(xlabel=title)
        axes.set_xlim(left=0)
    every_axes[0].set_ylabel('test accuracy (%)')
    every_axes[0].legend(frameon=False, loc='lower right')
    figure.savefig(path)


def histogram(path: pathlib.Path, values: Sequence[float], what: str, of: str) -> None:
    """Draws how often values are how large.

    Args:
        path: the picture.
        values: [N].
        what: they are.
        of: what is counted.

    Raises:
        NoPictureError: there is no matplotlib.
    """
    figure, (axes,) = _figure()
    axes.hist(values, bins=40, color=LINE)
    axes.set(xlabel=what, ylabel=of, yscale='log')
    figure.savefig(path)
