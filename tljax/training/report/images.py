"""The section with images: confident errors and unconfident hits, with saliency maps."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from tljax.features import saliency
from tljax.metrics import calibration
from tljax.models import views
from tljax.records.figures.axes import share_text
from tljax.records.pages.blocks import Block, Card, Gallery, Heading, Section, Text
from tljax.records.predictions import SplitPredictions
from tljax.training.report import network_pass, pairs, texts, thumbnails
from tljax.training.report.budget import ASKED_SECONDS, COMPILE_SECONDS
from tljax.training.report.inputs import Inputs, split_name
from tljax.types import InputError, TextPreprocessing

ERRORS, HITS = 18, 8  # the largest numbers of images


def section(inputs: Inputs) -> Section:
    """The most confident errors and the least confident hits, with thumbnails."""
    name, split = inputs.predictions()
    sure, right = _sure(split), pairs.right(split)
    errors, _ = confident_errors(split, ERRORS)
    hits = _chosen(np.flatnonzero(right), sure, HITS)
    if isinstance(inputs.run.network.preprocessing, TextPreprocessing):
        groups = {'The most confident errors': errors, 'The least confident hits': hits}
        described = {row: lines(inputs.classes, split, row) for row in (*errors, *hits)}
        return texts.section(inputs, name, split, groups, described)
    pictures, heats, problem = _pictures(inputs, name, split, errors, hits)
    blocks: list[Block] = []
    for title, rows in (('The most confident errors', errors), ('The least confident hits', hits)):
        cards = [_card(inputs, split, row, pictures, heats) for row in rows]
        none = Text(f'None among the {len(split):,} {split_name(name)} images.')
        gallery = Gallery(cards=cards, wide=any(len(card.images) > 1 for card in cards))
        blocks += [Heading(title), gallery if cards else none]
        if title == 'The most confident errors' and len(heats):
            blocks.append(Text(_explained(inputs), 'caption'))
    if problem:
        blocks.insert(0, Text(problem, 'missing'))
    return Section(title='Images', blocks=blocks)


def confident_errors(split: SplitPredictions, most: int) -> tuple[np.ndarray, int]:
    """The rows of the most confident errors, and the number of all errors."""
    wrong = np.flatnonzero(~pairs.right(split))
    return _chosen(wrong, -_sure(split), most), len(wrong)


def small_pictures(
    inputs: Inputs, name: str, rows: np.ndarray
) -> tuple[dict[int, list[tuple[str, str]]], str]:
    """The images of rows as data URIs with their descriptions, and the reason if there are none."""
    try:
        examples, places = inputs.examples(name)
        decoded = network_pass.decoded(examples, inputs.run.network.model, places[rows])
    except (InputError, OSError) as error:
        return {}, str(error)
    cut = zip(rows.tolist(), cropped(inputs, decoded), strict=True)
    uris = {row: thumbnails.data_uri(thumbnails.thumbnail(image)) for row, image in cut}
    return {row: [(uri, f'image {row}')] for row, uri in uris.items()}, ''


def _sure(split: SplitPredictions) -> np.ndarray:
    """The confidence of each prediction [N]; with several labels, of the least confident one."""
    p = probabilities(split)
    return np.maximum(p, 1 - p).min(-1) if split.task.multi_label else p.max(-1)


def probabilities(split: SplitPredictions) -> np.ndarray:
    """The probabilities [N, K] of a split, without temperature scaling."""
    logits = split.task.class_logits(split.logits)
    return np.asarray(calibration.probabilities(logits, multi_label=split.task.multi_label))


def _chosen(rows: np.ndarray, keys: np.ndarray, most: int) -> np.ndarray:
    """The rows with the least keys."""
    return rows[np.argsort(keys[rows], kind='stable')[:most]]


def cropped(inputs: Inputs, decoded: np.ndarray) -> np.ndarray:
    """The part of decoded images that is the input of the network."""
    return np.asarray(views.centre(jnp.asarray(decoded), inputs.run.network.model.images.size_px))


def _pictures(
    inputs: Inputs,
    name: str,
    split: SplitPredictions,
    errors: np.ndarray,
    hits: np.ndarray,
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], str]:
    """Images and saliency maps by row, and the reason if some are missing."""
    rows = np.concatenate([errors, hits])
    if not len(rows):
        return {}, {}, ''
    try:
        examples, places = inputs.examples(name)
        decoded = network_pass.decoded(examples, inputs.run.network.model, places[rows])
        images = dict(zip(rows.tolist(), cropped(inputs, decoded), strict=True))
    except (InputError, OSError) as error:
        return {}, {}, str(error)
    if not len(errors) or not split.task.calibrated:  # no output belongs to the predicted class
        return images, {}, ''
    if inputs.budget.left < COMPILE_SECONDS:
        note = f'Saliency maps: {inputs.no_time(ASKED_SECONDS)}'
        return images, {}, note
    heats = _heats(inputs, decoded[: len(errors)], split.logits[errors])
    return images, dict(zip(errors.tolist(), heats, strict=True)), ''


def _heats(inputs: Inputs, decoded: np.ndarray, logits: np.ndarray) -> Sequence[np.ndarray]:
    """The saliency maps of the predicted classes; empty if the network has no feature map."""
    network, pass_ = inputs.run.network, inputs.network_pass
    values = network.params, network.stats
    if saliency.has_attention(network.model):
        return list(pass_.attention_rollout(*values, decoded))
    if pass_.stage is None:
        return []
    maps = pass_.outputs(*values, decoded, maps=True).maps
    assert maps is not None
    return list(pass_.grad_cam(*values, maps, logits.argmax(-1).astype(np.int32)))


def _explained(inputs: Inputs) -> str:
    if saliency.has_attention(inputs.run.network.model):
        return (
            'Right: attention rollout (Abnar & Zuidema 2020), the contribution of each patch to '
            'the class token. Bright is high.'
        )
    return (
        f'Right: Grad-CAM (Selvaraju et al. 2017) of {inputs.network_pass.stage}, the contribution '
        'of each position to the predicted class. Bright is high.'
    )


def _card(
    inputs: Inputs,
    split: SplitPredictions,
    row: int,
    images: dict[int, np.ndarray],
    heats: dict[int, np.ndarray],
) -> Card:
    row = int(row)
    written = lines(inputs.classes, split, row)
    pictures = []
    if row in images:
        pictures.append((thumbnails.data_uri(thumbnails.thumbnail(images[row])), written[0]))
    if row in heats:
        heated = thumbnails.heated(images[row], heats[row])
        pictures.append((thumbnails.data_uri(heated), 'saliency map'))
    return Card(images=pictures, lines=written, path=path_text(split, row))


def lines(classes: tuple[str, ...], split: SplitPredictions, row: int) -> list[str]:
    """The true and the predicted class with their probabilities."""
    p = probabilities(dataclasses.replace(split, logits=split.logits[row : row + 1]))[0]
    if split.task.multi_label:
        wrong = np.flatnonzero((split.logits[row] > 0) != split.labels[row])
        labels = ', '.join(classes[i] for i in np.flatnonzero(split.labels[row])) or 'no label'
        least = int(np.maximum(p, 1 - p).argmin())
        listed = wrong[np.argsort(-np.abs(p[wrong] - 0.5))][:3] if len(wrong) else [least]
        return [labels, *(f'{classes[i]} {share_text(p[i], 0)}' for i in listed)]
    label, predicted = int(split.labels[row]), split.task.best(p)
    if label == predicted:
        second = int(np.argsort(-p)[1]) if len(p) > 1 else predicted
        runner_up = f'second: {classes[second]} {share_text(p[second])}'
        return [classes[label], f'correct, {share_text(p[label])}', runner_up]
    return [
        classes[label],
        f'predicted as {classes[predicted]}, {share_text(p[predicted])}',
        f'its label {share_text(p[label])}',
    ]


def path_text(split: SplitPredictions, row: int) -> str:
    """The path of an image, or its id if it has no file."""
    return str(split.paths[row]) or f'id {split.ids[row]}'
