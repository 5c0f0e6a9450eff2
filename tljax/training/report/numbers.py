"""The section on predicted numbers: residuals, measures of each number, and the largest errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from tljax.records.figures import points
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import (
    Block,
    Card,
    Figures,
    Gallery,
    Heading,
    Row,
    Section,
    Table,
    Text,
)
from tljax.records.predictions import SplitPredictions
from tljax.training.report import images, network_pass, thumbnails
from tljax.training.report.inputs import Inputs, split_name, spread
from tljax.types import InputError

POINTS = 1000  # the largest number of points of a plot
ERRORS = 18  # images
FIGURES = 8  # the largest number of numbers with plots
MEASURES = {'r2': 'R²', 'rmse': 'RMSE', 'mae': 'MAE', 'spearman': 'Spearman'}


def section(inputs: Inputs) -> Section:
    """Residual plots, a table of measures with intervals, and images with the largest errors."""
    name, split = inputs.predictions()
    predicted = _predicted(split)
    figures = []
    for place, number in enumerate(inputs.classes[:FIGURES]):
        pair = predicted[:, place], split.labels[:, place]
        figures += [
            _figure(number, *pair, name, residuals=False),
            _figure(number, *pair, name, residuals=True),
        ]
    blocks: list[Block] = [Figures(figures), _table(inputs, name)]
    blocks += [Heading('The largest errors'), *_largest(inputs, name, split, predicted)]
    return Section(title='Predicted numbers', blocks=blocks)


def _predicted(split: SplitPredictions) -> np.ndarray:
    """The predicted numbers [N, K] in the units of the labels."""
    rows = np.asarray(jax.jit(split.task.predicted)(jnp.asarray(split.logits)), np.float64)
    return rows[:, : split.labels.shape[1]]


def _figure(
    number: str, predicted: np.ndarray, true: np.ndarray, split: str, *, residuals: bool
) -> Figure:
    """Predicted against true numbers, or their differences."""
    shown = spread(len(true), POINTS)
    xs, ys = true[shown].astype(np.float64), predicted[shown]
    ys = ys - xs if residuals else ys
    file = re.sub(r'[^A-Za-z0-9]+', '-', number).strip('-') or 'number'
    kind, what = ('residuals', 'minus true ') if residuals else ('predicted', '')
    error = float(np.sqrt(np.mean((predicted - true) ** 2)))
    images_text = f'{split_name(split)} images'
    return Figure(
        name=f'{kind}-{file}',
        title=f'{"Residuals" if residuals else "Predictions"} of {number}.',
        alt=f'{len(shown):,} {images_text} as points; the RMSE is {error:.4g}.',
        drawing=points.points(
            xs.tolist(),
            ys.tolist(),
            x_label=f'true {number}, {images_text}',
            y_label=f'predicted {what}{number}',
            diagonal=not residuals,
        ),
        columns=('true', 'predicted minus true' if residuals else 'predicted'),
        rows=list(zip(xs.tolist(), ys.tolist(), strict=True)),
        caption='Points on the dashed line are exact. '
        + (
            'A slope of the points means that the network predicts values too near to the mean.'
            if residuals
            else f'RMSE {error:.4g}.'
        ),
    )


def _table(inputs: Inputs, name: str) -> Table:
    metrics = inputs.run.result[name]
    rows = []
    for place, number in enumerate(inputs.classes):
        cells = [number]
        for measure in MEASURES:
            value = metrics.get(f'value_{measure}', [None] * len(inputs.classes))[place]
            ends = metrics.get(f'value_{measure}_interval')
            cells.append(_text(value, ends[place] if ends else None))
        rows.append(Row(cells=cells))
    return Table(
        name='Measures of each number',
        columns=('number', *MEASURES.values()),
        rows=rows,
        caption='In brackets: 95 % bootstrap intervals over the images. R² is the explained share '
        'of the variance; RMSE and MAE are in the units of the labels.',
    )


def _text(value: float | None, ends: list[float] | None) -> str:
    if value is None:
        return '–'
    return f'{value:.4g}' + (f' ({ends[0]:.4g} to {ends[1]:.4g})' if ends else '')


def _largest(
    inputs: Inputs, name: str, split: SplitPredictions, predicted: np.ndarray
) -> list[Block]:
    """The images with the largest errors, in units of each number's deviation."""
    spreads = np.maximum(split.labels.std(0), np.finfo(np.float32).tiny)
    errors = (np.abs(predicted - split.labels) / spreads).max(1)
    rows = np.argsort(-errors, kind='stable')[:ERRORS]
    pictures: dict[int, np.ndarray] = {}
    blocks: list[Block] = []
    try:
        examples, places = inputs.examples(name)
        decoded = network_pass.decoded(examples, inputs.run.network.model, places[rows])
        pictures = dict(zip(rows.tolist(), images.cropped(inputs, decoded), strict=True))
    except (InputError, OSError) as error:
        blocks.append(Text(str(error), 'missing'))
    cards = []
    for row in rows.tolist():
        lines = [
            f'{number} {true:.4g}, predicted {guess:.4g}'
            for number, true, guess in zip(
                inputs.classes, split.labels[row], predicted[row], strict=True
            )
        ]
        shown = []
        if row in pictures:
            shown = [(thumbnails.data_uri(thumbnails.thumbnail(pictures[row])), lines[0])]
        cards.append(Card(images=shown, lines=lines, path=images.path_text(split, row)))
    return [*blocks, Gallery(cards=cards)]
