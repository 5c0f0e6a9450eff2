"""The vocabulary of text weights: its file, other vocabularies, and what does not fit."""

import dataclasses
import json
import os
import pickle

import numpy as np
import pytest

import tljax
from tljax.models import stages
from tljax.types import FILLING, InputError
from tljax.weights import own_format
from tljax.weights.adapt import adapt
from tljax.weights.pretrained import Architecture, Origin, Pretrained

TOKENS = ('xxunk', 'xxpad', 'xxbos', 'the', 'ship', 'wave')
SIZES = {'layers': 1, 'hidden': 3, 'embedding': 3, 'vocabulary': len(TOKENS)}


@pytest.mark.parametrize('pack', [pickle.dumps, lambda tokens: json.dumps(tokens).encode()])
def test_fastais_vocabulary_is_read_from_a_pickle_or_json(pack, tmp_path):
    path = tmp_path / 'itos_wt103.pkl'
    path.write_bytes(pack(list(TOKENS)))
    assert tljax.read_vocabulary(path) == TOKENS


class Command:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ('touch executed',)


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (pickle.dumps(Command()), 'refused: the file names posix.system'),
        (pickle.dumps([1, 2]), 'wanted a list of tokens'),
        (b'["the", "ship"]', 'vocabulary lacks xxunk and xxpad'),
        (b'{"the": 3}', 'it has a dict'),
        (b'no vocabulary', 'neither JSON nor a pickle'),
    ],
)
def test_a_file_without_a_vocabulary_is_refused_and_not_executed(
    content, problem, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'itos.pkl'
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        tljax.read_vocabulary(path)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'executed').exists()


def network(language_model=False, vocabulary=TOKENS):
    """A small network for texts and its values."""
    backbone = tljax.AWDLSTM(**SIZES, language_model=language_model)
    task = tljax.NextToken() if language_model else None
    count = len(TOKENS) if language_model else 2
    preprocessing = tljax.TextPreprocessing(vocabulary=vocabulary)
    model = stages.build(backbone, count, preprocessing=preprocessing, task=task)
    return backbone, model


def pretrained(backbone, model):
    shapes = stages.shapes(model)[0]
    rng = np.random.default_rng(0)
    params = {
        name: stages.jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), stage)
        for name, stage in shapes.items()
    }
    return Pretrained(
        architecture=Architecture(backbone=backbone),
        params=params,
        stats={},
        preprocessing=model.preprocessing,
        origin=Origin(source='test', format='memory', naming='', task=model.task),
    )


def test_rows_move_with_their_tokens_and_new_tokens_get_the_mean():
    backbone, model = network(language_model=True)
    weights = pretrained(backbone, model)
    other = ('xxunk', 'xxpad', 'sail', 'wave', 'the', FILLING)
    moved = adapt(weights, network(True, other)[1], keep_head=True)
    before, after = (one.params['embed']['embedding'] for one in (weights, moved))
    np.testing.assert_array_equal(after[[0, 1, 3, 4]], before[[0, 1, 5, 3]])
    np.testing.assert_allclose(after[2], before.mean(0))
    biases = [one.params['head']['linear']['bias'] for one in (weights, moved)]
    np.testing.assert_array_equal(biases[1][[3, 4]], biases[0][[5, 3]])
    assert '4 of 6 tokens' in moved.notes[-1]


def test_a_vocabulary_of_another_size_is_refused_for_the_weights():
    backbone, model = network()
    weights = dataclasses.replace(
        pretrained(backbone, model),
        preprocessing=tljax.TextPreprocessing(vocabulary=TOKENS[:4]),
    )
    with pytest.raises(InputError, match='has 6 tokens and that of the weights 4'):
        adapt(weights, model)


@pytest.mark.parametrize(
    ('vocabulary', 'problem'),
    [
        ((*TOKENS, 'more'), 'the embedding has 6 rows and the vocabulary 7 tokens'),
        (('xxpad', 'xxunk', *TOKENS[2:]), 'padding of the network is token 1, and .* token 0'),
    ],
)
def test_a_vocabulary_that_does_not_fit_the_embedding_is_refused(vocabulary, problem):
    with pytest.raises(InputError, match=problem) as caught:
        network(vocabulary=vocabulary)
    assert '\n' not in str(caught.value)


@pytest.fixture
def files(tmp_path):
    """Weights in a file without a vocabulary, and a list of texts."""
    backbone, model = network()
    weights = pretrained(backbone, model)
    params = stages.jax.tree.map(lambda leaf: leaf.astype(np.float32), weights.params)
    own_format.save(
        tmp_path / 'bare.safetensors', {'embed': params['embed'], 'lstm1': params['lstm1']}, {}, {}
    )
    rows = ['text,label', *(f'the {("ship", "wave")[i % 2]} {i},{i % 2}' for i in range(20))]
    (tmp_path / 'texts.csv').write_text('\n'.join(rows))
    return tmp_path / 'bare.safetensors', tmp_path / 'texts.csv'


def test_weights_without_a_vocabulary_need_one(files):
    weights, texts = files
    experiment = tljax.Experiment(
        backbone=tljax.AWDLSTM(**SIZES, weights=str(weights)),
        data=tljax.Texts(path=str(texts)),
        strategy=tljax.FineTune(),
        optimizer=tljax.AdamW(),
        batch_size=4,
    )
    from tljax.training import jobs

    with pytest.raises(InputError, match='have no vocabulary: state it'):
        jobs.setup(experiment)
    stated = tljax.TextPreprocessing(vocabulary=TOKENS, most_tokens=8)
    job = jobs.setup(dataclasses.replace(experiment, preprocessing=stated))
    assert job.model.preprocessing.vocabulary == TOKENS
    with pytest.raises(InputError, match='have no vocabulary'):
        tljax.load(str(weights), 2).predict('the ship')
