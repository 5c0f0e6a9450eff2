"""Runs of several phases: trained leaves, carried-over state, and resumption around their ends."""

import dataclasses
import functools
import pathlib
import shutil

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
from tljax.records import checkpoint_reading, console, writers
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import LPFT, GradualUnfreeze
from tljax.training import batches, compiled_step, jobs, solved_head, states
from tljax.training.compiled_step import CompiledStep
from tljax.training.run import train
from tljax.types import Phase, Rule

pytestmark = pytest.mark.usefixtures('shared_programs')


@dataclasses.dataclass(slots=True, kw_only=True)
class Impatient:
    """At most 9 steps of a head that cannot improve, then 3 of everything."""

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


@dataclasses.dataclass
class Reference:
    """The folder, the result and the output of an uninterrupted run."""

    folder: pathlib.Path
    result: dict
    output: str


@functools.cache
def _reference(make, base):
    folder = base / make.__name__
    with console.console.capture() as captured:
        result = train(make(), folder)
    return Reference(folder, result, ' '.join(captured.get().split()))


@pytest.fixture(scope='module')
def references(shared_programs, tmp_path_factory):
    """The function from an experiment to its `Reference`; it trains each experiment once."""
    return functools.partial(_reference, base=tmp_path_factory.mktemp('references'))


@pytest.fixture(scope='module')
def between_phases(shared_programs, tmp_path_factory):
    """The folder of the run of two phases, which crashed at the end of the first one."""
    folder = tmp_path_factory.mktemp('between')
    crash_after(4, two_phases(), folder)
    return folder


def test_a_run_that_crashed_between_its_phases_ends_as_one_without_crashes(
    between_phases, references, tmp_path
):
    folder = shutil.copytree(between_phases, tmp_path / 'run')
    train(two_phases(), folder)
    reference = references(two_phases)
    assert_same_run(two_phases(), folder, (reference.folder, reference.result))


@pytest.mark.parametrize(
    ('make', 'crashes'),
    [
        pytest.param(impatient, (7,), marks=pytest.mark.slow),
        pytest.param(two_phases, (3, 4, 5), marks=pytest.mark.slow),
        pytest.param(impatient, (6, 7, 8), marks=pytest.mark.slow),
        pytest.param(lp_ft, (0, 1, 3), marks=pytest.mark.slow),
    ],
)
def test_a_run_with_crashes_around_the_end_of_a_phase_ends_as_one_without(
    make, crashes, references, tmp_path
):
    for number in crashes:
        crash_after(number, make(), tmp_path)
    train(make(), tmp_path)
    reference = references(make)
    assert_same_run(make(), tmp_path, (reference.folder, reference.result))


def test_each_phase_trains_the_leaves_of_its_rules(references, between_phases):
    reference = references(two_phases)
    phases = {record['step']: record['phase'] for record in records(reference.folder)}
    assert phases == {4: 0, 5: 1, 7: 1, 10: 1, 11: 1}
    start = jobs.setup(two_phases()).params
    between, step = last_checkpoint(two_phases(), between_phases)
    end, _ = last_checkpoint(two_phases(), reference.folder)
    assert (step, reference.result['steps']) == (4, 11)
    assert_identical(between['state'].params['low'], start['low'])
    for state, stage, layer in ((between, 'head', 'linear'), (end, 'low', 'conv')):
        after = state['state'].params[stage][layer]['kernel']
        assert not np.array_equal(after, start[stage][layer]['kernel'])


def test_adam_counts_the_steps_of_each_leaf_and_schedules_those_of_the_phase(references):
    arrays, _ = last_checkpoint(two_phases(), references(two_phases).folder)
    counts = {
        jax.tree_util.keystr(path): int(x)
        for path, x in jax.tree_util.tree_flatten_with_path(arrays['state'].opt)[0]
        if x.ndim == 0
    }
    adam = {('since' in path): n for path, n in counts.items() if '[0].count' in path}
    assert adam == {False: 11, True: 7}  # the head from the first step, all else from the fifth
    assert {n for path, n in counts.items() if '[0].count' not in path} == {7}


@dataclasses.dataclass(slots=True, kw_only=True)
class Parts:
    """All parameters are trained, in phases of the given numbers of steps."""

    lengths: tuple[int, ...]

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        return tuple(Phase(rules=(Rule(pattern='**'),), steps=n) for n in self.lengths)


def in_parts(*lengths):
    """An experiment with momentum in phases of the given numbers of steps."""
    momentum = SGD(learning_rate=0.05, momentum=0.9)
    return experiment(optimizer=momentum, strategy=Parts(lengths=lengths), validation_fraction=0.0)


def test_moments_of_leaves_that_still_train_are_carried_over():
    job = jobs.setup(in_parts(3, 5))
    start = jobs.first_state(job)
    opt = jax.tree.map(lambda leaf: leaf + 1, start.opt)
    after = jobs.next_state(job, dataclasses.replace(start, opt=opt), job.phases[1])
    moments = [[x for x in jax.tree.leaves(one) if x.ndim] for one in (after.opt, opt)]
    assert moments[0]
    assert_identical(*moments)


@pytest.mark.slow
def test_a_second_phase_with_the_rules_of_the_first_trains_as_one_phase(tmp_path):
    ends = []
    for name, one in {'one': in_parts(8), 'two': in_parts(3, 5)}.items():
        train(one, tmp_path / name)
        ends.append(last_checkpoint(one, tmp_path / name)[0]['state'])
    assert_identical(ends[1].params, ends[0].params)


def test_a_phase_out_of_patience_ends_early_with_the_values_of_its_best_evaluation(references):
    reference = references(impatient)
    assert reference.result['phase_starts'] == [0, 7]
    assert reference.result['steps'] == 10
    lines = writers.read_metrics(reference.folder / 'metrics.jsonl')
    evaluated = [(r['step'], r['phase']) for r in lines if r['split'] == 'val']
    assert evaluated == [(4, 0), (7, 0), (10, 1)]
    assert 'Phase 1 ends at step 7, with the values of step 4.' in reference.output


@pytest.mark.slow
def test_a_phase_with_patience_that_runs_to_its_end_restores_its_best_evaluation(tmp_path, capsys):
    """A huge learning rate makes every evaluation after the first one worse."""
    diverging = experiment(
        optimizer=SGD(learning_rate=3e3, momentum=0.0),
        clip_norm=None,
        strategy=GradualUnfreeze(epochs_per_stage=3.0, lowest='head', patience=2),
    )
    train(diverging, tmp_path)
    output = ' '.join(capsys.readouterr().out.split())
    assert 'Phase 1 ends at step 11, with the values of step' in output


@pytest.mark.slow
def test_the_solved_head_is_the_minimum_on_the_frozen_features():
    """Solving it again changes almost nothing."""
    job = jobs.setup(lp_ft())
    first = job.phases[0]
    state = states.create(job.params, job.stats, first.optimizer, first.labels)
    solved, solution = solved_head.solve(job, state, first)
    assert solution.gradient_norm < 1e-3
    again, second = solved_head.solve(job, solved, first)
    assert second.value <= solution.value + 1e-6
    change = tree.flatten(jax.tree.map(lambda a, b: abs(a - b).max(), again.params, solved.params))
    assert max(map(float, change.values())) < 0.05
    assert all(value == 0 for path, value in change.items() if not path.startswith('head/'))


def test_running_means_are_evaluated_and_kept(references):
    folder = references(impatient).folder
    arrays, step = last_checkpoint(impatient(), folder)
    state = arrays['state']
    kept = checkpoint_reading.read_variables(folder / 'checkpoints', step)[1]
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
def test_an_invalid_phase_is_refused(phases, words):
    with pytest.raises(ConfigError, match=words):
        jobs.setup(experiment(strategy=FixedPhases(fixed=tuple(phases))))


@dataclasses.dataclass(slots=True, kw_only=True)
class FixedPhases:
    """A strategy of fixed phases."""

    fixed: tuple[Phase, ...]

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        return self.fixed


def test_patience_without_validation_images_is_refused():
    strategy = GradualUnfreeze(patience=1)
    with pytest.raises(ConfigError, match='wanted validation images'):
        jobs.setup(experiment(strategy=strategy, validation_fraction=0.0))


class TestOutOfMemory:
    """If a device cannot hold a step, batches are computed in smaller parts."""

    @pytest.fixture
    def limited(self, monkeypatch):
        """Steps run out of memory if a part has more than 1 row on a device."""
        compiled = compiled_step.compile_train_step

        def compile_train_step(job, phase, accumulate, *rest):
            step = compiled(job, phase, accumulate, *rest)

            def run(key, state, batch):
                if accumulate < 2:
                    jax.tree.map(lambda x: x.delete(), state)  # as donation does
                    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory')
                return step(key, state, batch)

            return run

        monkeypatch.setattr(compiled_step, 'compile_train_step', compile_train_step)

    def test_the_step_is_that_of_the_accumulation_that_fits(self, limited, capsys):
        job = jobs.setup(two_phases())
        batch = batches.Feed(job, job.phases[0]).take(0)
        steps = [CompiledStep(job, job.phases[0], parts) for parts in (1, 2)]
        states_after = [step(jobs.first_state(job), batch)[0] for step in steps]
        assert steps[0].accumulate == 2
        assert 'config.accumulate=2' in ' '.join(capsys.readouterr().out.split())
        assert_identical(*states_after)

    @pytest.mark.slow
    def test_the_run_goes_on_with_that_accumulation(self, limited, tmp_path):
        one = experiment(epochs=1.0)
        train(one, tmp_path / 'halved')
        expected = dataclasses.replace(one, accumulate=2)
        train(expected, tmp_path / 'expected')
        ends = [last_checkpoint(one, tmp_path / name)[0] for name in ('halved', 'expected')]
        assert_identical(ends[0]['state'], ends[1]['state'])
