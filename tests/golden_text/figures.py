"""A small AWD-LSTM with weights by formula, whose figures are in `awd_lstm.json`.

`make.py` computed them with torch's own LSTM in float64; `tests/models/test_awd_lstm.py` compares
ours. Full arrays are stored, in the names and layout of torch.
"""

import json
import math
import pathlib
from typing import Any

import numpy as np

from tests import golden_small

FILE = pathlib.Path(__file__).with_name('awd_lstm.json')
VOCABULARY, EMBEDDING, HIDDEN, LAYERS, CLASSES = 12, 6, 8, 3, 4
PADDING = 1
RATE = 0.25  # of every dropout in training mode
WIDTHS = (HIDDEN, HIDDEN, EMBEDDING)
ROWS, TOKENS, WINDOW = 3, 10, 5
LENGTHS = (10, 4, 1)  # of the rows of the classifier


def figures() -> dict[str, Any]:
    """The figures of every pass, by its name."""
    return json.loads(FILE.read_text())


def tokens() -> np.ndarray:
    """[ROWS, TOKENS] int64 without padding."""
    return 2 + np.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) ** 2 % (VOCABULARY - 2)


def padded_tokens() -> np.ndarray:
    """The same, cut to LENGTHS and padded."""
    return np.where(np.arange(TOKENS) < np.array(LENGTHS)[:, None], tokens(), PADDING)


def encoder() -> dict[str, np.ndarray]:
    """The entries of the encoder without a prefix, float32."""
    shapes: dict[str, tuple[int, ...]] = {'encoder.weight': (VOCABULARY, EMBEDDING)}
    for k, (width, below) in enumerate(zip(WIDTHS, (EMBEDDING, *WIDTHS), strict=False)):
        shapes[f'rnns.{k}.weight_hh_l0_raw'] = (4 * width, width)
        shapes[f'rnns.{k}.module.weight_ih_l0'] = (4 * width, below)
        shapes[f'rnns.{k}.module.bias_ih_l0'] = (4 * width,)
        shapes[f'rnns.{k}.module.bias_hh_l0'] = (4 * width,)
    return {name: golden_small.tensor(name, shape) for name, shape in shapes.items()}


def language_model() -> dict[str, np.ndarray]:
    """The state dict of a fastai language model."""
    entries = encoder()
    result = {f'0.{name}': value for name, value in entries.items()}
    result['0.encoder_dp.emb.weight'] = result['1.decoder.weight'] = entries['encoder.weight']
    result['1.decoder.bias'] = golden_small.tensor('1.decoder.bias', (VOCABULARY,))
    return result


def classifier() -> dict[str, np.ndarray]:
    """The state dict of a fastai 2 classifier with a hidden layer of HIDDEN."""
    entries = encoder()
    result = {f'0.module.{name}': value for name, value in entries.items()}
    result['0.module.encoder_dp.emb.weight'] = entries['encoder.weight']
    for layer, inputs, outputs in ((0, 3 * EMBEDDING, HIDDEN), (1, HIDDEN, CLASSES)):
        name = f'1.layers.{layer}'
        for kind in ('weight', 'bias', 'running_mean', 'running_var'):
            result[f'{name}.0.{kind}'] = golden_small.tensor(f'{name}.0.{kind}', (inputs,))
        result[f'{name}.0.num_batches_tracked'] = np.zeros((), np.int64)
        result[f'{name}.2.weight'] = golden_small.tensor(f'{name}.2.weight', (outputs, inputs))
    return result


def weights_of_loss(shape: tuple[int, ...]) -> np.ndarray:
    """The loss is the sum of the outputs times these."""
    return golden_small.tensor('weights of the loss', shape) / math.prod(shape)


def keeps(shape: tuple[int, ...]) -> np.ndarray:
    """The elements that a dropout of this shape (torch's layout) keeps; about three of four."""
    index = np.arange(math.prod(shape)).reshape(shape)
    return (7 * index + index // 5 + len(shape)) % 4 != 0
