"""AWD-LSTM against torch's LSTM: outputs, states and gradients, padding, names and tied weights."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden_text import figures as f
from tljax import tree
from tljax.models import language_model, port, recurrent, stages
from tljax.models.backbones.awd_lstm import AWDLSTM
from tljax.types import Dtype, InputError
from tljax.weights import loading

RATES = tuple(
    f'{part}_dropout' for part in ('embedding', 'input', 'weight', 'hidden', 'output', 'classifier')
)
KINDS = {'language model': f.language_model, 'classifier': f.classifier}


@functools.cache
def network(kind):
    """The model with dropout, its naming, and its loaded parameters and statistics."""
    pretrained = loading.load(KINDS[kind]())
    backbone = pretrained.architecture.backbone
    for name in RATES:
        setattr(backbone, name, f.RATE)
    model = stages.build(backbone, pretrained.num_classes)
    return model, pretrained.origin.naming, pretrained.params, pretrained.stats


def in_float64(values):
    """A tree of float64 arrays."""
    return jax.tree.map(lambda x: jnp.asarray(x, 'float64'), values)


def fixed_dropout(monkeypatch):
    """Replaces the random masks by those of the figures; weights have torch's layout there."""

    def call(self, x, deterministic=None, **_):
        if self.deterministic or deterministic or not self.rate:
            return x
        shape = tuple(1 if i in self.broadcast_dims else n for i, n in enumerate(x.shape))
        weights = len(shape) == 2 and shape[1] == 4 * shape[0]
        keep = f.keeps(shape[::-1]).T if weights else f.keeps(shape)
        return x * jnp.asarray(keep, x.dtype) / (1 - self.rate)

    monkeypatch.setattr(nn.Dropout, '__call__', call)


def assert_near(ours, wanted):
    """Equal to 1e-5 of the largest value; one that is no array is a tree of them."""
    wanted = np.asarray(wanted)
    largest = np.abs(wanted).max()
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5 * largest)
    assert largest > 0


def assert_gradients(naming, model, gradients, wanted):
    """Every gradient under its foreign name; the copies of the embedding have none."""
    backbone = AWDLSTM(language_model='decoder' in str(list(wanted)), classifier_bias=False)
    foreign = port.to_foreign(
        {f'params/{path}': leaf for path, leaf in tree.flatten(gradients).items()},
        backbone.port_tables()[naming],
    )
    assert wanted.keys() <= foreign.keys()
    for name, gradient in wanted.items():
        assert_near(foreign[name], gradient)


def run_window(model, params, states, tokens, dropout_key):
    trainable = model.names if dropout_key is not None else ()
    how = {'trainable': trainable, 'dropout_key': dropout_key}
    logits, stats = stages.run(model, params, language_model.joined({}, states), tokens, **how)
    stats, states = language_model.separated(stats, states)
    assert stats == {}
    return logits, states


@pytest.mark.parametrize(
    ('case', 'windows', 'trains'),
    [
        ('language model', 1, False),
        ('language model, truncated', f.TOKENS // f.WINDOW, False),
        ('language model, training', 1, True),
    ],
)
def test_the_language_model_equals_torchs_lstm(case, windows, trains, monkeypatch):
    model, naming, params, _ = network('language model')
    wanted = f.figures()[case]
    fixed_dropout(monkeypatch)
    key = jax.random.key(0) if trains else None

    def loss(params):
        states, outputs, total = in_float64(language_model.start_states(model, f.ROWS)), [], 0.0
        for tokens in np.split(f.tokens(), windows, 1):
            logits, states = run_window(model, params, states, tokens, dropout_key=key)
            outputs.append(logits)
            total += (logits * f.weights_of_loss(logits.shape)).sum()
        return total, (jnp.concatenate(outputs, 1), states)

    with jax.enable_x64(True):
        step = jax.jit(jax.grad(loss, has_aux=True))
        gradients, (logits, states) = jax.device_get(step(in_float64(params)))
    assert_near(logits, wanted['logits'])
    carried = [states[f'lstm{k}'][recurrent.CARRIED] for k in range(1, len(states) + 1)]
    for ours, other in zip(carried, wanted['states'], strict=True):
        for part, expected in zip(ours, other, strict=True):
            assert_near(part, expected)
    assert_gradients(naming, model, gradients, wanted['gradients'])


@pytest.mark.parametrize('trains', [False, True])
def test_the_classifier_of_padded_rows_equals_torchs_of_rows_without_padding(trains, monkeypatch):
    model, naming, params, stats = network('classifier')
    wanted = f.figures()['classifier, training' if trains else 'classifier']
    fixed_dropout(monkeypatch)
    how = {'trainable': model.names, 'dropout_key': jax.random.key(0)} if trains else {}

    def loss(params, stats):
        logits, stats = stages.run(model, params, stats, f.padded_tokens(), **how)
        return (logits * f.weights_of_loss(logits.shape)).sum(), (logits, stats)

    with jax.enable_x64(True):
        step = jax.jit(jax.grad(loss, has_aux=True))
        gradients, (logits, after) = jax.device_get(step(in_float64(params), in_float64(stats)))
    assert_near(logits, wanted['logits'])
    assert_gradients(naming, model, gradients, wanted['gradients'])
    table = AWDLSTM(classifier_bias=False).port_tables()[naming]
    leaves = {f'batch_stats/{path}': leaf for path, leaf in tree.flatten(after).items()}
    foreign = port.to_foreign(leaves, table)
    for name, value in wanted['running'].items():
        if trains:
            assert_near(foreign[name], value)


@pytest.mark.parametrize('left', [False, True], ids=['right', 'left'])
def test_padding_changes_no_output_of_a_row(left):
    model, _, params, stats = network('classifier')
    run = jax.jit(lambda tokens: stages.run(model, params, stats, tokens)[0])
    row = f.tokens()[:1, :4]
    padding = np.full((1, 6), f.PADDING)
    padded = np.concatenate([padding, row] if left else [row, padding], 1)
    np.testing.assert_allclose(run(padded), run(row), rtol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_is_written_with_its_names_and_bits(kind):
    _, naming, params, stats = network(kind)
    entries = KINDS[kind]()
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    backbone = AWDLSTM(language_model=kind == 'language model', classifier_bias=False)
    foreign = port.to_foreign(leaves, backbone.port_tables()[naming])
    assert foreign.keys() == entries.keys()
    for name, value in entries.items():
        np.testing.assert_array_equal(foreign[name], value)


def sizes(backbone):
    """The sizes that entries show."""
    return backbone.layers, backbone.widths, backbone.embedding, backbone.vocabulary


def test_the_sizes_of_a_file_are_recognised():
    for kind, entries in KINDS.items():
        backbone = loading.load(entries()).architecture.backbone
        assert sizes(backbone) == (f.LAYERS, f.WIDTHS, f.EMBEDDING, f.VOCABULARY)
        assert backbone.language_model == (kind == 'language model')


def test_the_encoder_of_a_file_without_a_head_is_loaded():
    encoder = f.encoder()
    pretrained = loading.load({**encoder, 'encoder_dp.emb.weight': encoder['encoder.weight']})
    assert list(pretrained.params) == ['embed', 'lstm1', 'lstm2', 'lstm3']
    _, _, params, _ = network('language model')
    for name in pretrained.params:
        jax.tree.map(np.testing.assert_array_equal, pretrained.params[name], params[name])


def test_fastai_1_stores_weights_after_dropout_that_are_not_loaded():
    entries = f.language_model()
    for k in range(f.LAYERS):
        raw = entries[f'0.rnns.{k}.weight_hh_l0_raw']
        entries[f'0.rnns.{k}.module.weight_hh_l0'] = raw * 2
    params = loading.load(entries).params
    jax.tree.map(np.testing.assert_array_equal, params, network('language model')[2])


def test_hidden_weights_of_a_network_without_weight_dropout_are_loaded():
    entries = {
        name.replace('weight_hh_l0_raw', 'module.weight_hh_l0'): value
        for name, value in f.language_model().items()
    }
    params = loading.load(entries).params
    jax.tree.map(np.testing.assert_array_equal, params, network('language model')[2])


def test_a_decoder_that_is_not_tied_is_refused():
    entries = f.language_model()
    entries['1.decoder.weight'] = entries['1.decoder.weight'] + 1
    with pytest.raises(InputError, match=r'1.decoder.weight.* \(differs from 0.encoder.weight'):
        loading.load(entries)


def plain(names):
    """A language model of two layers in torch with the decoder's own kernel; random entries."""
    embedding, lstm, output = names
    rng = np.random.default_rng(0)
    shapes = {f'{embedding}.weight': (9, 5), f'{output}.weight': (9, 7), f'{output}.bias': (9,)}
    for k, below in enumerate((5, 7)):
        shapes |= {
            f'{lstm}.weight_ih_l{k}': (28, below), f'{lstm}.weight_hh_l{k}': (28, 7),
            f'{lstm}.bias_ih_l{k}': (28,), f'{lstm}.bias_hh_l{k}': (28,),
        }  # fmt: skip
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def logits_of(entries):
    """Logits [1, T, V] of a loaded language model, and its backbone."""
    loaded = loading.load(entries)
    model = stages.build(loaded.architecture.backbone, loaded.num_classes)
    tokens = np.arange(2, 8).reshape(1, -1)
    logits, _ = stages.run(model, loaded.params, loaded.stats, tokens)
    return logits, loaded.architecture.backbone


@pytest.mark.parametrize('names', [('encoder', 'rnn', 'decoder'), ('embedding', 'lstm', 'fc')])
def test_plain_torch_names_are_loaded_with_an_own_decoder(names):
    entries = plain(names)
    logits, backbone = logits_of(entries)
    assert (backbone.widths, backbone.tied, backbone.vocabulary) == ((7, 7), False, 9)
    assert_near(logits, numpy_logits(entries, names))


def numpy_logits(entries, names):
    """The same network, gate by gate."""
    embedding, lstm, output = names
    x = entries[f'{embedding}.weight'][np.arange(2, 8)]
    sigmoid = lambda value: 1 / (1 + np.exp(-value))  # noqa: E731
    for k in range(2):
        h, c, rows = np.zeros(7), np.zeros(7), []
        for row in x:
            gates = entries[f'{lstm}.weight_ih_l{k}'] @ row + entries[f'{lstm}.bias_ih_l{k}']
            gates += entries[f'{lstm}.weight_hh_l{k}'] @ h + entries[f'{lstm}.bias_hh_l{k}']
            i, forget, g, o = gates.reshape(4, 7)
            c = sigmoid(forget) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            rows.append(h)
        x = np.stack(rows)
    return (x @ entries[f'{output}.weight'].T + entries[f'{output}.bias'])[None]


def test_keras_kernels_with_one_bias_are_loaded():
    names = ('embedding', 'lstm', 'fc')
    torch = plain(names)
    keras = {
        'embedding/embeddings:0': torch['embedding.weight'],
        'dense/kernel:0': torch['fc.weight'].T,
        'dense/bias:0': torch['fc.bias'],
    }
    for k in range(2):
        keras[f'lstm_{k + 1}/kernel:0'] = torch[f'lstm.weight_ih_l{k}'].T
        keras[f'lstm_{k + 1}/recurrent_kernel:0'] = torch[f'lstm.weight_hh_l{k}'].T
        keras[f'lstm_{k + 1}/bias:0'] = torch[f'lstm.bias_ih_l{k}'] + torch[f'lstm.bias_hh_l{k}']
    logits, backbone = logits_of(keras)
    assert not backbone.two_biases
    assert_near(logits, numpy_logits(torch, names))


def test_a_tied_decoder_has_the_values_and_the_gradient_of_the_embedding():
    model, _, params, _ = network('language model')
    assert list(params['head']) == ['linear']
    assert stages.shapes(model)[0]['head'].keys() == {'linear'}

    def loss(params, embed):
        joined = {**params, 'embed': embed}
        return stages.run(model, joined, {}, f.tokens()[:1])[0].sum()

    embedding = jax.grad(loss, 1)(params, params['embed'])['embedding']
    assert np.abs(embedding[f.PADDING]).max() > 0  # never an input, so only through the decoder


def test_dropout_is_off_in_frozen_stages():
    model, _, params, stats = network('classifier')
    first = {}
    for trainable in ((), ('lstm2',)):
        outputs = [
            stages.run(
                model, params, stats, f.tokens(), stop='head', trainable=trainable,
                dropout_key=jax.random.key(seed),
            )[0]
            for seed in range(2)
        ]  # fmt: skip
        first[trainable] = np.array_equal(*outputs)
    assert first == {(): True, ('lstm2',): False}


def test_bfloat16_keeps_the_numbers_of_large_vocabularies():
    model = stages.build(AWDLSTM(layers=1, embedding=4, hidden=4, vocabulary=2000), 2)
    params, stats = stages.init(model, jax.random.key(0))
    tokens = jnp.asarray([[1001, 1003, 1999]])
    x, _ = stages.run(model, params, stats, tokens, stop='lstm1', dtype=Dtype.BFLOAT16)
    wanted = params['embed']['embedding'][tokens].astype(jnp.bfloat16)
    np.testing.assert_array_equal(recurrent.unmarked(x)[0], wanted)


@pytest.mark.parametrize(
    ('fields', 'problem'),
    [
        ({'layers': 0}, 'layers is 0'),
        (
            {'weight_dropout': 0.6, 'dropout_scale': 2.0},
            'weight_dropout times dropout_scale is 1.2',
        ),
        ({'language_model': True, 'last_hidden': 5}, 'last_hidden is 5, wanted embedding, 400'),
        ({'padding': 60_000}, 'padding is 60000'),
    ],
)
def test_invalid_fields_are_named(fields, problem):
    assert any(problem in line for line in AWDLSTM(**fields).problems())


def test_chunks_of_padding_are_skipped_and_change_nothing():
    model = stages.build(AWDLSTM(layers=1, embedding=4, hidden=4, vocabulary=20), 2)
    params, stats = stages.init(model, jax.random.key(0))
    tokens = np.random.default_rng(0).integers(2, 20, (3, 2 * recurrent.CHUNK - 5))
    states = language_model.joined(stats, language_model.start_states(model, 3))
    results = []
    for length in (tokens.shape[1], 4 * recurrent.CHUNK + 3):
        rows = np.full((3, length), 1)
        rows[:, : tokens.shape[1]] = tokens
        x, after = stages.run(model, params, states, jnp.asarray(rows), stop='head')
        logits, _ = stages.run(model, params, stats, x, start='head')
        results.append((logits, after['lstm1'], x[:, : tokens.shape[1]]))
    assert np.abs(results[0][1][recurrent.CARRIED][1]).min() > 0
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), *results)
    text = jax.jit(lambda x: stages.run(model, params, stats, x)[0]).lower(jnp.asarray(rows))
    assert 'stablehlo.case' in text.as_text()
