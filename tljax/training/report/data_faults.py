"""The section on faults of the data: likely label errors, and images in several splits."""

import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tljax.data import check
from tljax.data.check import GRAY_PX, CheckedImage
from tljax.metrics import calibration, label_errors
from tljax.metrics.tasks import choice
from tljax.records.figures.axes import share_text
from tljax.records.pages.blocks import Block, Card, Gallery, Heading, Row, Section, Table, Text
from tljax.records.predictions import SplitPredictions
from tljax.training import training_label_errors
from tljax.training.report import equal_texts, images, network_pass, thumbnails
from tljax.training.report.budget import COMPILE_SECONDS
from tljax.training.report.inputs import Inputs, MissingError, split_name
from tljax.training.training_label_errors import LikelyError
from tljax.types import Examples, InputError, TextPreprocessing

CARDS = 10  # the number of likely label errors with an image
LISTED = 500  # the largest number of rows of a table
ONE_LABEL = 'Label errors are searched only if each image has one label.'
PAIRS = 4  # the number of duplicates with images
SECONDS_PER_IMAGE = 0.001  # approximate time to search duplicates
PROBE_SECONDS = 0.001  # approximate time of the probes, per image


def section(inputs: Inputs) -> Section:
    """Likely label errors of held-out and of training images, and duplicates between splits."""
    _, split = inputs.predictions()
    blocks = [
        *([] if split.task.numbers else [*_held_out(inputs), *_of_training(inputs)]),
        Heading(f'The same {inputs.noun[:-1]} in several splits'),
        *_duplicates(inputs),
    ]
    return Section(title='Doubtful data', blocks=blocks)


def _held_out(inputs: Inputs) -> list[Block]:
    """The likely label errors of the split that the page reports."""
    name, split = inputs.predictions()
    blocks: list[Block] = [Heading(f'Labels that may be wrong, {inputs.named(name)}')]
    if not split.task.one_label:
        return [*blocks, Text(ONE_LABEL, 'missing')]
    p = np.asarray(calibration.probabilities(split.task.class_logits(split.logits)))
    errors = label_errors.likely_errors(p, split.labels)
    if not len(errors.places):
        return [*blocks, Text('None is likely.')]
    rows = [
        (images.path_text(split, place), inputs.classes[label], inputs.classes[other], confidence)
        for place, label, other, confidence in zip(*errors, strict=True)
    ]
    note = (
        'Confident learning (Northcutt et al. 2021) estimates the number of wrong labels; these '
        'are the least probable ones. Each is an error of the label or of the network.'
    )
    blocks.append(Text(f'{len(rows)} of {len(split):,} {inputs.noun}. {note}'))
    if cards := _cards(inputs, name, split, errors):
        blocks.append(Gallery(cards=cards))
    return [*blocks, _table(inputs, name, rows)]


def _cards(
    inputs: Inputs, name: str, split: SplitPredictions, errors: label_errors.LabelErrors
) -> list[Card]:
    if _reads_text(inputs):
        return []
    try:
        examples, places = inputs.examples(name)
        model = inputs.run.network.model
        decoded = network_pass.decoded(examples, model, places[errors.places[:CARDS]])
    except (InputError, OSError):
        return []
    cards = []
    for image, place, label, other, confidence in zip(
        images.cropped(inputs, decoded), *errors, strict=False
    ):
        names = inputs.classes[label], inputs.classes[other]
        lines = [f'{names[0]}?', f'likely {names[1]}', f'its label {share_text(confidence)}']
        uri = thumbnails.data_uri(thumbnails.thumbnail(image))
        path = images.path_text(split, place)
        cards.append(Card(images=[(uri, f'labelled {names[0]}')], lines=lines, path=path))
    return cards


def _of_training(inputs: Inputs) -> list[Block]:
    """The likely label errors of the training images, by probes on held-out folds."""
    blocks: list[Block] = [Heading(f'Labels that may be wrong, {inputs.named("train")}')]
    try:
        job = inputs.job
        train = job.splits['train']
        if not job.model.task.one_label:
            raise MissingError(ONE_LABEL)
        seconds = COMPILE_SECONDS + len(train) * (PROBE_SECONDS + inputs.seconds_per_image)
        if seconds > 0.8 * inputs.budget.left:
            raise inputs.no_time(1.5 * seconds)
        errors = training_label_errors.of_job(job)
    except (InputError, OSError) as error:
        return [*blocks, Text(str(error), 'missing')]
    if not errors:
        return [*blocks, Text('None is likely.')]
    note = (
        f'{len(errors)} of {len(train):,} {inputs.noun}, whose labels are the least probable for '
        'linear probes on the features that training started from, each fitted without '
        f'the {inputs.noun[:-1]}.'
    )
    rows = [(e.path or f'id {e.id}', e.label, e.suggested, e.confidence) for e in errors]
    blocks.append(Text(note))
    if cards := _training_cards(inputs, train, errors):
        blocks.append(Gallery(cards=cards))
    return [*blocks, _table(inputs, 'train', rows)]


def _training_cards(inputs: Inputs, train: Examples, errors: Sequence[LikelyError]) -> list[Card]:
    if _reads_text(inputs):
        return []
    places = {int(id_): place for place, id_ in enumerate(train.ids)}
    chosen = errors[: CARDS // 2]
    decoded = network_pass.decoded(
        train, inputs.run.network.model, [places[error.id] for error in chosen]
    )
    cards = []
    for image, error in zip(images.cropped(inputs, decoded), chosen, strict=True):
        lines = [
            f'{error.label}?',
            f'likely {error.suggested}',
            f'its label {share_text(error.confidence)}',
        ]
        uri = thumbnails.data_uri(thumbnails.thumbnail(image))
        path = error.path or f'id {error.id}'
        cards.append(Card(images=[(uri, f'labelled {error.label}')], lines=lines, path=path))
    return cards


def _table(inputs: Inputs, split: str, rows: Sequence[tuple[str, str, str, float]]) -> Table:
    more = f' The first {LISTED} of {len(rows)}.' if len(rows) > LISTED else ''
    return Table(
        name=f'Likely label errors, {inputs.named(split)}',
        columns=(inputs.noun[:-1], 'label', 'likely', 'probability of the label'),
        rows=[
            Row(cells=[path, label, other, share_text(p)])
            for path, label, other, p in rows[:LISTED]
        ],
        texts=(1, 2),
        caption=f'The least probable label first.{more}',
        folded=True,
    )


def _reads_text(inputs: Inputs) -> bool:
    return isinstance(inputs.run.network.preprocessing, TextPreprocessing)


def _duplicates(inputs: Inputs) -> list[Block]:
    """Images in different splits that are equal or similar, or equal texts."""
    try:
        splits = {name: split for name, split in inputs.job.splits.items() if len(split)}
    except InputError as error:
        return [Text(str(error), 'missing')]
    if _reads_text(inputs):
        return equal_texts.blocks(splits)
    count = sum(map(len, splits.values()))
    if count * SECONDS_PER_IMAGE > 0.5 * inputs.budget.left:
        return [Text(str(inputs.no_time(2 * count * SECONDS_PER_IMAGE)), 'missing')]
    seen, places = [], {}
    for name, examples in splits.items():
        for place, image in enumerate(network_pass.stream(examples, inputs.run.network.model)):
            one = checked(image, name, _path(examples, place))
            places[id(one)] = (name, place)
            seen.append(one)
    groups = check.exact_duplicates(seen)
    exact = [g for g in groups if len({one.split for one in g}) > 1]
    pairs = [(group[0], next(o for o in group if o.split != group[0].split)) for group in exact]
    near = check.near_duplicates(seen)
    if not pairs and not near:
        return [Text(f'None among {count:,} images.')]
    note = (
        f'{len(pairs)} groups of images are equal after decoding, and {len(near)} pairs are '
        'similar. A test image that is also a training image makes the result too good.'
    )
    rows = [(one, other, 'equal') for one, other in pairs]
    rows += [(one, other, 'similar') for one, other in near]
    cards = [
        _pair_card(inputs, [places[id(one)], places[id(other)]], kind)
        for one, other, kind in rows[:PAIRS]
    ]
    table = Table(
        name='Images in several splits',
        columns=('image', 'split', 'other image', 'its split', 'relation'),
        rows=[
            Row(cells=[str(one.path), one.split, str(other.path), other.split, kind])
            for one, other, kind in rows[:LISTED]
        ],
        texts=(1, 2, 3, 4),
        folded=True,
    )
    return [Text(note), Gallery(cards=cards, wide=True), table]


def checked(image: np.ndarray, split: str, path: str) -> CheckedImage:
    """The hashes of a decoded image [side, side, C] uint8."""
    rgb = image.repeat(3, -1) if image.shape[-1] == 1 else image[..., :3]
    small = Image.fromarray(rgb).convert('L').resize((GRAY_PX, GRAY_PX), Image.Resampling.BOX)
    gray = np.asarray(small, np.float32)
    return CheckedImage(
        path=pathlib.Path(path),
        split=split,
        label=0,
        sha256=hashlib.sha256(image.tobytes()).hexdigest(),
        hash=check.perceptual_hash(gray),
        gray=gray.reshape(16, 2, 16, 2).mean((1, 3)).astype(np.uint8),
    )


def _path(examples: Examples, place: int) -> str:
    if examples.encoded is None:
        return f'id {examples.ids[place]}'
    return str(examples.encoded[place])


def _pair_card(inputs: Inputs, places: Sequence[tuple[str, int]], kind: str) -> Card:
    pictures, names = [], []
    for name, place in places:
        examples = inputs.job.splits[name]
        decoded = network_pass.decoded(examples, inputs.run.network.model, [place])
        uri = thumbnails.data_uri(thumbnails.thumbnail(images.cropped(inputs, decoded)[0]))
        label = ', '.join(choice.names(examples, place)) or 'no label'
        names.append(f'{split_name(name)}, {label}')
        pictures.append((uri, names[-1]))
    return Card(images=pictures, lines=[kind, *names])
