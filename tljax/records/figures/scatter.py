"""A scatter plot of images."""

from collections.abc import Sequence

import numpy as np

from tljax.records.figures import axes, colors
from tljax.records.figures.drawing import Circle, Drawing, Text, shortened, text_width

SIDE = 400  # the height of the plot
NAMED = 16  # the largest number of classes that are named
NAME_WIDTH = 140
WIDER = 1.2  # the width of bold letters relative to plain ones


def scatter(
    points: np.ndarray,
    classes: Sequence[int | None],
    errors: Sequence[bool],
    names: Sequence[str],
) -> Drawing:
    """Draws images as discs and errors as rings, colored by class.

    The name of a class is in the legend and, if there is room, in the middle of its points.

    Args:
        points: [N, 2].
        classes: [N]; None for an image without a label.
        errors: [N].
        names: of all classes.
    """
    present = sorted({label for label in classes if label is not None})[:NAMED]
    entries = [(shortened(names[label], NAME_WIDTH), colors.series(label)) for label in present]
    shapes, top = axes.legend(entries, 4, 8)
    low, high = points.min(0), points.max(0)
    x = axes.AxisScale(float(low[0]), float(high[0]), 10, axes.WIDTH - 10)
    y = axes.AxisScale(float(low[1]), float(high[1]), top + SIDE - 10, top + 10)
    places = np.array([(x(float(a)), y(float(b))) for a, b in points]).reshape(-1, 2)
    order = sorted(range(len(points)), key=lambda i: errors[i])  # errors on top
    marks = [_mark(i, places[i], classes[i], errors[i]) for i in order]
    labels = np.array([-1 if label is None else label for label in classes])
    middles = {label: np.median(places[labels == label], axis=0) for label in present}
    return Drawing(axes.WIDTH, top + SIDE, [*shapes, *marks, *_names(middles, names)])


def _mark(index: int, place: np.ndarray, label: int | None, error: bool) -> Circle:
    x, y = float(place[0]), float(place[1])
    color = 'faint' if label is None else colors.series(label)
    if error:
        return Circle(x, y, 5, color, 'paper', width=2, index=index)
    return Circle(x, y, 3, color, opacity=0.75, width=0, index=index)


def _names(middles: dict[int, np.ndarray], names: Sequence[str]) -> list[Text]:
    """The names of classes; a name that would overlap another is omitted."""
    texts: list[Text] = []
    for label, (x, y) in middles.items():
        name = shortened(names[label], NAME_WIDTH)
        half = WIDER * text_width(name) / 2
        x = float(np.clip(x, half + 4, axes.WIDTH - half - 4))
        room = all(
            abs(x - other.x) > half + WIDER * text_width(other.text) / 2 or abs(y - other.y) > 14
            for other in texts
        )
        if room:
            texts.append(Text(x, float(y), name, 'middle', 'ink', bold=True, halo=True))
    return texts
