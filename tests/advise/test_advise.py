"""`tljax advise`: end to end on a tiny set, and what it leaves."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import types

import jax
import numpy as np
import optax
import pytest

from tests.small_runs import Blobs, HeadThenAll, Tiny, assert_identical, experiment
from tljax.advise import candidates, config_source, tasks, trials
from tljax.advise.choice import Answers
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
FEW = (candidates.probes, candidates.fine_tuning)
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
    """The folder of an advice, its numbers, and the trials that were run for it."""
    folder = tmp_path_factory.mktemp('advise')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TLJAX_CACHE', str(folder / 'cache'))
        patch.setattr(console.console, 'quiet', True)
        start = experiment(
            optimizer=SGD(learning_rate=0.05), strategy=FineTune(), epochs=8.0, augmentations=()
        )
        train(start, folder / 'start', show_model=False)
        (folder / 'small.py').write_text(CONFIG.format(weights=str(folder / 'start')))
        patch.setattr(candidates, 'FAMILIES', FEW)
        ran = counted(patch)
        assert advise(folder, minutes=10) == 0
    return folder, json.loads((folder / 'out/advice.json').read_text()), ran


def advise(folder, *, minutes):
    words = [f'--config={folder / "small.py"}', f'--workdir={folder / "out"}']
    return command.main([*words, f'--budget_minutes={minutes}'])


def again(folder, patch):
    """The surroundings of the first time."""
    patch.setenv('TLJAX_CACHE', str(folder / 'cache'))
    patch.setattr(console.console, 'quiet', True)
    patch.setattr(candidates, 'FAMILIES', FEW)


def counted(patch):
    """The names of the candidates of every training that is made from now on."""
    names, real = [], Runner.train

    def run(self, name, *args, **kwargs):
        names.append(name)
        return real(self, name, *args, **kwargs)

    patch.setattr(Runner, 'train', run)
    return names


def test_it_ends_with_an_advice_of_a_candidate_that_was_asked(advised):
    _, found, ran = advised
    assert found['advised'] in [one['name'] for one in found['candidates'] if one['images']]
    assert ran
    assert found['advised'] in found['within']


def test_what_is_advised_runs_as_it_is(advised, monkeypatch):
    folder, found, _ = advised
    monkeypatch.setenv('TLJAX_CACHE', str(folder / 'cache'))
    monkeypatch.setattr(console.console, 'quiet', True)
    chosen = command_line.ConfigWords(spec=str(folder / 'out/advised.py'))
    advice, _ = config_files.experiment(chosen)
    assert advice.validation_fraction == 0.0
    result = train(advice, folder / 'final', show_model=False)
    assert result['train_count'] == found['data']['labelled'] == 36
    assert result['test']['count'] == 21


def test_no_test_image_is_looked_at(advised):
    _, found, _ = advised
    assert all(one['images'] <= 36 for one in found['candidates'])


def test_the_same_again_trains_nothing(advised, monkeypatch):
    folder, found, _ = advised
    again(folder, monkeypatch)
    ran = counted(monkeypatch)
    assert advise(folder, minutes=10) == 0
    second = json.loads((folder / 'out/advice.json').read_text())
    asked = {one['name'] for one in found['candidates'] if one['trials']}
    assert not set(ran) & asked
    assert second['advised'] == found['advised']


def test_a_damaged_trial_is_run_again(advised, monkeypatch):
    folder, _, _ = advised
    again(folder, monkeypatch)
    broken = sorted((folder / 'out/trials').iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:100])
    ran = counted(monkeypatch)
    assert advise(folder, minutes=10) == 0
    assert len(ran) == 1
    assert broken.stat().st_size > 100


def test_further_weights_are_looked_at_beside_the_configs_own(advised, monkeypatch):
    folder, _, _ = advised
    again(folder, monkeypatch)
    monkeypatch.setattr(candidates, 'FAMILIES', (candidates.probes,))
    other = experiment(strategy=FineTune(), epochs=1.0, augmentations=(), seed=1)
    train(other, folder / 'other', show_model=False)
    words = [f'--config={folder / "small.py"}', f'--weights={folder / "other"}']
    assert command.main([*words, f'--workdir={folder / "two"}']) == 0
    found = json.loads((folder / 'two/advice.json').read_text())
    sources = [str(folder / name) for name in ('start', 'other')]
    assert [one['weights'] for one in found['networks']] == sources
    assert found['weights'] in sources
    left_out = [one['name'] for one in found['left_out']]
    kept = [source for source in sources if f'weights {source}' not in left_out]
    names = ' '.join(one['name'] for one in found['candidates'])
    assert kept
    assert len(kept) == 1 or all(source.rpartition('/')[2] in names for source in kept)
    page = (folder / 'two/report.html').read_text()
    assert page.count('<polyline') == 2


def test_the_page_needs_nothing_else(advised):
    folder, found, _ = advised
    page = (folder / 'out/report.html').read_text()
    assert page.count('<svg') == 2
    assert not re.findall(r'(?:src|href)=|@import|url\(|<script', page)
    assert all(one['name'] in page for one in found['candidates'])
    assert 'nan' not in re.sub('<[^>]*>', '', page)


def test_a_config_that_is_written_gives_the_same_experiment():
    what = experiment(strategy=FineTune(backbone_scale=0.1), baselines=(FineTune(),))
    scope: dict = {}
    text = config_source.source(what, 'Says "what".')
    exec(text, scope)
    assert scope['get_config']() == what
    imports = [line for line in text.splitlines() if line.startswith(('import', 'from'))]
    own = [f'from tests.small_runs import {name}' for name in ('Blobs', 'Tiny')]
    assert imports == ['import tljax', *own]


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
def test_bad_input_is_a_line_and_code_2(words, reason, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'small.py').write_text('from tests.small_runs import short as get_config\n')
    words = [f'--config={tmp_path / "small.py"}', f'--workdir={tmp_path / "out"}', *words]
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: ')
    assert reason in said


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
    what = experiment(data=Several(), loss=BinaryCrossEntropy())
    with pytest.raises(InputError, match='several labels'):
        tasks.read(what)


def test_the_experiment_itself_is_a_candidate_unless_it_is_another_one(monkeypatch, tmp_path):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path))
    families = (candidates.fine_tuning, candidates.as_configured)
    names = {}
    for strategy in (FineTune(), HeadThenAll()):
        what = experiment(strategy=strategy, baselines=(FineTune(),))
        job = jobs.setup(what)
        look = types.SimpleNamespace(source='x', experiment=what, job=job)
        names[type(strategy)] = [one.name for one in candidates.propose(look, families)]
        (own,) = candidates.as_configured(look)
        assert (own.first, own.steps) == ('low', job.steps)
    assert len(names[FineTune]) == 2
    assert names[HeadThenAll][2] == 'as configured (head then all)'


def test_without_weights_only_what_needs_none_is_proposed():
    what = experiment()
    look = types.SimpleNamespace(source=None, experiment=what, job=jobs.setup(what))
    assert [one.family for one in candidates.propose(look)] == ['scratch', 'configured']
    beside = experiment(samples=LabelledSource(data=Blobs()))
    look = types.SimpleNamespace(source=None, experiment=beside, job=look.job)
    found = candidates.propose(look)
    assert [one.family for one in found] == ['scratch', 'source', 'configured']
    assert [one.experiment.samples is None for one in found] == [True, False, False]


@pytest.mark.parametrize('index', range(3))
def test_a_fold_trains_on_nothing_that_it_is_asked_about(index):
    what = experiment(per_class=8)
    fold = tasks.read(what).fold(index)
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


def test_a_validation_split_of_the_data_is_what_candidates_are_asked_about():
    task = tasks.read(experiment(data=WithVal()))
    assert (task.count, task.own_validation, task.per_class) == (1, True, 12)
    parts = task.fold(0).splits()
    assert parts['val'].ids.tolist() == WithVal().splits()['val'].ids.tolist()
    assert (task.ids[task.held_out(0)] == parts['val'].ids).all()
    assert 'test' not in parts


@pytest.mark.parametrize('source', [None, Blobs()], ids=['alone', 'beside a source'])
def test_a_trial_is_the_run_of_its_experiment(source, tmp_path, monkeypatch):
    """To the last digits, through two phases, and beside the samples of a source."""
    if source is not None:
        source = LabelledSource(data=source, guard=Guard.OFF, until_epochs=2.0)
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(console.console, 'quiet', True)
    what = experiment(strategy=HeadThenAll(), augmentations=(), samples=source)
    task = tasks.read(what)
    candidate = candidates.Candidate(name='x', family='x', experiment=what, first='low')
    trial = Runner(task).run(candidate, fold=0)
    result = train(trials.experiment_of(candidate, task, 0), tmp_path / 'run', show_model=False)
    assert trial.steps == result['steps']
    assert len(trial.answers) == result['val']['count']
    if result['step'] == result['steps']:  # its best checkpoint is the last one
        assert trial.answers.accuracy == result['val']['accuracy']
    last = [r for r in writers.read_metrics(tmp_path / 'run/metrics.jsonl') if r['split'] == 'val']
    assert trial.answers.losses_at(1.0).mean() == pytest.approx(last[-1]['loss'], rel=1e-5)


def test_a_state_is_moved_with_its_schedules_and_those_of_the_source_and_nothing_else():
    source = LabelledSource(data=Blobs(), guard=Guard.OFF)
    job = jobs.setup(experiment(samples=source))
    before = jobs.first_state(job)
    found = walk.moved(job.mesh, before, 7, 3)
    assert int(found.step) == 7
    kinds = optax.ScaleByScheduleState, optax.ScaleByAdamState
    for opt in (found.opt, found.source.opt):
        leaves = jax.tree.leaves(opt, is_leaf=lambda leaf: isinstance(leaf, kinds))
        counts = {type(leaf): int(leaf.count) for leaf in leaves if isinstance(leaf, kinds)}
        assert counts == {optax.ScaleByScheduleState: 3, optax.ScaleByAdamState: 0}
    assert_identical(found.params, before.params)


@pytest.fixture
def steps_taken(monkeypatch):
    """Of every step of a trial: the step, its place in the schedules, and if it had a source."""
    found, compiled = [], compiled_step.compile_train_step

    def compile_train_step(*args, **kwargs):
        step = compiled(*args, **kwargs)

        def run(key, state, batch, *given):
            opts = state.opt, state.source and state.source.opt
            leaves = jax.tree.leaves(opts, is_leaf=walk._is_schedule)
            counts = {int(leaf.count) for leaf in leaves if walk._is_schedule(leaf)}
            found.append((int(state.step), counts, 'source' in batch))
            return step(key, state, batch, *given)

        return run

    monkeypatch.setattr(compiled_step, 'compile_train_step', compile_train_step)
    return found


def test_a_strided_trial_takes_step_schedule_and_source_from_the_same_place(steps_taken):
    """Phases of 4 and 7 steps, the source in the first 7: its head trains in the second alone."""
    source = LabelledSource(data=Blobs(), guard=Guard.OFF, until_epochs=2.0)
    what = experiment(strategy=HeadThenAll(), augmentations=(), samples=source)
    trial = Runner(None).train('x', what, stride=2)
    assert trial.steps == 6
    assert [(step, with_source) for step, _, with_source in steps_taken] == [
        (0, False), (2, False), (4, True), (6, True), (8, False), (10, False)
    ]  # fmt: skip
    assert [counts for *_, counts, _ in steps_taken] == [{0}, {2}, {0}, {2}, {4}, {6}]


def test_a_trial_kept_by_other_rules_is_not_taken(tmp_path, monkeypatch):
    answers = Answers(ids=np.arange(2), labels=np.arange(2), logits=np.eye(2))
    made = trials.Trial(
        answers=answers, steps=1, compile_seconds=1.0, step_seconds=1.0, seconds=1.0
    )
    trials._write(tmp_path / 'kept.npz', '{}', made)
    assert trials._read(tmp_path / 'kept.npz', '{}').steps == 1
    monkeypatch.setattr(trials, 'VERSION', trials.VERSION + 1)
    assert trials._read(tmp_path / 'kept.npz', '{}') is None
    with np.load(tmp_path / 'kept.npz') as file:
        np.savez(tmp_path / 'old.npz', **{n: file[n] for n in file.files if n != 'version'})
    assert trials._read(tmp_path / 'old.npz', '{}') is None
