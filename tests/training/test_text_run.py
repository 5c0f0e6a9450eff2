"""Runs on text: a language model, a classifier that starts from it, and their commands."""

import dataclasses
import itertools
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax.advise import advice
from tljax.commands import evaluate, predict, serve
from tljax.config.experiment import ConfigError
from tljax.data import inputs, text_examples
from tljax.models import language_model, stages
from tljax.records import predictions
from tljax.training import batches, jobs, merging, run, step
from tljax.training.report import page
from tljax.training.serving import server
from tljax.types import InputError

SIZES = {'layers': 1, 'hidden': 8, 'embedding': 8, 'vocabulary': 40, 'dropout_scale': 0.0}
WORDS = {'sea': 'ship wave sail salt fish', 'town': 'road tram wall door shop'}


@pytest.fixture(scope='module')
def texts(tmp_path_factory):
    """A list of 60 texts of two classes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp('texts') / 'texts.csv'
    lines = ['text,label']
    for index in range(60):
        label = ('sea', 'town')[index % 2]
        words = rng.choice(WORDS[label].split(), rng.integers(4, 40))
        lines.append(f'{" the ".join(words)},{label}')
    path.write_text('\n'.join(lines))
    return path


def experiment(path, **fields):
    usual = {
        'backbone': tljax.AWDLSTM(**SIZES),
        'data': tljax.Texts(path=str(path)),
        'preprocessing': tljax.TextPreprocessing(most_tokens=40),
        'strategy': tljax.FineTune(),
        'optimizer': tljax.AdamW(learning_rate=0.03),
        'epochs': 8,
        'batch_size': 8,
        'data_threads': 0,
        'cache_gigabytes': 0.0,
        'report': False,
    }
    return tljax.Experiment(**{**usual, **fields})


def of_language_model(path, **fields):
    usual = {
        'backbone': tljax.AWDLSTM(**SIZES, language_model=True),
        'data': tljax.NextTokens(texts=tljax.Texts(path=str(path)), window=8),
        'loss': tljax.TokenCrossEntropy(),
        'epochs': 6,
    }
    return experiment(path, **{**usual, **fields})


@pytest.fixture(scope='module')
def trained(texts, tmp_path_factory):
    """The results and folders of a language model and of a classifier that starts from it."""
    root = tmp_path_factory.mktemp('runs')
    first = run.train(of_language_model(texts), root / 'model', show_model=False)
    backbone = tljax.AWDLSTM(**SIZES, weights=str(root / 'model'))
    second = experiment(
        texts, backbone=backbone, strategy=tljax.GradualUnfreeze(epochs_per_stage=4), report=True
    )
    return first, run.train(second, root / 'classes', show_model=False), root


def test_a_language_model_learns_the_words_of_its_texts(trained):
    result = trained[0]
    assert result['test']['perplexity'] < 7  # of about 15 tokens
    assert len(result['class_names']) == 40


def test_a_run_of_a_language_model_has_no_page(trained, capsys):
    workdir = trained[2] / 'model'
    page.announce(workdir, again=True)
    assert not (workdir / page.REPORT_FILE).exists()
    assert not capsys.readouterr().out
    with pytest.raises(InputError, match='has no page'):
        page.write(workdir)


def test_a_classifier_starts_from_a_language_model_and_learns_its_classes(trained):
    assert trained[1]['test']['accuracy'] > 0.9
    recorded = json.loads((trained[2] / 'classes/network.json').read_text())
    assert recorded['weights']['source'] == str(trained[2] / 'model')
    of_model = json.loads((trained[2] / 'model/network.json').read_text())
    assert recorded['preprocessing']['vocabulary'] == of_model['preprocessing']['vocabulary']


def test_low_rank_adapters_of_a_recurrent_network_learn(trained, texts, tmp_path):
    backbone = tljax.AWDLSTM(**SIZES, weights=str(trained[2] / 'model'))
    adapters = {'strategy': tljax.AdaptersOnly(), 'adapters': (tljax.LoRA(rank=2),)}
    result = run.train(experiment(texts, backbone=backbone, epochs=4, **adapters), tmp_path)
    assert result['frozen_parameters'] == 896  # all below the head
    assert result['test']['accuracy'] > 0.9


def test_the_page_shows_errors_or_hits_as_text_with_their_decisive_tokens(trained):
    text = (trained[2] / 'classes/report.html').read_text()
    assert 'decisive tokens' in text
    assert 'xxbos' in text
    assert 'could not be made' not in text


def test_the_page_of_texts_speaks_of_texts(trained):
    text = (trained[2] / 'classes/report.html').read_text()
    text = re.sub(r'<(style|script).*?</\1>', '', text, flags=re.DOTALL)
    words = re.sub(r'<[^>]*>', ' ', text)
    assert re.findall(r'.{30}\bimages?\b.{30}', words) == []
    for wanted in ('The same text in several splits', 'Map of the texts', 'texts per second'):
        assert wanted in text
    assert 'works with images only' not in text
    assert 'tokens,' in (trained[2] / 'classes/figures/slices.csv').read_text()


def test_a_saved_network_predicts_texts(trained):
    network = tljax.load(str(trained[2] / 'classes'))
    p = network.predict(['the ship and the wave', 'a tram on the road'])
    assert [network.class_names[i] for i in p.argmax(1)] == ['sea', 'town']
    np.testing.assert_allclose(network.logits(network.preprocess('the ship')).shape, (1, 2))
    with pytest.raises(InputError, match='wanted a text'):
        network.predict([np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(InputError, match='wanted numbers of tokens'):
        network.logits(jnp.zeros((1, 8, 8, 3)))


def test_a_step_of_a_language_model_continues_the_state_of_the_step_before(texts):
    job = jobs.setup(of_language_model(texts, epochs=2))
    stream = iter(batches.train_batches(job, 3))
    rows = [next(stream) for _ in range(3)]
    for one, other in itertools.pairwise(rows):
        np.testing.assert_array_equal(one['label'][:, -1], other['input'][:, 0])
    gradients = step.make_gradients(job.model, job.phases[0].labels, job.experiment.loss)
    state = jobs.first_state(job)
    wanted = language_model.start_states(job.model, 8)
    key = jax.random.key(0)
    for batch in rows[:2]:
        found = gradients(key, state, batch, None)
        joined = language_model.joined(job.stats, wanted)
        _, stats = stages.run(job.model, job.params, joined, jnp.asarray(batch['input']))
        wanted = language_model.separated(stats, wanted)[1]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found.carried, wanted
        )
        state = dataclasses.replace(state, carried=found.carried)
    assert found.stats == {}


def test_the_batches_of_texts_have_similar_lengths_and_depend_on_the_seed_and_the_step(texts):
    job = jobs.setup(experiment(texts))
    count = 2 * len(job.splits['train']) // 8
    first, again = (list(batches.train_batches(job, count)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one['input'], other['input'])
    padding = job.model.preprocessing.padding
    lengths = [(batch['input'] != padding).sum(1) for batch in first]
    within, overall = np.mean([np.ptp(one) for one in lengths]), np.ptp(np.concatenate(lengths))
    assert within < overall / 2
    ids = np.concatenate([batch['id'] for batch in first])[: len(job.splits['train'])]
    assert sorted(ids) == sorted(job.splits['train'].ids)
    assert batches.ids_of(job, 2) == first[1]['id'].tolist()


@pytest.mark.parametrize(
    ('fields', 'problem'),
    [
        ({'augmentations': (tljax.HorizontalFlip(),)}, 'config.augmentations is for images'),
        ({'test_views': tljax.TenCrop()}, 'config.test_views is for images'),
        ({'gray_range': (0.0, 9.0)}, 'config.gray_range is for images'),
        ({'data': tljax.Digits()}, 'wanted a text'),
        ({'preprocessing': tljax.Preprocessing()}, 'wanted a TextPreprocessing'),
    ],
)
def test_what_is_for_images_refuses_text_in_one_line(fields, problem, texts):
    with pytest.raises(InputError, match=problem):
        jobs.setup(experiment(texts, **fields))


def test_advise_refuses_text_before_any_trial(texts):
    with pytest.raises(InputError, match='works with images only'):
        advice.find(experiment(texts), budget_seconds=60)


def test_a_network_of_images_refuses_texts(texts):
    of_images = experiment(texts, backbone=tljax.ResNetSmall(depth=20), preprocessing=None)
    with pytest.raises(InputError, match='this network reads images'):
        jobs.setup(of_images)


def test_a_language_model_refuses_parts_and_losses_of_classes(texts):
    with pytest.raises(ConfigError, match='accumulate is 2, wanted 1 for a language model'):
        jobs.setup(of_language_model(texts, accumulate=2))
    with pytest.raises(ConfigError, match='wants TokenCrossEntropy'):
        jobs.setup(of_language_model(texts, loss=tljax.CrossEntropy()))


def test_a_backward_network_reads_the_last_token_first(texts):
    job = jobs.setup(
        experiment(texts, preprocessing=tljax.TextPreprocessing(most_tokens=40, backward=True))
    )
    train, forward = (
        job.splits['train'],
        dataclasses.replace(job.model.preprocessing, backward=False),
    )
    row, one = (inputs.row(train, how, 0)[0] for how in (job.model.preprocessing, forward))
    real = one[one != forward.padding]
    np.testing.assert_array_equal(row[: len(real)], real[::-1])
    windows = text_examples.windows(
        dataclasses.replace(train, task=tljax.NextToken(window=4)),
        [np.arange(9, dtype=np.int32)],
        dataclasses.replace(job.model.preprocessing, most_tokens=4),
    )
    np.testing.assert_array_equal(
        inputs.row(windows, dataclasses.replace(job.model.preprocessing, most_tokens=4), 0)[0],
        [8, 7, 6, 5],
    )
    np.testing.assert_array_equal(windows.labels[0], [7, 6, 5, 4])


def test_weights_that_read_forward_are_not_read_backward(trained, texts):
    backbone = tljax.AWDLSTM(**SIZES, weights=str(trained[2] / 'model'))
    backward = tljax.TextPreprocessing(most_tokens=40, backward=True)
    with pytest.raises(InputError, match=r'backward is True, and weights .* with False'):
        jobs.setup(experiment(texts, backbone=backbone, preprocessing=backward))


@pytest.fixture(scope='module')
def backward(texts, tmp_path_factory):
    """The folder of a classifier that reads texts from their end."""
    folder = tmp_path_factory.mktemp('runs') / 'backward'
    reads = tljax.TextPreprocessing(most_tokens=40, backward=True)
    run.train(experiment(texts, preprocessing=reads, epochs=2), folder, show_model=False)
    return folder


def test_forward_and_backward_networks_are_averaged(trained, backward, texts, tmp_path, capsys):
    forward = trained[2] / 'classes'
    networks = [tljax.load(str(folder)) for folder in (forward, backward)]
    shown = ['a ship on the wave', 'the tram and the wave', 'road']
    wanted = np.mean([one.predict(shown) for one in networks], 0)
    (tmp_path / 'new.csv').write_text('text\n' + '\n'.join(shown))
    out = tmp_path / 'out.jsonl'
    paths = [str(forward), str(tmp_path / 'new.csv')]
    assert predict.main([*paths, f'--with={backward}', f'--out={out}']) == 0
    found = [json.loads(line)['probabilities'] for line in out.read_text().splitlines()]
    np.testing.assert_allclose([[row['sea'], row['town']] for row in found], wanted, atol=1e-5)

    written = tmp_path / 'mean.npz'
    arguments = [str(forward), '--data=config', f'--with={backward}', f'--predictions={written}']
    assert evaluate.main(arguments) == 0
    printed = capsys.readouterr().out
    assert f'{forward} with {backward}' in printed.replace('\n', '')
    assert 'images' not in printed
    split = predictions.read(written).splits['test']
    data = jobs.read_splits(experiment(texts))['test']
    read = [data.load(index) for index in range(len(data))]
    wanted = np.mean([one.predict(read) for one in networks], 0)
    np.testing.assert_allclose(np.exp(split.logits), wanted, atol=1e-5)


def test_networks_of_other_classes_are_not_averaged(trained, capsys):
    command = [str(trained[2] / 'classes'), '--data=config', '--with=embedded:glyphs']
    assert evaluate.main(command) == 2
    assert 'it reads images, wanted texts' in capsys.readouterr().err
    command[-1] = f'--with={trained[2] / "model"}'
    assert evaluate.main(command) == 2
    assert 'wanted 2 classes' in capsys.readouterr().err


def test_the_vocabulary_is_recorded_once(trained):
    text = (trained[2] / 'classes/network.json').read_text()
    assert text.count('"vocabulary"') == 1


def test_progress_counts_texts(trained, texts, tmp_path, capsys):
    run.train(experiment(texts, epochs=1), tmp_path, show_model=False)
    printed = capsys.readouterr().out
    assert 'texts/s' in printed
    assert 'images' not in printed


def test_runs_of_one_vocabulary_are_merged(trained, texts, tmp_path):
    again = tmp_path / 'again'
    shutil.copytree(trained[2] / 'classes', again)
    folders = [trained[2] / 'classes', again]
    scores = merging.merge(folders, tmp_path / 'soup.safetensors', method='uniform')
    (soup,) = (score for name, score in scores.items() if name.startswith('uniform'))
    assert soup['test']['accuracy'] > 0.9
    merged = tljax.load(str(tmp_path / 'soup.safetensors'))
    assert merged.predict('the ship and the wave').argmax() == 0


def test_runs_of_other_vocabularies_are_not_merged(trained, backward, tmp_path):
    with pytest.raises(InputError, match='tokens that the other lacks') as caught:
        merging.merge([trained[2] / 'classes', backward], tmp_path / 'soup.safetensors')
    assert 'xxmaj' not in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_a_run_that_reads_texts_is_not_served(trained, capsys, monkeypatch):
    monkeypatch.setattr(server, 'PACKAGES', ())  # the run is refused before they are needed
    assert serve.main([str(trained[2] / 'classes')]) == 2
    assert capsys.readouterr().err == (
        'error: tljax serve predicts images, and this run reads texts\n'
    )
