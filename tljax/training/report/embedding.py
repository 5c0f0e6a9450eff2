"""The section with a map of the images by their features."""

import contextlib
import importlib.util
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from tljax.records.figures import scatter
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Figures, Section, Text
from tljax.training.report import images, pairs, thumbnails
from tljax.training.report.inputs import Inputs, split_name
from tljax.types import InputError

THUMBNAILS, THUMB_PX, COLUMNS = 400, 40, 20  # of the sprite with the thumbnails
BEFORE_HEAD = 'the features before the head'
TSNE_SECONDS = 15.0  # the remaining time that a map by t-SNE needs


def section(inputs: Inputs) -> Section:
    """The map of validation and test images."""
    features, source = _features(inputs)
    features = unit(features)
    figures = [_figure(inputs, principal(features), 'pca', f'PCA of {source}', _pictures(inputs))]
    if importlib.util.find_spec('openTSNE') and inputs.budget.left > TSNE_SECONDS:
        figures.append(_figure(inputs, _tsne(features), 'tsne', f't-SNE of {source}', None))
    note = (
        f'{len(features):,} {inputs.noun}, colored by class. Rings are errors. Point at one to see '
        'it, or step through the errors with the arrow keys.'
    )
    return Section(title=f'Map of the {inputs.noun}', blocks=[Text(note), Figures(figures)])


def _features(inputs: Inputs) -> tuple[np.ndarray, str]:
    """The features [N, F] of the sample and their name; logits if there are no features."""
    features = {name: split.features for name, split in inputs.splits.items()}
    recorded = {name: values for name, values in features.items() if values is not None}
    if len(recorded) == len(features):
        return np.stack([recorded[name][row] for name, row in inputs.sample]), BEFORE_HEAD
    with contextlib.suppress(InputError, OSError):
        places, pooled = inputs.sample_features
        if len(places) == len(inputs.sample):
            return list(pooled.values())[-1], BEFORE_HEAD
    logits = [inputs.splits[name].logits[row] for name, row in inputs.sample]
    return np.stack(logits), 'the logits'


def _pictures(inputs: Inputs) -> np.ndarray | None:
    """The decoded images of the sample; None if they cannot be read."""
    with contextlib.suppress(InputError, OSError):
        if inputs.noun == 'images':
            return inputs.sample_images
    return None


def unit(features: np.ndarray) -> np.ndarray:
    """Scales features [N, F] to length 1, because a few long ones would dominate the map."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)


def principal(features: np.ndarray, components: int = 2) -> np.ndarray:
    """The first principal components [N, components] of features [N, F].

    The largest entry of each is made positive, so that equal features give equal maps.
    """
    centred = np.asarray(features, np.float64)
    centred = centred - centred.mean(0, keepdims=True)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(centred), components))
    scores = (left * values)[:, :components]
    points[:, : scores.shape[1]] = scores
    largest = np.abs(points).argmax(0)
    signs = np.sign(points[largest, np.arange(components)])
    return points * np.where(signs == 0, 1.0, signs)[None]


def _tsne(features: np.ndarray) -> np.ndarray:
    from openTSNE import TSNE  # type: ignore[import-not-found]

    reduced = principal(features, min(50, *features.shape))
    perplexity = min(30.0, max(1.0, (len(reduced) - 1) / 4))
    return np.asarray(TSNE(perplexity=perplexity, random_state=0, n_jobs=1).fit(reduced))


def _figure(
    inputs: Inputs, points: np.ndarray, name: str, title: str, pictures: np.ndarray | None
) -> Figure:
    """A map; the map by PCA has the data for the script of the page."""
    rows, splits = inputs.sample, inputs.splits
    right = {split: pairs.right(values) for split, values in splits.items()}
    errors = [not right[split][row] for split, row in rows]
    classes = [_class(splits[split].labels[row]) for split, row in rows]
    cells = []
    for (split, row), (x, y), label, wrong in zip(rows, points, classes, errors, strict=True):
        path = images.path_text(splits[split], row)
        label_text = inputs.classes[label] if label is not None else ''
        cells.append((split, path, label_text, 'no' if wrong else 'yes', float(x), float(y)))
    few = len(inputs.classes) <= scatter.NAMED
    return Figure(
        name=f'map-{name}',
        title=f'{title}.',
        alt=f'{len(rows):,} {inputs.noun} as points by class; {sum(errors)} are errors.',
        drawing=scatter.scatter(points, classes, errors, inputs.classes),
        columns=('split', inputs.noun[:-1], 'class', 'right', 'x', 'y'),
        rows=cells,
        wide=True,
        caption='' if few else f'Only the first {scatter.NAMED} classes are named; colors repeat.',
        overlay=_overlay(inputs, errors, pictures) if name == 'pca' else Markup(''),
    )


def _class(labels: Any) -> int | None:
    """The class of an image; the first one if it has several labels."""
    if np.ndim(labels) == 0:
        return int(labels)
    classes = np.flatnonzero(labels)
    return int(classes[0]) if len(classes) else None


def _overlay(inputs: Inputs, errors: Sequence[bool], pictures: np.ndarray | None) -> Markup:
    """The box that the script fills, and its data: texts, thumbnails, and the errors."""
    texts = []
    for name, row in inputs.sample:
        lines = images.lines(inputs.classes, inputs.splits[name], row)
        path = images.path_text(inputs.splits[name], row)
        texts.append([', '.join(lines), f'{split_name(name)}: {path}'])
    sprite, tiles = '', {}
    if pictures is not None:
        chosen = sorted(range(len(errors)), key=lambda i: not errors[i])[:THUMBNAILS]
        tiles = {i: tile for tile, i in enumerate(chosen)}
        sprite = thumbnails.data_uri(_sprite(images.cropped(inputs, pictures[chosen])), 70)
    wrong = [i for i, error in enumerate(errors) if error]
    data = {'texts': texts, 'tiles': tiles, 'errors': wrong, 'columns': COLUMNS, 'px': THUMB_PX}
    return Markup(
        '<div class="tip" role="status" hidden><span class="tile"></span>'
        '<span class="text"></span></div>'
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
