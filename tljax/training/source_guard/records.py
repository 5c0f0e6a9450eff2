"""What a run leaves of its source: what weighs how much, in numbers and in pictures."""

import contextlib
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tljax.data import decode
from tljax.records import plots
from tljax.sample_transfer import UnlabelledPool
from tljax.training.source_data import Sourced
from tljax.training.states import SourceState
from tljax.types import InputError

FILE = 'source.json'
WEIGHTS_FILE = 'source_weights.npz'
SHEET, HISTOGRAM = 'source_sheet.png', 'source_histogram.png'
LISTED = 20  # images of the highest and of the lowest weight
COLUMNS, FONT_PX = 10, 13
THUMB_PX, GAP_PX, CAPTION_PX, TITLE_PX = 96, 8, 44, 28  # a caption has two lines


def write_weights(
    workdir: pathlib.Path, source: Sourced, weights: np.ndarray, clipped: bool
) -> None:
    """Keeps the weights that training starts with, whole or not at all."""
    if jax.process_index() > 0:
        return
    part = workdir / f'{WEIGHTS_FILE}.part'
    with part.open('wb') as file:
        names = np.array(source.examples.class_names)
        labels = source.examples.labels
        np.savez(file, weights=weights, labels=labels, class_names=names, clipped=clipped)
    part.replace(workdir / WEIGHTS_FILE)


def read_weights(workdir: pathlib.Path) -> tuple[np.ndarray, bool] | None:
    """The weights [N], and whether they were clipped; None where there are none yet.

    Raises:
        InputError: the file is damaged.
    """
    path = workdir / WEIGHTS_FILE
    if not path.exists():
        return None
    try:
        with path.open('rb') as file, np.load(file) as found:
            return found['weights'], bool(found['clipped'])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f'{path} is damaged: {error}') from error


def by_class(source: Sourced, weights: np.ndarray) -> dict[str, Any]:
    """The share of the weight that each class has, and the images at both ends."""
    if isinstance(source.config, UnlabelledPool):
        return {}
    labels, names = source.examples.labels, source.examples.class_names
    share = np.bincount(labels, weights, len(names)) / weights.sum()
    counts = np.bincount(labels, minlength=len(names))
    rows = [
        {'class': names[k], 'images': int(counts[k]), 'share_of_weight': float(share[k])}
        for k in np.argsort(-share, kind='stable')
        if counts[k]
    ]
    order = np.argsort(-weights, kind='stable')
    ends = {'highest': order[:LISTED], 'lowest': order[::-1][:LISTED]}
    return {'classes': rows} | {n: [_image(source, weights, i) for i in e] for n, e in ends.items()}


def _image(source: Sourced, weights: np.ndarray, index: int) -> dict[str, Any]:
    encoded = source.examples.encoded
    found = {'image': str(encoded[index]) if encoded else int(index)}
    name = source.examples.class_names[source.examples.labels[index]]
    return {**found, 'class': name, 'weight': float(weights[index])}


def draw(workdir: pathlib.Path, source: Sourced, weights: np.ndarray) -> None:
    """The contact sheet, and the histogram where there is matplotlib to draw it."""
    if jax.process_index() > 0 or isinstance(source.config, UnlabelledPool):
        return
    order = np.argsort(-weights, kind='stable')
    ends = {'highest': order[:LISTED], 'lowest': order[::-1][:LISTED][::-1]}
    sheet(source, weights, ends).save(workdir / SHEET)
    with contextlib.suppress(plots.NoPictureError):
        plots.histogram(workdir / HISTOGRAM, weights.tolist(), 'weight of a source image', 'images')


def sheet(source: Sourced, weights: np.ndarray, rows: Mapping[str, Any]) -> Image.Image:
    """A picture of images with their class and weight, each group under its name."""
    font = ImageFont.load_default(FONT_PX)
    lines = sum(-(-len(members) // COLUMNS) for members in rows.values())
    height, width = THUMB_PX + CAPTION_PX, THUMB_PX + GAP_PX
    size = (COLUMNS * width, lines * height + len(rows) * TITLE_PX)
    picture = Image.new('RGB', size, 'white')
    draw, top = ImageDraw.Draw(picture), 0
    for name, members in rows.items():
        draw.text((GAP_PX // 2, top + TITLE_PX // 2), f'{name} weights', 'black', font, 'lm')
        top += TITLE_PX
        for place, index in enumerate(members):
            x, y = place % COLUMNS * width + GAP_PX // 2, top + place // COLUMNS * height
            picture.paste(_thumbnail(source, int(index)), (x, y))
            label = source.examples.class_names[source.examples.labels[index]]
            caption = f'{label[:12]}\n{weights[index]:.3g}'
            draw.text((x, y + THUMB_PX + GAP_PX // 2), caption, 'black', font)
        top += -(-len(members) // COLUMNS) * height
    return picture


def _thumbnail(source: Sourced, index: int) -> Image.Image:
    """The central square of an image. Pixels of small images stay visible as squares."""
    try:
        image = Image.fromarray(source.examples.load(index)).convert('RGB')
    except decode.ImageError:
        return Image.new('RGB', (THUMB_PX, THUMB_PX), 'gray')
    small = min(image.size) < THUMB_PX
    sampling = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return ImageOps.fit(image, (THUMB_PX, THUMB_PX), sampling)


def end(workdir: pathlib.Path, source: Sourced, state: SourceState) -> dict[str, Any]:
    """What training made of the source: weights that moved, or the labels of a pool."""
    if isinstance(source.config, UnlabelledPool):
        known = np.asarray(state.memory['label'])
        counts = np.bincount(known[known >= 0], minlength=len(source.examples.class_names))
        return {'labelled': dict(zip(source.examples.class_names, counts.tolist(), strict=True))}
    weights = np.asarray(state.weights)
    if not source.reweighing or not weights.any():
        return {} if weights.any() else {'at_the_end': 'no image has any weight'}
    draw(workdir, source, weights)
    return {'mean_weight_at_the_end': float(weights.mean()), **by_class(source, weights)}


def text(found: dict[str, Any]) -> str:
    """What a run says of its source."""
    size, count = found['effective_sample_size'], found['examples']
    lines = [
        f'Source: {found["rows_a_step"]} of {count:,} images a step; by their weights they are '
        f'worth {size:,.0f} ({size / count:.0%}'
        + (', clipped to that' if found['clipped'] else '')
        + ').'
    ]
    if (trial := found['trial']) is not None:
        low, high = trial['interval']
        pairs = len(trial['pairs'])
        times = {1: 'once', 2: 'twice'}.get(pairs, f'{pairs} times')
        said = {'hurts': 'it hurts', 'helps': 'it helps', 'unclear': 'within the noise'}
        lines.append(
            f'Tried {times} for {trial["steps"]} of {trial["whole"]} steps, on {trial["count"]} '
            f'labelled images held out: loss {trial["with_source"]:.3f} with it, '
            f'{trial["without"]:.3f} without '
            f'({trial["difference"]:+.3f}, 90 % interval {low:+.3f} to {high:+.3f}): '
            f'{said[trial["says"]]}.'
        )
        if trial['says'] == 'hurts':
            lines.append(
                'It stays, as guard says: a run without it is better so far.'
                if found['kept']
                else 'The run goes on without the source.'
            )
    return '\n'.join(lines)
