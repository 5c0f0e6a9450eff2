"""Searches: trials that pause and go on, their budget, and their resumption."""

import json
import math

import pytest

from tests import small_runs
from tljax.strategies.strategies import FineTune, LinearProbe
from tljax.sweep import listing, run, search, search_worker, trials, worker
from tljax.sweep.cells import expand
from tljax.sweep.folder import SweepFolder
from tljax.sweep.halving import steps_used
from tljax.sweep.search import Search
from tljax.sweep.search_worker import SearchWorker
from tljax.sweep.space import Axis, Product, Range, Role, Seeds, SweepError, Where
from tljax.training.signals import Interrupted, Paused

BASE = small_runs.experiment(epochs=9.0, strategy=LinearProbe())
RATE = Axis('optimizer.learning_rate', Range(0.001, 1.0, log=True))
STEPS = 90


@pytest.fixture
def training(monkeypatch):
    """Replaces training: accuracy depends on the rate and rises with the steps; counts the steps.

    It is evaluated every 10 steps. `interrupt_at` stops it once, at that number of steps in total.
    """

    class Training:
        def __init__(self):
            self.steps, self.interrupt_at, self.order = 0, math.inf, []

        def __call__(self, experiment, workdir, *, until_step=math.inf):
            rate = experiment.optimizer.learning_rate
            self.order.append((round(math.log10(rate), 3), until_step))
            if rate > 0.9:
                raise ValueError('not finite')
            workdir.mkdir(parents=True, exist_ok=True)
            path = workdir / 'metrics.jsonl'
            lines = path.read_text().splitlines() if path.exists() else []
            while len(lines) < STEPS / 10:
                if lines and 10 * len(lines) >= until_step:
                    raise Paused(10 * len(lines))
                if self.steps >= self.interrupt_at:
                    self.interrupt_at = math.inf
                    raise Interrupted(15)
                self.steps += 10
                step = 10 * (len(lines) + 1)
                accuracy = 1 - abs(math.log10(rate) + 1.5) / 3 - 1 / (step + 10)
                record = {
                    'split': 'val',
                    'phase': 0,
                    'step': step,
                    'accuracy': accuracy,
                    'loss': 1.0,
                }
                lines.append(json.dumps(record))
                path.write_text('\n'.join(lines))
            result = {'val': {'accuracy': accuracy}, 'wall_seconds': 1.0, 'steps': STEPS}
            (workdir / 'result.json').write_text(json.dumps(result))

    training = Training()
    monkeypatch.setattr(worker, 'train', training)
    lengths = (STEPS, frozenset(range(10, STEPS + 1, 10)))
    monkeypatch.setattr(search_worker, '_lengths', lambda _: lengths)
    return training


def worker_of(path, part, printed=None):
    """A worker of the first search of a sweep."""
    (study, *_) = search.studies(part, BASE)
    announce = (printed if printed is not None else []).append
    return SearchWorker(SweepFolder(path), '', study, record=lambda: None, announce=announce)


def outcome(one):
    """Everything that a search has found."""
    return [(one.trials.values(trial.number), trial) for trial in one.trials.all()]


def test_a_search_keeps_its_budget_and_trains_the_best_trial_to_its_end(training, tmp_path):
    one = worker_of(tmp_path, Search(RATE, budget_steps=300))
    one.run()
    assert training.steps == sum(trial.step for trial in one.trials.all()) <= 300
    assert steps_used(one.trials.all()) > 300 - STEPS
    best = max((t for t in one.trials.all() if t.is_complete), key=lambda t: t.values[-1])
    assert abs(math.log10(one.trials.values(best.number)[RATE.path]) + 1.5) < 0.5
    assert f'{training.steps} of 300 steps used' in one.summary()


def test_trials_that_were_stopped_have_their_validation_curve(training, tmp_path):
    one = worker_of(tmp_path, Search(RATE, budget_steps=300))
    one.run()
    stopped = [cell.name for cell in one.cells() if one.folder.pruned(cell.name)]
    unfinished = [cell.name for cell in one.cells() if not one.folder.is_settled(cell.name)]
    assert stopped == unfinished != []
    steps = [max(one.folder.pruned(name)) for name in stopped]
    assert steps == [trial.step for trial in one.trials.all() if not trial.is_complete]


def test_a_search_that_was_interrupted_ends_as_one_that_was_not(training, tmp_path):
    part = Search(RATE, budget_steps=400)
    alone = worker_of(tmp_path / 'alone', part)
    alone.run()
    steps = training.steps
    for at in (steps + 5, steps + 25, steps + 130, steps + 300):
        training.interrupt_at = at
        with pytest.raises(Interrupted):
            worker_of(tmp_path / 'other', part).run()
    other = worker_of(tmp_path / 'other', part)
    other.run()
    assert outcome(other) == outcome(alone)
    assert training.steps == 2 * steps  # a paused trial goes on from where it was


def test_random_search_without_a_pruner_trains_every_trial_to_its_end(training, tmp_path):
    one = worker_of(tmp_path, Search(RATE, budget_steps=500, sampler='random', pruner=None))
    one.run()
    assert [trial.step for trial in one.trials.all() if not trial.ended] == [STEPS] * 5


def test_a_larger_budget_goes_on_with_the_same_trials(training, tmp_path):
    first = worker_of(tmp_path, Search(RATE, budget_steps=200))
    first.run()
    values = [one for one, _ in outcome(first)]
    second = worker_of(tmp_path, Search(RATE, budget_steps=400))
    second.run()
    assert [one for one, _ in outcome(second)][: len(values)] == values
    assert len(outcome(second)) > len(values)


def test_a_failed_trial_is_recorded_and_the_search_goes_on(training, tmp_path):
    printed = []
    axis = Axis(RATE.path, [0.95, 0.1, 0.03, 0.01])
    one = worker_of(tmp_path, Search(axis, budget_steps=4 * STEPS, pruner=None), printed)
    one.run()
    assert sorted(trial.is_complete for trial in one.trials.all()) == [False, True, True, True]
    assert any('failed: ValueError: not finite' in line for line in printed)


def test_two_workers_share_the_trials(training, tmp_path):
    part = Search(RATE, budget_steps=400)
    first, second = worker_of(tmp_path, part), worker_of(tmp_path, part)
    work = first._next()
    second.run()
    assert first.trials.all()[work.trial.number].is_running
    with work.lease:
        first._train(work)
    first.run()
    assert training.steps == sum(trial.step for trial in first.trials.all()) <= 400
    assert not any(trial.is_running for trial in first.trials.all())


def test_each_compared_cell_and_seed_has_a_search_of_its_own():
    compared = Axis('strategy', [FineTune(), LinearProbe()])
    part = Product(compared, Search(RATE, budget_steps=100), Seeds(3))
    studies = search.studies(part, BASE)
    assert len({study.name for study in studies}) == 6
    assert studies[1].title == 'strategy=FineTune, seed=1'
    cell = studies[1].cell({RATE.path: 0.25})
    assert cell.experiment.seed == 1
    assert cell.experiment.optimizer.learning_rate == 0.25
    assert cell.settings[-1].role is Role.TUNED
    assert expand(part, BASE) == ()


def test_trials_that_do_not_meet_the_conditions_are_drawn_again(training, tmp_path):
    part = Product(
        Search(RATE, budget_steps=300), Where(lambda e: e.optimizer.learning_rate > 0.02)
    )
    one = worker_of(tmp_path, part)
    one.run()
    assert all(values[RATE.path] > 0.02 for values, _ in outcome(one))


@pytest.mark.parametrize(
    ('part', 'message'),
    [
        (lambda: Search(budget_steps=10), 'wanted one Axis'),
        (lambda: Search(RATE, budget_steps=0), 'budget_steps is 0'),
        (lambda: Search(RATE, budget_steps=9, sampler='grid'), "sampler is 'grid'"),
        (lambda: Search(RATE, budget_steps=9, pruner='median'), "pruner is 'median'"),
        (lambda: Search(Axis('epochs', Range(5, 1)), budget_steps=9), 'wanted low < high'),
        (lambda: Search(Axis('epoch', Range(1, 5)), budget_steps=9), 'epoch'),
        (lambda: Search(Axis('epochs', Range(-5, 5)), budget_steps=9), 'epochs'),
        (lambda: Product(*[Search(RATE, budget_steps=9)] * 2), 'this one has several'),
    ],
)
def test_a_wrong_search_is_answered_before_anything_runs(part, message):
    with pytest.raises(SweepError, match=message):
        search.studies(part(), BASE)


def test_a_budget_below_one_run_is_refused(training, tmp_path):
    with pytest.raises(SweepError, match='budget_steps is 50, wanted at least the 90 steps'):
        worker_of(tmp_path, Search(RATE, budget_steps=50)).run()


def test_the_axis_that_matters_is_the_important_one(training, tmp_path):
    decay = Axis('optimizer.weight_decay', Range(0.001, 0.1, log=True))
    worker_of(tmp_path, Search(RATE, decay, budget_steps=240, sampler='random')).run()
    found = trials.importance(tmp_path)
    assert found.by_axis[RATE.path] > 0.5
    assert sum(found.by_axis.values()) == pytest.approx(1)
    assert trials.importance(tmp_path / 'none').by_axis == {}


def test_a_sweep_of_searches_is_recorded_and_reports_its_steps(training, tmp_path, capsys):
    axis = Axis('strategy', [FineTune(), LinearProbe()])
    part = Product(axis, Search(RATE, budget_steps=100))
    options = run.Options(workdir=tmp_path)
    assert listing.dry_run(BASE, part, options) == 0
    assert 'Search of strategy=LinearProbe: at most 100 steps' in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, '_report', lambda *_: None)
        assert run.run(BASE, part, options) == 0
    printed = capsys.readouterr().out
    assert printed.count('of 100 steps used') == 2
    record = SweepFolder(tmp_path).record()
    assert [one.role for one in record.axes] == [Role.COMPARED, Role.TUNED]
    assert len(record.cells) == len(list((tmp_path / 'cells').iterdir()))


def test_a_launcher_of_cells_refuses_searches(tmp_path):
    options = run.Options(workdir=tmp_path, launcher='slurm')
    with pytest.raises(SweepError, match='runs cells, not searches'):
        run.run(BASE, Search(RATE, budget_steps=100), options)
