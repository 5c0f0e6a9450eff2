"""The model card of an exported network: architecture, training, metrics and origin."""

import html
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tljax import tree
from tljax.models import port
from tljax.records import run_copies, runs, tables
from tljax.records.runs import Run
from tljax.types import TextPreprocessing
from tljax.weights.pretrained import Pretrained

MARK = '<!-- written by tljax.commands.export -->'
SPDX = (
    'apache-2.0',
    'mit',
    'bsd-3-clause',
    'cc0-1.0',
    'cc-by-4.0',
    'cc-by-nc-4.0',
)  # identifiers of the Hugging Face hub

ONNX = 'onnx'  # stands for the names of a library, which an ONNX model does not have
SNIPPETS = {
    'torchvision': """\
from safetensors.torch import load_file
model = ...  # this architecture in torchvision, with {classes} classes
model.load_state_dict(load_file({file!r}), strict=True)""",
    'timm': """\
import timm
from safetensors.torch import load_file
model = timm.create_model(..., num_classes={classes})  # timm's name of this architecture
model.load_state_dict(load_file({file!r}), strict=True)""",
    port.OWN: """\
import tljax
network = tljax.load({file!r})
network.predict(images)  # uint8 [B, h, w, 3]""",
    '': """\
import jax
program = jax.export.deserialize(bytearray(open({file!r}, 'rb').read()))
program.call(images)  # uint8, probabilities [b, {classes}]""",
    ONNX: """\
import onnxruntime
session = onnxruntime.InferenceSession({file!r})
session.run(None, {{'images': images}})  # uint8 [b, h, w, 3], probabilities [b, {classes}]""",
}


def place_for(out: pathlib.Path) -> pathlib.Path:
    """The path of the card: README.md, or the file's name with .md if a foreign README exists."""
    card = out.with_name('README.md')
    if card.exists() and MARK not in card.read_text(errors='replace'):
        return out.with_suffix('.md')
    return card


def text(pretrained: Pretrained, workdir: str, file: str, naming: str) -> str:
    """The card, in Markdown with the front matter that hubs read.

    Args:
        pretrained: the exported network.
        workdir: the run's folder, or another source of weights.
        file: the name of the exported file.
        naming: the library whose names the entries have; empty for a program.
    """
    is_run = pretrained.origin.format == 'run'
    run = runs.read(run_copies.folder(workdir)) if is_run else None
    parts = [
        _front_matter(pretrained),
        MARK,
        f'# {_title(pretrained, run)}',
        _network(pretrained, naming),
        _use(pretrained, file, naming),
        _training(run) if run else '',
        _metrics(run) if run else '',
        _calibration(pretrained, run, naming),
        _preprocessing(pretrained),
        _origin(pretrained, run),
    ]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _front_matter(pretrained: Pretrained) -> str:
    lines = ['---', 'pipeline_tag: image-classification', 'tags: [tljax, transfer-learning]']
    licence = pretrained.origin.licence
    if licence and licence.lower() in SPDX:
        lines.append(f'license: {licence.lower()}')
    elif licence:
        lines += ['license: other', f'license_name: {json.dumps(licence)}']
    return '\n'.join([*lines, '---'])


def _title(pretrained: Pretrained, run: Run | None) -> str:
    family = type(pretrained.architecture.backbone).__name__
    if run is None:
        return f'{family} from {as_text(pretrained.origin.source)}'
    data = as_text(_class_name(run.config['data']))
    return f'{family} on {data}, {run.task.counted(len(run.class_names))}'


def _network(pretrained: Pretrained, naming: str) -> str:
    names = f', entries with the names of {naming}' if naming not in ('', ONNX) else ''
    count = tree.count(pretrained.params)
    architecture = pretrained.architecture
    text = f'{_code(str(architecture.backbone))}{names}; {count:,} parameters.'
    if architecture.cut_after:
        text += f' Cut after {_code(architecture.cut_after)}.'
    if architecture.head:
        text += f' Head: {_code(str(architecture.head))}.'
    return text


def _use(pretrained: Pretrained, file: str, naming: str) -> str:
    snippet = SNIPPETS.get(naming, SNIPPETS['torchvision'].replace('torchvision', naming))
    classes = pretrained.num_classes
    names = pretrained.origin.class_names
    listed = (
        f'\n\nClasses, in the order of the logits: {", ".join(map(as_text, names))}.'
        if names
        else ''
    )
    return f'## Use\n\n```python\n{snippet.format(file=file, classes=classes)}\n```{listed}'


def _training(run: Run) -> str:
    """A table of the run's config."""
    rows = ['## Training', '', '| | |', '| --- | --- |']
    for name, value in run.config.items():
        if name not in ('class', 'backbone', 'baselines') and value not in (None, []):
            rows.append(f'| {as_text(name)} | {as_text(_value(value))} |')
    if run.result:
        rows.append(f'| training images | {run.result["train_count"]:,} |')
        rows.append(f'| checkpoint | step {run.result["step"]:,} of {run.result["steps"]:,} |')
    return '\n'.join(rows)


def _value(value: Any) -> str:
    """`SGD(learning_rate=0.05, ...)` from the JSON form of an object."""
    if isinstance(value, list):
        return ', '.join(map(_value, value))
    if isinstance(value, Mapping) and 'class' in value:
        fields = ', '.join(f'{k}={_value(v)}' for k, v in value.items() if k != 'class')
        return f'{_class_name(value)}({fields})'
    if isinstance(value, Mapping):
        return str(value.get('value', dict(value)))
    return str(value)


def _class_name(encoded: Mapping[str, Any]) -> str:
    return encoded['class'].partition(':')[2]


def as_text(text: str) -> str:
    """A text as one line of Markdown, with special characters escaped."""
    line = ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())
    marked = re.sub(r'([\\`*_\[\]|~#!]|(?<=:)/|(?<=:/)/|(?<=www)\.)', r'\\\1', line)
    return html.escape(marked, quote=False)


def _code(text: str) -> str:
    """A code span in one line; its fence is longer than any run of backticks inside."""
    line = ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())
    runs_inside = re.findall('`+', line)
    if not runs_inside:
        return f'`{line}`'
    fence = '`' * (1 + max(map(len, runs_inside)))
    return f'{fence} {line} {fence}'


def _metrics(run: Run) -> str:
    if run.result is None:
        return f'## Metrics\n\nThe run is not finished; these are the values of step {run.step}.'
    rows = ['## Metrics', '']
    for split in ('val', 'test'):
        if metrics := run.result.get(split):
            measures = tables.measures(metrics)
            if len(rows) == 2:
                rows.append(f'| split | images | {" | ".join(measures)} |')
                rows.append('| --- ' * (len(measures) + 2) + '|')
            rows.append(f'| {split} | {metrics["count"]:,} | {" | ".join(measures.values())} |')
    return '\n'.join(rows)


def _calibration(pretrained: Pretrained, run: Run | None, naming: str) -> str:
    """The temperature, what applies it, and the calibration before and after."""
    temperature = pretrained.origin.temperature
    if temperature is None:
        return ''
    applies = {
        '': 'The program divides',
        ONNX: 'The model divides',
        port.OWN: '`network.predict` divides',
    }
    text = (
        f'{applies.get(naming, "For calibrated probabilities, divide")} the logits by the '
        f'temperature {temperature:.4g}.'
    )
    found = (run.result or {}).get('calibration') if run else None
    if not found:
        return f'## Calibration\n\n{text}'
    unsure = ' It is unsure.' if found['unsure'] else ''
    rows = [f'## Calibration\n\n{text} It was fitted to {found["images"]:,} images.{unsure}', '']
    rows += ['| split | ECE before | ECE after | NLL before | NLL after |', '| --- ' * 5 + '|']
    for split in ('val', 'test'):
        if both := found.get(split):
            pair = both['before'], both['after']
            cells = [f'{100 * one["ece"]:.1f} %' for one in pair]
            cells += [f'{one["negative_log_likelihood"]:.3f}' for one in pair]
            rows.append(f'| {split} | {" | ".join(cells)} |')
    return '\n'.join(rows)


def _preprocessing(pretrained: Pretrained) -> str:
    images, stated = pretrained.preprocessing, ''
    if isinstance(images, TextPreprocessing):
        return (
            '## Preprocessing\n\nTexts are split into tokens by the rules of fastai. The first '
            f'{images.most_tokens} of them are read, with a vocabulary of '
            f'{len(images.vocabulary):,} tokens.'
        )
    if not pretrained.origin.preprocessing_is_stated:
        stated = " These are the family's usual values, because the weights state none."
    return (
        '## Preprocessing\n\n'
        f'The short side is resized to {images.resize_px} px ({images.interpolation.value}, '
        f'antialiased), the central {images.size_px} x {images.size_px} px are cropped, values are '
        f'scaled to [0, 1], then (x - mean) / std with mean {list(images.mean)} and std '
        f'{list(images.std)}.{stated}'
    )


def _origin(pretrained: Pretrained, run: Run | None) -> str:
    """The origin of the weights that training started from."""
    if run is None:
        record = pretrained.record()
    elif run.weights is None:
        return '## Source of the weights\n\nTraining began from random weights.'
    else:
        record = run.weights
    licence = record['licence'] or 'unknown; ask the publisher'
    lines = [
        '## Source of the weights',
        '',
        f'- source: {_code(record["source"])}',
        f'- SHA-256: `{record["sha256"]}`',
        f'- licence: {as_text(licence)}',
    ]
    return '\n'.join(lines)
