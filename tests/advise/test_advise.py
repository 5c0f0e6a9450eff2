"""`tljax advise` on a tiny data set: the command, its files, and its trials."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys
import types

import jax
import numpy as np
import optax
import pytest

from tests.small_runs import (
    Blobs,
    HeadThenAll,
    Tiny,
    assert_identical,
    experiment,
    shared_programs,
)
from tljax.advise import candidates, config_source, tasks, trials
from tljax.advise.held_out import HeldOutPredictions
from tljax.advise.trials import Runner
from tljax.commands import advise as command
from tljax.commands import command_line, config_files
from tljax.config.experiment import ConfigError
from tljax.metrics.losses import BinaryCrossEntropy
from tljax.records import console, writers
from tljax.sample_transfer import Guard, LabelledSource
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import FineTune
from tljax.training import compiled_step, jobs, walk
from tljax.training.run import train
from tljax.types import InputError

pytestmark = pytest.mark.filterwarnings(
    'ignore:the load_module:DeprecationWarning'  # ml_collections
)


def full_fine_tuning(evidence):
    """A candidate that needs trials."""
    return candidates.fine_tuning(evidence)[:1]


FEW = (candidates.probes, full_fine_tuning)
CONFIG = """
import tljax
from tests.small_runs import Tiny, experiment

def get_config():
    return experiment(
        backbone=Tiny(weights={weights!r}), epochs=4.0, optimizer=tljax.SGD(learning_rate=0.05),
        augmentations=(), clip_norm=None,
    )
"""


@pytest.fixture(scope='module')
def advised(tmp_path_factory):
    """The folder of an advice, its numbers, and the names of the trained candidates."""
    folder = tmp_path_factory.mktemp('advise')
    with pytest.MonkeyPatch.context() as patch:
        set_up(folder, patch)
        start = experiment(
            optimizer=SGD(learning_rate=0.05), strategy=FineTune(), epochs=1.0, augmentations=()
        )
        train(start, folder / 'start', show_model=False)
        (folder / 'small.py').write_text(CONFIG.format(weights=str(folder / 'start')))
        trained = record_trials(patch)
        assert advise(folder) == 0
    return folder, json.loads((folder / 'out/advice.json').read_text()), trained


def advise(folder):
    """The exit code of the command."""
    words = [f'--config={folder / "small.py"}', f'--workdir={folder / "out"}']
    return command.main([*words, '--budget_minutes=10'])


def set_up(folder, patch):
    """Sets the cache folder, silences the console and limits the candidates."""
    patch.setenv('TLJAX_CACHE', str(folder / 'cache'))
    patch.setattr(console.console, 'quiet', True)
    patch.setattr(candidates, 'FAMILIES', FEW)


def record_trials(patch):
    """A list to which every further trial appends the name of its candidate."""
    names, real = [], Runner.train

    def run(self, name, *args, **kwargs):
        names.append(name)
        return real(self, name, *args, **kwargs)

    patch.setattr(Runner, 'train', run)
    return names


def test_the_advised_candidate_was_evaluated_and_is_a_contender(advised):
    _, numbers, trained = advised
    assert numbers['advised'] in [one['name'] for one in numbers['candidates'] if one['images']]
    assert trained
    assert numbers['advised'] in numbers['within']


def advised_experiment(folder):
    """The experiment of the written config."""
    chosen = command_line.ConfigArguments(spec=str(folder / 'out/advised.py'))
    return config_files.experiment(chosen)[0]


def test_the_advised_config_is_complete_and_trains_on_all_labelled_images(advised):
    folder, numbers, _ = advised
    config = advised_experiment(folder)
    assert config.validation_fraction == 0.0
    splits = jobs.setup(config).splits
    assert len(splits['train']) == numbers['data']['labelled'] == 36
    assert len(splits['test']) == 21


@pytest.mark.slow
def test_the_advised_config_runs_without_changes(advised, monkeypatch):
    folder, _, _ = advised
    set_up(folder, monkeypatch)
    result = train(advised_experiment(folder), folder / 'final', show_model=False)
    assert (result['train_count'], result['test']['count']) == (36, 21)


def test_no_test_image_is_used(advised):
    _, numbers, _ = advised
    assert all(one['images'] <= 36 for one in numbers['candidates'])


def test_a_second_search_reuses_intact_trials_and_repeats_damaged_ones(advised, monkeypatch):
    folder, numbers, _ = advised
    set_up(folder, monkeypatch)
    damaged = sorted((folder / 'out/trials').iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    trained = record_trials(monkeypatch)
    assert advise(folder) == 0
    tried = {one['name'] for one in numbers['candidates'] if one['trials']}
    assert len(trained) == 1
    assert set(trained) <= tried
    assert damaged.stat().st_size > 100
    second = json.loads((folder / 'out/advice.json').read_text())
    assert second['advised'] == numbers['advised']


@pytest.mark.slow
def test_further_weights_are_compared_with_those_of_the_config(advised, monkeypatch):
    folder, _, _ = advised
    set_up(folder, monkeypatch)
    monkeypatch.setattr(candidates, 'FAMILIES', (candidates.probes,))
    shutil.copytree(folder / 'start', folder / 'other')
    words = [f'--config={folder / "small.py"}', f'--weights={folder / "other"}']
    assert command.main([*words, f'--workdir={folder / "two"}']) == 0
    numbers = json.loads((folder / 'two/advice.json').read_text())
    sources = [str(folder / name) for name in ('start', 'other')]
    assert [one['weights'] for one in numbers['networks']] == sources
    assert numbers['weights'] in sources
    names = ' '.join(one['name'] for one in numbers['candidates'])
    assert all(source.rpartition('/')[2] in names for source in sources)
    page = (folder / 'two/report.html').read_text()
    curves = re.findall('probe of the last stage: (.*?)["<]', page)
    assert all(word in curves[0] for word in ('start', 'other'))


def test_the_page_is_self_contained(advised):
    folder, numbers, _ = advised
    page = (folder / 'out/report.html').read_text()
    assert page.count('<svg') == 2
    assert not re.findall(r'(?:src|href)=(?!"(?:#|data:))|@import|url\(|<script', page)
    assert all(one['name'] in page for one in numbers['candidates'])
    assert 'nan' not in re.sub('<[^>]*>', '', page)


def test_the_written_config_gives_the_same_experiment():
    advised = experiment(strategy=FineTune(backbone_scale=0.1), baselines=(FineTune(),))
    scope: dict = {}
    text = config_source.source(advised, 'A text with "quotes".')
    exec(text, scope)
    assert scope['get_config']() == advised
    imports = [line for line in text.splitlines() if line.startswith(('import', 'from'))]
    user_classes = [f'from tests.small_runs import {name}' for name in ('Blobs', 'Tiny')]
    assert imports == ['import tljax', *user_classes]


def test_a_class_of_the_config_file_itself_is_refused(monkeypatch):
    class Own(Tiny):
        pass

    with pytest.raises(ConfigError, match='Own is defined in the config file'):
        config_source.check(experiment(backbone=Own()))


@pytest.mark.parametrize(
    ('words', 'reason'),
    [
        (['--budget_minutes=0'], 'wanted more than 0'),
        (['--budget_minutes=soon'], 'budget_minutes'),
        (['--weights=nowhere.pth'], 'there is no file'),
        (['--config.data.colour=1'], 'no field'),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(words, reason, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'small.py').write_text('from tests.small_runs import short as get_config\n')
    words = [f'--config={tmp_path / "small.py"}', f'--workdir={tmp_path / "out"}', *words]
    assert command.main(words) == 2
    message = capsys.readouterr().err
    assert message.startswith('error: ')
    assert reason in message


def test_help_names_the_flags():
    home = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, '-m', 'tljax', 'advise', '--help'],
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '--budget_minutes=M' in done.stdout


@dataclasses.dataclass
class Several:
    """The blobs, each with a set of labels."""

    def splits(self):
        """See `types.DataSource`."""
        return {
            name: dataclasses.replace(split, labels=np.eye(3, dtype=np.uint8)[split.labels])
            for name, split in Blobs().splits().items()
        }


def test_images_with_several_labels_are_refused():
    several_labels = experiment(data=Several(), loss=BinaryCrossEntropy())
    with pytest.raises(InputError, match='several labels'):
        tasks.read(several_labels)


def test_the_experiment_itself_is_a_candidate_unless_another_one_is_equal(monkeypatch, tmp_path):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path))
    families = (candidates.fine_tuning, candidates.as_configured)
    names = {}
    for strategy in (FineTune(), HeadThenAll()):
        configured = experiment(strategy=strategy, baselines=(FineTune(),))
        job = jobs.setup(configured)
        evidence = types.SimpleNamespace(source='x', experiment=configured, job=job)
        names[type(strategy)] = [one.name for one in candidates.propose(evidence, families)]
        (candidate,) = candidates.as_configured(evidence)
        assert (candidate.first, candidate.steps) == ('low', job.steps)
    assert len(names[FineTune]) == 2
    assert names[HeadThenAll][2] == 'as configured (head then all)'


def test_without_weights_only_candidates_that_need_none_are_proposed():
    configured = experiment()
    job = jobs.setup(configured)
    evidence = types.SimpleNamespace(source=None, experiment=configured, job=job)
    assert [one.family for one in candidates.propose(evidence)] == ['scratch', 'configured']
    with_samples = experiment(samples=LabelledSource(data=Blobs()))
    evidence = types.SimpleNamespace(source=None, experiment=with_samples, job=job)
    proposed = candidates.propose(evidence)
    assert [one.family for one in proposed] == ['scratch', 'source', 'configured']
    assert [one.experiment.samples is None for one in proposed] == [True, False, False]


@pytest.mark.parametrize('index', range(3))
def test_a_fold_trains_on_no_image_that_it_is_evaluated_on(index):
    fold = tasks.read(experiment(per_class=8)).fold(index)
    parts = fold.splits()
    assert set(parts) == {'train', 'val'}
    train_ids, val_ids = (set(parts[name].ids.tolist()) for name in ('train', 'val'))
    assert not train_ids & val_ids
    assert len(train_ids | val_ids) == 24
    labelled = Blobs().splits()['train'].ids.tolist()
    assert train_ids | val_ids <= set(labelled)


@dataclasses.dataclass(slots=True, kw_only=True)
class WithVal:
    """The blobs with a validation split."""

    def splits(self):
        """See `types.DataSource`."""
        parts = Blobs().splits()
        first, rest = parts['test'].take(np.arange(12)), parts['test'].take(np.arange(12, 21))
        return {'train': parts['train'], 'val': first, 'test': rest}


def test_candidates_are_evaluated_on_the_validation_split_of_the_data():
    task = tasks.read(experiment(data=WithVal()))
    assert (task.count, task.own_validation, task.per_class) == (1, True, 12)
    parts = task.fold(0).splits()
    assert parts['val'].ids.tolist() == WithVal().splits()['val'].ids.tolist()
    assert (task.ids[task.held_out(0)] == parts['val'].ids).all()
    assert 'test' not in parts


SAMPLES = LabelledSource(data=Blobs(), guard=Guard.OFF, until_epochs=2.0)


def trial_of(samples):
    """A candidate of two phases, its task, and a runner."""
    configured = experiment(strategy=HeadThenAll(), augmentations=(), samples=samples)
    candidate = candidates.Candidate(name='x', family='x', experiment=configured, first='low')
    task = tasks.read(configured)
    return candidate, task, Runner(task)


@pytest.fixture(scope='module')
def steps_taken():
    """The steps of all trials: their number, their place in the schedules, whether with samples."""
    with shared_programs(), pytest.MonkeyPatch.context() as patch:
        steps, compile_step = [], compiled_step.compile_train_step

        def compile_train_step(*args, **kwargs):
            step = compile_step(*args, **kwargs)

            def run(key, state, batch, *arrays):
                opts = state.opt, state.source and state.source.opt
                leaves = jax.tree.leaves(opts, is_leaf=walk._is_schedule)
                counts = {int(leaf.count) for leaf in leaves if walk._is_schedule(leaf)}
                steps.append((int(state.step), counts, 'source' in batch))
                return step(key, state, batch, *arrays)

            return run

        patch.setattr(compiled_step, 'compile_train_step', compile_train_step)
        yield steps


@pytest.fixture(scope='module')
def with_samples(steps_taken, tmp_path_factory):
    """`trial_of` an experiment with samples; its trials share the compiled programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TLJAX_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield trial_of(SAMPLES)


def assert_equal_to_its_run(candidate, task, runner, folder):
    """A trial has the steps and the predictions of a run of the same experiment."""
    trial = runner.run(candidate, fold=0)
    result = train(trials.experiment_of(candidate, task, 0), folder, show_model=False)
    assert trial.steps == result['steps']
    assert len(trial.predictions) == result['val']['count']
    if result['step'] == result['steps']:  # its best checkpoint is the last one
        assert trial.predictions.accuracy == result['val']['accuracy']
    last = [r for r in writers.read_metrics(folder / 'metrics.jsonl') if r['split'] == 'val'][-1]
    assert trial.predictions.losses_at(1.0).mean() == pytest.approx(last['loss'], rel=1e-5)


@pytest.mark.slow
def test_a_trial_with_samples_is_the_run_of_its_experiment(with_samples, tmp_path, monkeypatch):
    monkeypatch.setattr(console.console, 'quiet', True)
    assert_equal_to_its_run(*with_samples, tmp_path / 'run')


@pytest.mark.slow
def test_a_trial_is_the_run_of_its_experiment(tmp_path, monkeypatch):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(console.console, 'quiet', True)
    assert_equal_to_its_run(*trial_of(None), tmp_path / 'run')


def test_a_strided_trial_takes_step_schedule_and_samples_from_the_same_place(
    with_samples, steps_taken
):
    """Phases of 3 and 6 steps, samples in the first 6: their head trains in the second alone."""
    candidate, task, runner = with_samples
    steps_taken.clear()
    trial = runner.train('x', trials.experiment_of(candidate, task, 0), stride=2)
    assert trial.steps == 5
    assert [(step, with_source) for step, _, with_source in steps_taken] == [
        (0, False), (2, False), (3, True), (5, True), (7, False)
    ]  # fmt: skip
    assert [counts for *_, counts, _ in steps_taken] == [{0}, {2}, {0}, {2}, {4}]


def test_a_state_moved_to_a_step_keeps_everything_except_its_counts():
    samples = LabelledSource(data=Blobs(), guard=Guard.OFF)
    job = jobs.setup(experiment(samples=samples))
    before = jobs.first_state(job)
    after = walk.at_step(job.mesh, before, 7, 3)
    assert int(after.step) == 7
    kinds = optax.ScaleByScheduleState, optax.ScaleByAdamState
    for opt in (after.opt, after.source.opt):
        leaves = jax.tree.leaves(opt, is_leaf=lambda leaf: isinstance(leaf, kinds))
        counts = {type(leaf): int(leaf.count) for leaf in leaves if isinstance(leaf, kinds)}
        assert counts == {optax.ScaleByScheduleState: 3, optax.ScaleByAdamState: 0}
    assert_identical(after.params, before.params)


def test_a_stored_trial_of_another_version_is_ignored(tmp_path, monkeypatch):
    predictions = HeldOutPredictions(ids=np.arange(2), labels=np.arange(2), logits=np.eye(2))
    made = trials.Trial(
        predictions=predictions, steps=1, compile_seconds=1.0, step_seconds=1.0, seconds=1.0
    )
    trials._write(tmp_path / 'kept.npz', '{}', made)
    assert trials._read(tmp_path / 'kept.npz', '{}').steps == 1
    monkeypatch.setattr(trials, 'VERSION', trials.VERSION + 1)
    assert trials._read(tmp_path / 'kept.npz', '{}') is None
    with np.load(tmp_path / 'kept.npz') as file:
        np.savez(tmp_path / 'old.npz', **{n: file[n] for n in file.files if n != 'version'})
    assert trials._read(tmp_path / 'old.npz', '{}') is None
