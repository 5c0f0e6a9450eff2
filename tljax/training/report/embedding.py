"""A map of the images by their features."""

import contextlib
import importlib.util
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from tljax.records.figures import axes, colors
from tljax.records.figures.drawing import Circle, Drawing, Shape, shortened
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Figures, Section, Text
from tljax.training.report import images, network_pass, pairs, thumbnails
from tljax.training.report.inputs import Inputs, split_name
from tljax.types import InputError

POINTS = 1000
THUMBNAILS, THUMB_PX, COLUMNS = 400, 40, 20
LEGEND = 16  # classes that are named
SIDE = 400  # of the map
TSNE_SECONDS = 15.0  # that a map by t-SNE may take
Rows = list[tuple[str, int]]  # split, and place among its predictions


def section(inputs: Inputs) -> Section:
    """The map of validation and test images."""
    rows = _rows(inputs)
    features, source, canvases = _features(inputs, rows)
    points = principal(features)
    shown = [_figure(inputs, rows, points, 'pca', f'PCA of {source}', canvases)]
    if importlib.util.find_spec('openTSNE') and inputs.budget.left > TSNE_SECONDS:
        shown.append(_figure(inputs, rows, _tsne(features), 'tsne', f't-SNE of {source}', None))
    note = (
        f'{len(rows):,} images, colored by class. Rings are errors. Point at an image to see it, '
        'or step through the errors with the arrow keys.'
    )
    return Section(title='Map of the images', blocks=[Text(note), Figures(shown)])


def _rows(inputs: Inputs) -> Rows:
    """Images of all splits, evenly chosen where there are many."""
    rows = [(name, row) for name, split in inputs.splits.items() for row in range(len(split))]
    if len(rows) <= POINTS:
        return rows
    places = np.unique(np.linspace(0, len(rows) - 1, POINTS).round().astype(int))
    return [rows[place] for place in places]


def _of_splits(rows: Rows, arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([arrays[name][row] for name, row in rows])


def _features(inputs: Inputs, rows: Rows) -> tuple[np.ndarray, str, np.ndarray | None]:
    """The features [N, F] of images, what they are, and the decoded images if they are there."""
    canvases = None
    with contextlib.suppress(InputError, OSError):
        canvases = _canvases(inputs, rows)
    features = {name: split.features for name, split in inputs.splits.items()}
    kept = {name: values for name, values in features.items() if values is not None}
    if kept.keys() == features.keys():
        return _of_splits(rows, kept), 'the features before the head', canvases
    pass_ = inputs.network_pass if canvases is not None else None
    each = pass_.seconds_per_image if pass_ else None
    if pass_ and canvases is not None and each and each * len(rows) < 0.4 * inputs.budget.left:
        network = inputs.run.network
        pooled = pass_.outputs(network.params, network.stats, canvases).pooled
        return list(pooled.values())[-1], 'the features before the head', canvases
    logits = {name: split.logits for name, split in inputs.splits.items()}
    return _of_splits(rows, logits), 'the logits', canvases


def _canvases(inputs: Inputs, rows: Rows) -> np.ndarray:
    parts = []
    for name in dict.fromkeys(name for name, _ in rows):
        examples, places = inputs.examples(name)
        chosen = places[[row for split, row in rows if split == name]]
        parts.append(network_pass.canvases(examples, inputs.run.network.model, chosen))
    return np.concatenate(parts)


def principal(features: np.ndarray, components: int = 2) -> np.ndarray:
    """The first principal components [N, components] of features [N, F].

    The sign of each makes its largest entry positive, so that the same features give one map.
    """
    centred = np.asarray(features, np.float64)
    centred = centred - centred.mean(0, keepdims=True)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(centred), components))
    found = (left * values)[:, :components]
    points[:, : found.shape[1]] = found
    largest = np.abs(points).argmax(0)
    signs = np.sign(points[largest, np.arange(components)])
    return points * np.where(signs == 0, 1.0, signs)[None]


def _tsne(features: np.ndarray) -> np.ndarray:
    from openTSNE import TSNE  # type: ignore[import-not-found]

    reduced = principal(features, min(50, *features.shape))
    perplexity = min(30.0, max(2.0, (len(reduced) - 1) / 4))
    return np.asarray(TSNE(perplexity=perplexity, random_state=0, n_jobs=1).fit(reduced))


def _figure(
    inputs: Inputs,
    rows: Rows,
    points: np.ndarray,
    name: str,
    title: str,
    canvases: np.ndarray | None,
) -> Figure:
    """A map; the first one has the data that the script needs."""
    splits = inputs.splits
    right = {split: pairs.right(values) for split, values in splits.items()}
    errors = [not right[split][row] for split, row in rows]
    classes = [_class(splits[split].labels[row]) for split, row in rows]
    overlay = Markup('')
    if name == 'pca':
        overlay = _overlay(inputs, rows, errors, canvases)
    cells = []
    for (split, row), (x, y), label, wrong in zip(rows, points, classes, errors, strict=True):
        path = images.path_text(splits[split], row)
        label_text = inputs.classes[label] if label is not None else ''
        cells.append((split, path, label_text, 'no' if wrong else 'yes', float(x), float(y)))
    return Figure(
        name=f'map-{name}',
        title=f'{title}.',
        alt=f'{len(rows):,} images as points by class; {sum(errors)} are errors.',
        drawing=_drawing(points, classes, errors, inputs.classes),
        columns=('split', 'image', 'class', 'right', 'x', 'y'),
        rows=cells,
        wide=True,
        caption=f'Only the first {LEGEND} classes are named; colors repeat.'
        if len(inputs.classes) > LEGEND
        else '',
        overlay=overlay,
    )


def _class(labels: Any) -> int | None:
    """The class of an image; of several labels the first."""
    if np.ndim(labels) == 0:
        return int(labels)
    there = np.flatnonzero(labels)
    return int(there[0]) if len(there) else None


def _drawing(
    points: np.ndarray,
    classes: Sequence[int | None],
    errors: Sequence[bool],
    names: Sequence[str],
) -> Drawing:
    present = sorted({label for label in classes if label is not None})[:LEGEND]
    entries = [(shortened(names[label], 140), colors.series(label)) for label in present]
    shapes, top = axes.legend(entries, 4, 8)
    low, high = points.min(0), points.max(0)
    x = axes.Scale(float(low[0]), float(high[0]), 10, axes.WIDTH - 10)
    y = axes.Scale(float(low[1]), float(high[1]), top + SIDE - 10, top + 10)
    marks: list[Shape] = []
    order = sorted(range(len(points)), key=lambda i: errors[i])  # errors on top
    for i in order:
        label, at = classes[i], (x(float(points[i, 0])), y(float(points[i, 1])))
        color = 'faint' if label is None else colors.series(label)
        if errors[i]:
            marks.append(Circle(*at, 5, color, 'paper', width=2, index=i))
        else:
            marks.append(Circle(*at, 3, color, opacity=0.75, width=0, index=i))
    return Drawing(axes.WIDTH, top + SIDE, [*shapes, *marks])


def _overlay(
    inputs: Inputs, rows: Rows, errors: Sequence[bool], canvases: np.ndarray | None
) -> Markup:
    """The box that a script fills, and its data: texts, thumbnails, and the errors."""
    texts = []
    for name, row in rows:
        lines = images.lines(inputs.classes, inputs.splits[name], row)
        path = images.path_text(inputs.splits[name], row)
        texts.append([', '.join(lines), f'{split_name(name)}: {path}'])
    sprite, tiles = '', {}
    if canvases is not None:
        chosen = sorted(range(len(rows)), key=lambda i: not errors[i])[:THUMBNAILS]
        tiles = {i: tile for tile, i in enumerate(chosen)}
        sprite = thumbnails.data_uri(_sprite(images.cropped(inputs, canvases[chosen])), 70)
    wrong = [i for i, error in enumerate(errors) if error]
    data = {'texts': texts, 'tiles': tiles, 'errors': wrong, 'columns': COLUMNS, 'px': THUMB_PX}
    return Markup(
        '<div class="tip" role="status" hidden><span class="tile"></span>'
        '<span class="words"></span></div>'
        '<script type="application/json" class="points">{}</script>{}'
    ).format(
        Markup(json.dumps(data).replace('<', '\\u003c')),
        Markup('<img class="sprite" alt="" hidden src="{}">').format(sprite) if sprite else '',
    )


def _sprite(pictures: np.ndarray) -> Image.Image:
    """Thumbnails in rows of `COLUMNS`."""
    lines = -(-len(pictures) // COLUMNS)
    sheet = Image.new('RGB', (COLUMNS * THUMB_PX, lines * THUMB_PX))
    for i, picture in enumerate(pictures):
        place = (i % COLUMNS * THUMB_PX, i // COLUMNS * THUMB_PX)
        sheet.paste(thumbnails.thumbnail(picture, THUMB_PX), place)
    return sheet
