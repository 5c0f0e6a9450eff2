"""Runs of several phases: what each trains, what is carried over, and resumption around ends."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.small_runs import (
    assert_identical,
    assert_same_run,
    crash_after,
    experiment,
    last_checkpoint,
    records,
    two_phases,
)
from tljax import tree
from tljax.config.experiment import ConfigError
from tljax.records import writers
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import LPFT, GradualUnfreeze
from tljax.training import compiled_step, jobs, solved_head
from tljax.training.run import train
from tljax.types import Phase, Rule


@dataclasses.dataclass(slots=True, kw_only=True)
class Impatient:
    """At most 9 steps of the head that cannot improve, then 3 of everything."""

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        frozen = Rule(pattern='**', train=False)
        still = Rule(pattern='head', learning_rate_scale=1e-12)
        everything = (Rule(pattern='head'), Rule(pattern='**', learning_rate_scale=0.5))
        return (
            Phase(rules=(still, frozen), steps=9, patience=1),
            Phase(rules=everything, steps=3),
        )


def impatient():
    """Evaluated at 4, 7 and every end; the second evaluation is no better than the first."""
    return experiment(strategy=Impatient(), ema_decay=0.9, clip_norm=None)


def lp_ft():
    """The head solved, then 4 steps of everything."""
    return experiment(strategy=LPFT(learning_rate_scale=0.1), epochs=1.0, ema_decay=0.5)


RUNS = {'two': two_phases, 'impatient': impatient, 'solved': lp_ft}


@pytest.fixture(scope='module')
def references(tmp_path_factory):
    """`{name: (folder, result)}` of uninterrupted runs."""
    folders = {name: tmp_path_factory.mktemp(name) for name in RUNS}
    return {name: (folders[name], train(make(), folders[name])) for name, make in RUNS.items()}


@pytest.mark.parametrize(
    ('name', 'crashes'),
    [('two', (3, 4, 5)), ('impatient', (6, 7, 8)), ('solved', (0, 1, 3))],
    ids=RUNS,
)
def test_a_run_crashed_around_the_end_of_a_phase_ends_as_if_it_had_not_been(
    name, crashes, references, tmp_path
):
    for number in crashes:
        crash_after(number, RUNS[name](), tmp_path)
    train(RUNS[name](), tmp_path)
    assert_same_run(RUNS[name](), tmp_path, references[name])


def test_each_phase_trains_what_its_rules_say(references, tmp_path):
    workdir, result = references['two']
    phases = {record['step']: record['phase'] for record in records(workdir)}
    assert phases == {4: 0, 5: 1, 7: 1, 10: 1, 11: 1}
    start = jobs.setup(two_phases()).params
    crash_after(4, two_phases(), tmp_path)
    between, step = last_checkpoint(two_phases(), tmp_path)
    end, _ = last_checkpoint(two_phases(), workdir)
    assert (step, result['steps']) == (4, 11)
    assert_identical(between['state'].params['low'], start['low'])
    moved = [between['state'].params['head']['linear'], end['state'].params['low']['conv']]
    before = [start['head']['linear'], start['low']['conv']]
    for one, other in zip(moved, before, strict=True):
        assert not np.array_equal(one['kernel'], other['kernel'])


def test_adam_counts_the_steps_of_each_leaf_and_schedules_those_of_the_phase(references):
    arrays, _ = last_checkpoint(two_phases(), references['two'][0])
    counts = {
        jax.tree_util.keystr(path): int(x)
        for path, x in jax.tree_util.tree_flatten_with_path(arrays['state'].opt)[0]
        if x.ndim == 0
    }
    adam = {('since' in path): n for path, n in counts.items() if '[0].count' in path}
    assert adam == {False: 11, True: 7}  # the head from the first step, all else from the fifth
    assert {n for path, n in counts.items() if '[0].count' not in path} == {7}


def test_moments_of_what_goes_on_training_are_carried_over(references, tmp_path):
    """The second phase of a run that is the first one again is as if there were no boundary."""
    momentum = SGD(learning_rate=0.05, momentum=0.9)
    whole = experiment(optimizer=momentum, strategy=Parts(lengths=(8,)), validation_fraction=0.0)
    parts = dataclasses.replace(whole, strategy=Parts(lengths=(3, 5)))
    ends = []
    for name, one in {'whole': whole, 'parts': parts}.items():
        train(one, tmp_path / name)
        ends.append(last_checkpoint(one, tmp_path / name)[0]['state'])
    assert_identical(ends[1].params, ends[0].params)


@dataclasses.dataclass(slots=True, kw_only=True)
class Parts:
    """Everything trains, in phases of so many steps."""

    lengths: tuple[int, ...]

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        return tuple(Phase(rules=(Rule(pattern='**'),), steps=n) for n in self.lengths)


def test_a_phase_out_of_patience_ends_early_with_the_values_of_its_best_evaluation(references):
    workdir, result = references['impatient']
    assert result['phase_starts'] == [0, 7]
    assert result['steps'] == 10
    evaluated = [r for r in writers.read_metrics(workdir / 'metrics.jsonl') if r['split'] == 'val']
    assert [(r['step'], r['phase']) for r in evaluated] == [(4, 0), (7, 0), (10, 1)]


def test_going_back_restores_the_best_evaluation_and_keeps_the_count_of_steps(tmp_path, capsys):
    """A huge rate makes every evaluation after the first worse."""
    wild = dataclasses.replace(
        experiment(optimizer=SGD(learning_rate=3e3, momentum=0.0), clip_norm=None),
        strategy=GradualUnfreeze(epochs_per_stage=3.0, lowest='head', patience=2),
    )
    train(wild, tmp_path)
    assert 'Phase 1 ends at step 11, with the values of step' in ' '.join(
        capsys.readouterr().out.split()
    )


def test_the_solved_head_is_the_minimum_on_the_frozen_features(references):
    """Another phase of the head alone, from there, finds nothing to gain."""
    job = jobs.setup(lp_ft())
    first = job.phases[0]
    from tljax.training import states

    state = states.create(job.params, job.stats, first.optimizer, first.labels)
    solved, found = solved_head.solve(job, state, first)
    assert found.gradient_norm < 1e-3
    again, second = solved_head.solve(job, solved, first)
    assert second.value <= found.value + 1e-6
    moved = tree.flatten(jax.tree.map(lambda a, b: abs(a - b).max(), again.params, solved.params))
    assert max(map(float, moved.values())) < 0.05
    assert all(value == 0 for path, value in moved.items() if not path.startswith('head/'))


def test_running_means_are_what_is_evaluated_and_kept(references):
    workdir, _ = references['solved']
    from tljax.records import checkpoint_reading

    arrays, step = last_checkpoint(lp_ft(), workdir)
    state = arrays['state']
    kept = checkpoint_reading.read_variables(workdir / 'checkpoints', step)[1]
    assert_identical(tree.flatten(kept), tree.flatten(tree.fill(state.ema, state.params)))
    assert not np.array_equal(kept['low']['conv']['kernel'], state.params['low']['conv']['kernel'])


@pytest.mark.parametrize(
    ('phases', 'words'),
    [
        ([Phase(rules=(Rule(pattern='**'),), epochs=1.0, steps=2)], 'wanted one of them'),
        ([Phase(rules=(Rule(pattern='**'),), patience=0)], 'patience is 0'),
        ([Phase(rules=(Rule(pattern='**'),), solver=LPFT().solver)], 'every phase has a solver'),
    ],
)
def test_a_phase_that_cannot_be_is_named(phases, words):
    with pytest.raises(ConfigError, match=words):
        jobs.setup(experiment(strategy=Given(given=tuple(phases))))


@dataclasses.dataclass(slots=True, kw_only=True)
class Given:
    """Phases as they are given."""

    given: tuple[Phase, ...]

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        return self.given


def test_patience_without_validation_images_is_refused():
    strategy = GradualUnfreeze(patience=1)
    with pytest.raises(ConfigError, match='wanted validation images'):
        jobs.setup(experiment(strategy=strategy, validation_fraction=0.0))


class TestOutOfMemory:
    """A device that cannot hold a step is given smaller parts of the batch."""

    @pytest.fixture
    def limited(self, monkeypatch):
        """Steps run out of memory where a part is larger than 2 rows on a device."""
        compiled = compiled_step.compile_train_step

        def compile_train_step(job, phase, accumulate, *rest):
            step = compiled(job, phase, accumulate, *rest)

            def run(key, state, batch):
                if accumulate < 2:
                    jax.tree.map(lambda x: x.delete(), state)  # as donation would have
                    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory')
                return step(key, state, batch)

            return run

        monkeypatch.setattr(compiled_step, 'compile_train_step', compile_train_step)

    def test_the_run_goes_on_as_with_that_accumulation(self, limited, tmp_path, capsys):
        one = experiment(epochs=1.0)
        train(one, tmp_path / 'halved')
        assert 'config.accumulate=2' in ' '.join(capsys.readouterr().out.split())
        wanted = dataclasses.replace(one, accumulate=2)
        train(wanted, tmp_path / 'told')
        ends = [last_checkpoint(one, tmp_path / name)[0] for name in ('halved', 'told')]
        assert_identical(ends[0]['state'], ends[1]['state'])
