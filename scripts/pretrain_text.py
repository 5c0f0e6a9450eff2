"""Pretrains the small language model that tljax ships, on documentation that is installed with it.

    python -m scripts.pretrain_text --out=docs.safetensors

The text is Python's language reference and the docstrings of its standard library (PSF licence),
and the docstrings of NumPy, scikit-learn (BSD-3-Clause), Matplotlib (its own licence, like PSF's),
JAX, Flax, Optax and Orbax (Apache-2.0): 2.2 million tokens, without sections of examples. SciPy's
docstrings are left out, because `Docstrings` has them as target. Other releases of the packages
have other texts.

Took 25 minutes on 2 CPU cores that other work used, too. The perplexity on 2 % of the texts, which
are not trained on, is 33.7 (seed 0); it is printed and stored in the file.
"""

import argparse
import dataclasses
import functools
import importlib
import json
import math
import pathlib
import sysconfig
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tljax.data import docstrings, text_tokens, text_vocabulary
from tljax.data.text_rows import Windows
from tljax.models import language_model, preprocessing, stages
from tljax.models.backbones.awd_lstm import AWDLSTM
from tljax.models.stages import Model
from tljax.types import Params, Stats, TextPreprocessing
from tljax.weights import own_format

PACKAGES = ('numpy', 'sklearn', 'matplotlib', 'jax', 'flax', 'optax', 'orbax')
NO_DOCUMENTATION = {'site-packages', 'dist-packages', 'test', 'tests', 'idlelib', 'lib2to3'}
VOCABULARY = 6000  # the most tokens of it
BATCH_SIZE, WINDOW = 32, 64  # rows, and tokens of a row in a step
LEARNING_RATE = 8e-3
SPREAD = 3.0  # of the first embeddings; with 1, training takes longer to leave word frequencies
HELD_OUT = 50  # every 50th text is not trained on
BACKBONE = AWDLSTM(
    layers=2,
    hidden=160,
    embedding=64,
    language_model=True,
    embedding_dropout=0.02,
    input_dropout=0.25,
    weight_dropout=0.2,
    hidden_dropout=0.15,
    output_dropout=0.1,
    dropout_scale=0.1,  # the network is small for its text
)


def corpus() -> Iterator[str]:
    """The texts, without the sections of examples."""
    yield from importlib.import_module('pydoc_data.topics').topics.values()
    library = pathlib.Path(sysconfig.get_paths()['stdlib'])
    for path in sorted(library.rglob('*.py')):
        if not NO_DOCUMENTATION & set(path.relative_to(library).parts):
            yield from map(_prose, docstrings.of_file(path))
    for package in PACKAGES:
        yield from (_prose(text) for _, text in docstrings.of_package(package))


def _prose(text: str) -> str:
    return docstrings.EXAMPLES.sub('', text)


def prepared() -> tuple[tuple[str, ...], list[np.ndarray], list[np.ndarray]]:
    """The vocabulary, and the numbers of the tokens of the texts to train on and of the others."""
    texts = list(map(text_tokens.tokens, dict.fromkeys(corpus())))
    train = [text for index, text in enumerate(texts) if index % HELD_OUT]
    vocabulary = text_vocabulary.build(train, most_tokens=VOCABULARY)
    numbers = text_vocabulary.Numbers(vocabulary)
    return vocabulary, list(map(numbers, train)), list(map(numbers, texts[::HELD_OUT]))


def loss_of(
    model: Model, params: Params, states: Stats, tokens: jax.Array, following: jax.Array, **how
) -> tuple[jax.Array, Stats]:
    """The mean loss of a window, and the states after it."""
    logits, stats = stages.run(model, params, language_model.joined({}, states), tokens, **how)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, following)
    after = language_model.separated(stats, states)[1]
    assert after is not None
    return losses.mean(), after


def train(model: Model, texts: list[np.ndarray], epochs: int, seed: int, backward: bool) -> Params:
    """Trains on all texts; prints its progress."""
    windows = Windows(texts, batch_size=BATCH_SIZE, window=WINDOW, seed=seed, backward=backward)
    total = epochs * windows.steps
    rate = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, total // 20, total, 1e-5)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.01))
    params, _ = stages.init(model, jax.random.key(seed))
    params['embed']['embedding'] *= SPREAD
    opt, states = optimizer.init(params), language_model.start_states(model, BATCH_SIZE)
    key, started, recent = jax.random.key(seed), time.perf_counter(), []

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, opt, states, n, tokens, following):
        how = {'trainable': model.names, 'dropout_key': jax.random.fold_in(key, n)}
        objective = functools.partial(loss_of, model, **how)
        gradient = jax.value_and_grad(objective, has_aux=True)
        (loss, states), grads = gradient(params, states, tokens, following)
        updates, opt = optimizer.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, states, loss

    for n in range(total):
        tokens, following, _ = windows(n)
        params, opt, states, loss = step(params, opt, states, n, tokens, following)
        recent.append(loss)
        if (n + 1) % 50 == 0 or n + 1 == total:
            perplexity = math.exp(float(jnp.mean(jnp.stack(recent))))
            seconds, recent = time.perf_counter() - started, []
            print(f'step {n + 1}/{total}  perplexity {perplexity:.1f}  {seconds:.0f} s', flush=True)
    return params


def held_out_perplexity(
    model: Model, params: Params, texts: list[np.ndarray], backward: bool
) -> float:
    """The perplexity on texts that training never showed."""
    windows = Windows(texts, batch_size=8, window=WINDOW, seed=0, backward=backward)
    states, losses = language_model.start_states(model, 8), []
    evaluate = jax.jit(functools.partial(loss_of, model))
    for n in range(windows.steps):
        tokens, following, _ = windows(n)
        loss, states = evaluate(params, states, tokens, following)
        losses.append(float(loss))
    return math.exp(float(np.mean(losses)))


def main() -> None:
    """Trains, measures and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--out', type=pathlib.Path, required=True, help='the file to write')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--epochs', type=int, default=1)
    parser.add_argument('--backward', action='store_true', help='reads the text from its end')
    arguments = parser.parse_args()
    started = time.perf_counter()
    vocabulary, texts, held_out = prepared()
    print(f'{len(texts)} texts of {sum(map(len, texts))} tokens, {len(vocabulary)} different')
    text = TextPreprocessing(vocabulary=vocabulary, backward=arguments.backward)
    backbone = dataclasses.replace(BACKBONE, vocabulary=len(vocabulary))
    model = stages.build(backbone, len(vocabulary), preprocessing=text)
    params = train(model, texts, arguments.epochs, arguments.seed, arguments.backward)
    perplexity = held_out_perplexity(model, params, held_out, arguments.backward)
    metadata = {
        'preprocessing': json.dumps(preprocessing.to_fields(text)),
        'licence': 'Apache-2.0',
        'origin': 'scripts/pretrain_text.py',
        'held_out_perplexity': f'{perplexity:.2f}',
    }
    half = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16), params)
    own_format.save(arguments.out, half, {}, metadata)
    minutes = (time.perf_counter() - started) / 60
    print(f'perplexity on held-out texts {perplexity:.2f}; {minutes:.1f} min; {arguments.out}')


if __name__ == '__main__':
    main()
