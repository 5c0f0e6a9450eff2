"""Writes the figures of a small AWD-LSTM, computed by torch's own LSTM in float64.

    python -m tests.golden_text.make

Needs torch. The network is written here from Merity et al. 2017 and Howard & Ruder 2018, so that it
shares nothing with tljax; a check against fastai 2.8.12 gave the same figures.
"""

# pyright: reportMissingImports=false

import json
from typing import Any

import torch
from torch.nn import functional

from tests.golden_text import figures as f

DIGITS = 9


def kept(x: torch.Tensor, shape: tuple[int, ...], training: bool) -> torch.Tensor:
    """Dropout with the mask of `figures.keeps`, of a shape that is repeated over `x`."""
    keep = torch.from_numpy(f.keeps(shape)).double()
    return x * keep / (1 - f.RATE) if training else x


class Encoder:
    """The parameters by fastai's names, and the forward pass."""

    def __init__(self, entries: dict[str, Any]):
        self.entries = {
            name: torch.from_numpy(value).double().requires_grad_()
            for name, value in entries.items()
        }

    def __call__(
        self, tokens: torch.Tensor, states: list[Any], training: bool
    ) -> tuple[torch.Tensor, list[Any]]:
        """Features [B, T, E] of tokens [B, T], and (h, c) of every layer."""
        table = kept(self.entries['encoder.weight'], (f.VOCABULARY, 1), training)
        x, after = table[tokens], []
        for k, width in enumerate(f.WIDTHS):
            x = kept(x, (len(x), 1, x.shape[-1]), training)
            layer = torch.nn.LSTM(x.shape[-1], width, batch_first=True).double()
            raw = self.entries[f'rnns.{k}.weight_hh_l0_raw']
            weights = {
                'weight_hh_l0': kept(raw, tuple(raw.shape), training),
                **{
                    n: self.entries[f'rnns.{k}.module.{n}']
                    for n in ('weight_ih_l0', 'bias_ih_l0', 'bias_hh_l0')
                },
            }
            x, state = torch.func.functional_call(layer, weights, (x, states[k]))
            after.append(state)
        return x, after


def zeros() -> list[Any]:
    """The states before the first token."""
    return [tuple(torch.zeros(1, f.ROWS, w).double() for _ in range(2)) for w in f.WIDTHS]


def language(training: bool, windows: int) -> dict[str, Any]:
    """The language model over windows of tokens, with gradients stopped between them."""
    encoder = Encoder(f.encoder())
    entries = f.language_model()
    bias = torch.from_numpy(entries['1.decoder.bias']).double().requires_grad_()
    states, logits, loss = zeros(), [], torch.zeros(())
    for tokens in torch.from_numpy(f.tokens()).chunk(windows, 1):
        states = [tuple(part.detach() for part in state) for state in states]
        x, states = encoder(tokens, states, training)
        x = kept(x, (len(x), 1, x.shape[-1]), training)
        logits.append(x @ encoder.entries['encoder.weight'].T + bias)
        weights = torch.from_numpy(f.weights_of_loss(tuple(logits[-1].shape)))
        loss = loss + (logits[-1] * weights).sum()
    loss.backward()
    gradients = {f'0.{name}': x.grad for name, x in encoder.entries.items()}
    return {
        'logits': listed(torch.cat(logits, 1)),
        'states': [[listed(part[0]) for part in state] for state in states],
        'gradients': {n: listed(x) for n, x in gradients.items()}
        | {'1.decoder.bias': listed(bias.grad)},
    }


def classifier(training: bool) -> dict[str, Any]:
    """The classifier, each row alone and without padding up to the pooling."""
    encoder, entries = Encoder(f.encoder()), f.classifier()
    head = {n: torch.from_numpy(v).double() for n, v in entries.items() if n.startswith('1.')}
    trained = [n for n in head if not n.endswith(('mean', 'var', 'tracked'))]
    for name in trained:
        head[name].requires_grad_()
    tokens = torch.from_numpy(f.tokens())
    features, _ = encoder(tokens, zeros(), training)
    rows = [row[:length] for row, length in zip(features, f.LENGTHS, strict=True)]
    x = torch.stack([torch.cat([row[-1], row.max(0)[0], row.mean(0)]) for row in rows])
    for layer in range(2):
        name = f'1.layers.{layer}'
        norm = [
            head[f'{name}.0.{kind}'] for kind in ('running_mean', 'running_var', 'weight', 'bias')
        ]
        x = functional.batch_norm(x, *norm, training=training, momentum=0.1)
        x = kept(x, tuple(x.shape), training) @ head[f'{name}.2.weight'].T
        x = torch.relu(x) if layer == 0 else x
    (x * torch.from_numpy(f.weights_of_loss(tuple(x.shape)))).sum().backward()
    gradients = {f'0.module.{name}': value.grad for name, value in encoder.entries.items()}
    gradients |= {name: head[name].grad for name in trained}
    running = {n: listed(v) for n, v in head.items() if 'running' in n}
    return {
        'logits': listed(x),
        'gradients': {name: listed(value) for name, value in gradients.items()},
        'running': running,
    }


def listed(x: torch.Tensor) -> Any:
    """Nested lists of rounded numbers."""
    if x.ndim:
        return [listed(row) for row in x]
    return float(f'{float(x.detach()):.{DIGITS}g}')


if __name__ == '__main__':
    result = {
        'language model': language(training=False, windows=1),
        'language model, truncated': language(training=False, windows=f.TOKENS // f.WINDOW),
        'language model, training': language(training=True, windows=1),
        'classifier': classifier(training=False),
        'classifier, training': classifier(training=True),
    }
    f.FILE.write_text(json.dumps(result) + '\n')
