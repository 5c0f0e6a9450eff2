"""The record of a run's samples: their weights, in numbers and in pictures."""

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
from tljax.training.source_data import Samples
from tljax.training.states import SamplesState
from tljax.types import InputError

FILE = 'source.json'
WEIGHTS_FILE = 'source_weights.npz'
SHEET, HISTOGRAM = 'source_sheet.png', 'source_histogram.png'
LISTED = 20  # images of the highest and of the lowest weight
COLUMNS, FONT_PX = 10, 13
THUMB_PX, GAP_PX, CAPTION_PX, TITLE_PX = 96, 8, 44, 28  # a caption has two lines


def write_weights(
    workdir: pathlib.Path, samples: Samples, weights: np.ndarray, clipped: bool
) -> None:
    """Writes the weights that training starts with, atomically."""
    if jax.process_index() > 0:
        return
    part = workdir / f'{WEIGHTS_FILE}.part'
    with part.open('wb') as file:
        names = np.array(samples.examples.class_names)
        labels = samples.examples.labels
        np.savez(file, weights=weights, labels=labels, class_names=names, clipped=clipped)
    part.replace(workdir / WEIGHTS_FILE)


def read_weights(workdir: pathlib.Path) -> tuple[np.ndarray, bool] | None:
    """The weights [N], and whether they were clipped; None if there are none yet.

    Raises:
        InputError: the file is damaged.
    """
    path = workdir / WEIGHTS_FILE
    if not path.exists():
        return None
    try:
        with path.open('rb') as file, np.load(file) as arrays:
            return arrays['weights'], bool(arrays['clipped'])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f'{path} is damaged: {error}') from error


def by_class(samples: Samples, weights: np.ndarray) -> dict[str, Any]:
    """The share of each class in the weight, and the images of highest and lowest weight."""
    if not samples.config.weighted:
        return {}
    labels, names = samples.examples.labels, samples.examples.class_names
    share = np.bincount(labels, weights, len(names)) / weights.sum()
    counts = np.bincount(labels, minlength=len(names))
    rows = [
        {'class': names[k], 'images': int(counts[k]), 'share_of_weight': float(share[k])}
        for k in np.argsort(-share, kind='stable')
        if counts[k]
    ]
    order = np.argsort(-weights, kind='stable')
    ends = {'highest': order[:LISTED], 'lowest': order[::-1][:LISTED]}
    return {'classes': rows} | {
        n: [_image(samples, weights, i) for i in e] for n, e in ends.items()
    }


def _image(samples: Samples, weights: np.ndarray, index: int) -> dict[str, Any]:
    encoded = samples.examples.encoded
    image = str(encoded[index]) if encoded else int(index)
    name = samples.examples.class_names[samples.examples.labels[index]]
    return {'image': image, 'class': name, 'weight': float(weights[index])}


def draw(workdir: pathlib.Path, samples: Samples, weights: np.ndarray) -> None:
    """Draws the contact sheet and, if matplotlib is installed, the histogram of weights."""
    if jax.process_index() > 0 or not samples.config.weighted:
        return
    order = np.argsort(-weights, kind='stable')
    ends = {'highest': order[:LISTED], 'lowest': order[::-1][:LISTED][::-1]}
    sheet(samples, weights, ends).save(workdir / SHEET)
    with contextlib.suppress(plots.NoPictureError):
        plots.histogram(workdir / HISTOGRAM, weights.tolist(), 'weight of a source image', 'images')


def sheet(samples: Samples, weights: np.ndarray, rows: Mapping[str, Any]) -> Image.Image:
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
            picture.paste(_thumbnail(samples, int(index)), (x, y))
            label = samples.examples.class_names[samples.examples.labels[index]]
            caption = f'{label[:12]}\n{weights[index]:.3g}'
            draw.text((x, y + THUMB_PX + GAP_PX // 2), caption, 'black', font)
        top += -(-len(members) // COLUMNS) * height
    return picture


def _thumbnail(samples: Samples, index: int) -> Image.Image:
    """The central square of an image. Pixels of small images stay visible as squares."""
    try:
        image = Image.fromarray(samples.examples.load(index)).convert('RGB')
    except decode.ImageError:
        return Image.new('RGB', (THUMB_PX, THUMB_PX), 'gray')
    small = min(image.size) < THUMB_PX
    sampling = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return ImageOps.fit(image, (THUMB_PX, THUMB_PX), sampling)


def end(workdir: pathlib.Path, samples: Samples, state: SamplesState) -> dict[str, Any]:
    """The results of training on samples: changed weights, or the labels of a pool."""
    weights = np.asarray(state.weights)
    if not weights.any():
        return {'at_the_end': 'no image has any weight'}
    if not samples.reweighing:
        return samples.config.final_record(samples.examples.class_names, state.memory)
    draw(workdir, samples, weights)
    return {'mean_weight_at_the_end': float(weights.mean()), **by_class(samples, weights)}


def text(record: dict[str, Any]) -> str:
    """The lines that a run prints about its samples."""
    size, count = record['effective_sample_size'], record['examples']
    clipped = ', the limit that they were clipped to' if record['clipped'] else ''
    lines = [
        f'Samples: {record["rows_a_step"]} of {count:,} images in each batch; the effective '
        f'sample size of their weights is {size:,.0f} ({size / count:.0%}{clipped}).'
    ]
    if (trial := record['trial']) is not None:
        low, high = trial['interval']
        pairs = len(trial['pairs'])
        meaning = {'hurts': 'samples hurt', 'helps': 'samples help', 'unclear': 'within the noise'}
        lines.append(
            f'Guard: {pairs} pair{"s" * (pairs > 1)} of short runs of {trial["steps"]} of '
            f'{trial["whole"]} steps, compared on {trial["count"]} held-out labelled images: loss '
            f'{trial["with_source"]:.3f} with samples, {trial["without"]:.3f} without '
            f'({trial["difference"]:+.3f}, 90 % interval {low:+.3f} to {high:+.3f}): '
            f'{meaning[trial["says"]]}.'
        )
        if trial['says'] == 'hurts':
            lines.append(
                'Samples are kept because of config.samples.guard; so far, training without them '
                'is better.'
                if record['kept']
                else 'The run continues without samples.'
            )
    return '\n'.join(lines)
