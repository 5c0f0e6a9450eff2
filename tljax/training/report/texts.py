"""The section with texts: confident errors and unconfident hits, and their decisive tokens."""

import numpy as np

from tljax.records.pages.blocks import Block, Heading, Row, Section, Table, Text
from tljax.records.predictions import SplitPredictions
from tljax.training.report import network_pass
from tljax.training.report.inputs import Inputs
from tljax.types import TextPreprocessing

DECISIVE = 8  # tokens of a text that are listed
SHOWN = 60  # tokens of a text that are printed
EXPLAINED = (
    'Decisive tokens: those whose gradient times input is the largest for the logit of the '
    'predicted class, so the largest part of the reason for the prediction.'
)
COLUMNS = ('text', 'label', 'prediction', '', 'decisive tokens', 'beginning')


def section(
    inputs: Inputs,
    name: str,
    split: SplitPredictions,
    groups: dict[str, np.ndarray],
    lines: dict[int, list[str]],
) -> Section:
    """The rows of each group as a table.

    Args:
        inputs: of the page.
        name: of the split.
        split: its predictions.
        groups: rows of the split by the title of their table.
        lines: of each row: the label, the prediction, and a further line.
    """
    preprocessing = inputs.run.network.preprocessing
    assert isinstance(preprocessing, TextPreprocessing)
    rows = np.concatenate(list(groups.values())).astype(int)
    tokens, decisive = _tokens(inputs, name, split, rows, preprocessing)
    blocks: list[Block] = []
    for title, members in groups.items():
        table = [
            Row(cells=[_where(split, row), *lines[row][:3], decisive[row], tokens[row]])
            for row in members.tolist()
        ]
        shown = Table(
            name=title, columns=COLUMNS, rows=table, texts=range(len(COLUMNS)), caption=EXPLAINED
        )
        blocks += [Heading(title), shown if table else Text('None.')]
    return Section(title='Texts', blocks=blocks)


def _where(split: SplitPredictions, row: int) -> str:
    return str(split.paths[row]) or f'id {split.ids[row]}'


def _tokens(
    inputs: Inputs,
    name: str,
    split: SplitPredictions,
    rows: np.ndarray,
    preprocessing: TextPreprocessing,
) -> tuple[dict[int, str], dict[int, str]]:
    """The first tokens of each text, and its decisive ones."""
    if not len(rows):
        return {}, {}
    examples, places = inputs.examples(name)
    network, pass_ = inputs.run.network, inputs.network_pass
    read = network_pass.decoded(examples, network.model, places[rows])
    classes = split.logits[rows].argmax(-1).astype(np.int32)
    weights = pass_.token_importance(network.params, network.stats, read, classes)
    words = preprocessing.vocabulary
    beginnings, decisive = {}, {}
    for row, numbers, importance in zip(rows.tolist(), read, weights, strict=True):
        real = numbers != preprocessing.padding
        beginnings[row] = ' '.join(words[number] for number in numbers[real][:SHOWN])
        order = np.argsort(-importance, kind='stable')[:DECISIVE]
        chosen = [words[numbers[place]] for place in order if importance[place] > 0]
        decisive[row] = ', '.join(dict.fromkeys(chosen))
    return beginnings, decisive
