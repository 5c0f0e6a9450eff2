"""The section on classes if images have several labels: precision, recall and thresholds."""

import numpy as np
import scipy.special

from tljax.metrics import multi_label
from tljax.metrics.multi_label import average_precision
from tljax.records.figures import colors, curves
from tljax.records.figures.axes import share_text
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Figures, Row, Section, Table
from tljax.records.predictions import SplitPredictions
from tljax.training.report.inputs import Inputs, split_name

CURVES = 7  # the largest number of classes with a curve
POINTS = 200  # the largest number of points of a curve


def section(inputs: Inputs) -> Section:
    """Precision-recall curves, and the measures of each class at two thresholds."""
    name, split = inputs.predictions()
    return Section(
        title='Classes',
        blocks=[Figures([_curves(inputs.classes, name, split)]), _table(inputs, name, split)],
    )


def _precisions(split: SplitPredictions) -> list[float | None]:
    pairs = zip(split.logits.T, split.labels.T, strict=True)
    return [average_precision(scores, labels) for scores, labels in pairs]


def _curves(classes: tuple[str, ...], name: str, split: SplitPredictions) -> Figure:
    precisions = _precisions(split)
    known = [place for place, value in enumerate(precisions) if value is not None]
    lowest = sorted(known, key=lambda place: precisions[place] or 0.0)[:CURVES]
    lines = [_curve('all labels', split.logits.ravel(), split.labels.ravel(), 0)]
    for index, place in enumerate(lowest):
        label = f'{classes[place]}, AP {100 * (precisions[place] or 0):.0f} %'
        lines.append(_curve(label, split.logits[:, place], split.labels[:, place], index + 1))
    fewer = f' of {len(known)}' if len(known) > CURVES else ''
    mean = sum(precisions[place] or 0.0 for place in known) / max(len(known), 1)
    return Figure(
        name='precision-recall',
        title='Precision against recall.',
        alt=f'Mean average precision over {len(known)} classes: {share_text(mean)}.',
        drawing=curves.chart(
            lines,
            x_label=f'recall on {split_name(name)} images',
            percent=True,
            percent_x=True,
            x_range=(0, 1),
            y_range=(0, 1),
        ),
        columns=('class', 'recall', 'precision'),
        rows=[(one.name, x, y) for one in lines for x, y in zip(one.xs, one.ys, strict=True)],
        caption=f'The {len(lowest)}{fewer} classes with the lowest average precision (AP), and all '
        'labels together.',
        wide=True,
    )


def _curve(name: str, scores: np.ndarray, labels: np.ndarray, index: int) -> Curve:
    _, precision, recall = multi_label.precision_recall(scores, labels)
    points = np.unique(np.linspace(0, len(recall) - 1, POINTS).astype(int))
    xs, ys = recall[points].tolist(), precision[points].tolist()
    return Curve(name=name, xs=xs, ys=ys, color=colors.series(index))


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """The threshold of a score with the largest F1; None if no image has the class.

    It is halfway to the next lower score, so that it does not depend on rounding.

    Args:
        scores: [N] logits.
        labels: [N], 1 where an image has the class.
    """
    if not (np.asarray(labels) > 0).any():
        return None
    values, precision, recall = multi_label.precision_recall(scores, labels)
    total = precision + recall
    f1 = np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0)
    best = int(f1.argmax())
    below = values[best + 1] if best + 1 < len(values) else values[best] - 1.0
    return float((values[best] + below) / 2)


def _f1(scores: np.ndarray, labels: np.ndarray, threshold: float) -> str:
    predicted, present = scores > threshold, labels > 0
    both = int(predicted.sum() + present.sum())
    return f'{200 * int((predicted & present).sum()) / both:.1f} %' if both else '–'


def _table(inputs: Inputs, name: str, split: SplitPredictions) -> Table:
    validation = inputs.splits.get('val')
    chosen = validation is not None and name != 'val'
    rows = []
    for place, (label, precision) in enumerate(
        zip(inputs.classes, _precisions(split), strict=True)
    ):
        scores, labels = split.logits[:, place], split.labels[:, place]
        cells = [label, f'{int(labels.sum()):,}']
        cells.append('–' if precision is None else f'{100 * precision:.1f} %')
        cells.append(_f1(scores, labels, 0.0))
        if chosen and validation is not None:
            threshold = best_threshold(validation.logits[:, place], validation.labels[:, place])
            cells.append('–' if threshold is None else f'{scipy.special.expit(threshold):.2f}')
            cells.append('–' if threshold is None else _f1(scores, labels, threshold))
        rows.append(Row(cells=cells))
    columns = ['class', 'images', 'average precision', 'F1 at probability 0.5']
    caption = ''
    if chosen:
        columns += ['threshold', 'F1 at the threshold']
        caption = (
            'The threshold is the probability with the largest F1 of the class on the validation '
            'images. Both columns with F1 are measured on the test images.'
        )
    return Table(name='Measures of each class', columns=columns, rows=rows, caption=caption)
