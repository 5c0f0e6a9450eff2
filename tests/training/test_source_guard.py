"""The guard: the images that short runs hold out, and the verdict on samples."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from tests.small_runs import Blobs, HeadThenAll, experiment
from tests.training.test_phases import Impatient
from tests.training.test_source_data import beside, sourced
from tljax.config.experiment import ConfigError
from tljax.data.subsets import Subset
from tljax.data.synthetic import Synthetic
from tljax.sample_transfer import Guard
from tljax.training import compiled_step, jobs
from tljax.training.batches import Feed, train_batches
from tljax.training.source_guard import draws, guard
from tljax.training.source_guard.verdict import Losses, verdict
from tljax.types import Phase, Rule

pytestmark = pytest.mark.usefixtures('shared_programs')
HALF = np.array([0.9, 0.7, 0.8, 1.1, 0.6, 1.0])
NOISE = np.array([0.5, -0.4, 0.5, -0.5, 0.3, -0.2])


def said(difference, of=HALF, ids=None):
    """The verdict of one pair of runs, whose losses differ by so much."""
    ids = np.arange(len(of)) if ids is None else ids
    return verdict([Losses(ids, of + difference)], [Losses(ids, of)], 5, 9)


def test_a_verdict_is_the_90_percent_interval_of_the_mean_difference():
    assert said(0.1).difference == pytest.approx(0.1)
    assert said(0.1).hurts
    assert not said(0.1).helps
    assert said(NOISE).says == 'unclear'
    assert said(-0.1).says == 'helps'
    assert said(2.0, np.array([1.0])).says == 'unclear'  # one image
    wanted = scipy.stats.t.interval(0.9, 5, NOISE.mean(), scipy.stats.sem(NOISE))
    np.testing.assert_allclose(said(NOISE).interval, wanted)


def test_one_of_twenty_verdicts_on_samples_without_effect_is_that_they_hurt():
    rng = np.random.default_rng(0)
    differences = rng.standard_t(4, (4000, 20))  # heavy tails, as those of losses
    found = np.mean([said(one, np.zeros(20)).hurts for one in differences])
    assert 0.035 < found < 0.055


def test_an_image_held_out_by_several_pairs_counts_once_with_its_mean():
    ids = [np.array([3, 5]), np.array([5, 9])]
    one = [Losses(ids[0], np.array([1.0, 4.0])), Losses(ids[1], np.array([2.0, 2.0]))]
    other = [Losses(rows, np.ones(2)) for rows in ids]
    found = verdict(one, other, 5, 9)
    assert found.count == 3
    assert found.pairs == (1.5, 1.0)
    np.testing.assert_allclose(found.interval, said(np.array([0.0, 2.0, 1.0]), np.ones(3)).interval)


def of_classes(examples):
    """How many images of each class."""
    return np.bincount(examples.labels, minlength=3).tolist()


def test_pairs_hold_out_other_labelled_images_until_all_were_held_out():
    job = jobs.setup(sourced())
    found = draws.make(job, 4)
    assert found[0] is job
    held_out = [one.splits['val'].ids.tolist() for one in found]
    assert len(set(np.concatenate(held_out).tolist())) == 36  # all of them, 9 at a time
    for one in found:
        train, val = one.splits['train'], one.splits['val']
        assert (of_classes(train), of_classes(val)) == ([9, 9, 9], [3, 3, 3])
        assert set(train.ids.tolist()) | set(val.ids.tolist()) == set(range(36))
        assert one.splits['test'] is job.splits['test']
        index = int(np.flatnonzero(train.ids == train.ids[4])[0])
        blob = Blobs().splits()['train'].load(int(train.ids[4]))
        np.testing.assert_array_equal(train.load(index), blob)
    assert [one.splits['val'].ids.tolist() for one in draws.make(job, 4)] == held_out
    again = draws.make(job, 6)[5].splits['val'].ids.tolist()  # from the first on, once more
    assert again == held_out[1]


@dataclasses.dataclass(slots=True, kw_only=True)
class WithValidation:
    """The blobs, some of which are their validation split."""

    def splits(self):
        """See `types.DataSource`."""
        found = Blobs().splits()
        return {
            'train': found['train'].take(np.arange(27)),
            'val': found['train'].take(np.arange(27, 36)),
            'test': found['test'],
        }


@pytest.mark.parametrize(
    'changes', [{'data': WithValidation()}, {'subset': Subset(label_noise=0.3)}]
)
def test_all_pairs_use_the_validation_split_of_the_data_and_other_batches(changes):
    job = jobs.setup(experiment(samples=beside(), **changes))
    found = draws.make(job, 3)
    assert all(one.splits is job.splits for one in found)
    orders = []
    for one in found:
        batches = list(train_batches(one, 3))
        orders += [[b['id'] for b in batches], [b['source']['id'] for b in batches]]
    assert len({tuple(np.concatenate(order).tolist()) for order in orders}) == 6


@pytest.mark.parametrize(
    ('until', 'programs'),
    [pytest.param(None, 2, marks=pytest.mark.slow), (2.0, 3)],
    ids=['all epochs', 'two epochs'],
)
def test_all_pairs_share_two_programs_and_a_third_where_samples_end_early(
    until, programs, monkeypatch
):
    asked = []

    def compile_train_step(*args):
        asked.append(args)
        return lambda key, state, batch, *arrays: (state, None)

    monkeypatch.setattr(compiled_step, 'compile_train_step', compile_train_step)
    job = jobs.setup(sourced(guard=Guard.DROP, until_epochs=until))
    found = guard.compare(job, job.samples)
    assert len(asked) == programs
    assert (found.steps, found.whole, found.count, len(found.pairs)) == (11, 11, 27, 3)


@pytest.mark.slow
def test_a_pair_of_short_runs_does_not_depend_on_the_number_of_pairs():
    one, three = (
        guard.compare(job, job.samples).pairs
        for job in (
            jobs.setup(sourced(guard=Guard.DROP, trial_pairs=n, trial_steps=4)) for n in (1, 3)
        )
    )
    assert one == three[:1]
    assert len(set(three)) == 3


def test_no_pair_of_short_runs_is_refused():
    with pytest.raises(ConfigError, match=r'config.samples.trial_pairs is 0, wanted 1 or more'):
        jobs.setup(sourced(trial_pairs=0))


def test_wrongly_labelled_samples_hurt_and_rightly_labelled_ones_do_not():
    """Both have the target's classes and share its head."""

    @dataclasses.dataclass(slots=True, kw_only=True)
    class Right:
        def splits(self):
            return {'train': Synthetic(**SMALL).splits()['train']}

    target = Synthetic(**SMALL, seed=1)
    said = {}
    for name, source in {'right': Right(), 'wrong': Turned()}.items():
        what = experiment(
            data=target, per_class=20, validation_fraction=0.5, epochs=3.0, augmentations=(),
            samples=beside(data=source, share_head=True, guard=Guard.DROP, trial_steps=100),
        )  # fmt: skip
        job = jobs.setup(what)
        said[name] = guard.compare(job, job.samples)
    assert said['wrong'].hurts
    assert not said['right'].hurts
    assert said['right'].steps == 12  # no more than the run's own
    assert said['wrong'].without == said['right'].without  # the same target batches


SMALL = {
    'num_classes': 3, 'train_per_class': 40, 'test_per_class': 2, 'size_px': 8, 'noise_levels': 10.0
}  # fmt: skip


@dataclasses.dataclass(slots=True, kw_only=True)
class Turned:
    """Waves whose labels are those of the next class."""

    def splits(self):
        """See `types.DataSource`."""
        found = Synthetic(**SMALL).splits()['train']
        return {'train': dataclasses.replace(found, labels=(found.labels + 1) % 3)}


def test_a_phase_after_the_last_step_of_samples_has_no_step_with_samples():
    job = jobs.setup(sourced(until_epochs=1.0))
    phase, until = job.phases[0], job.samples.until
    late = dataclasses.replace(phase, start=until, stop=until + 5, earliest=until)
    assert job.samples.steps_in(phase) == until == 4
    assert job.samples.steps_in(late) == 0


@dataclasses.dataclass(slots=True, kw_only=True)
class TwoOfAll:
    """Two phases of 6 steps that train all stages; the first may run out of patience."""

    patience: int | None = None

    @property
    def pretrained(self):
        """See `types.Strategy`."""
        return True

    def phases(self, params):
        """See `types.Strategy`."""
        rules = (Rule(pattern='**'),)
        return Phase(rules=rules, steps=6, patience=self.patience), Phase(rules=rules, steps=6)


@pytest.fixture
def source_steps(monkeypatch):
    """The steps at which short runs get samples; the steps do nothing else."""
    found = []

    def compile_train_step(*args):
        def run(key, state, batch, *given):
            if 'source' in batch:
                found.append(int(state.step))
            return state, None

        return run

    monkeypatch.setattr(compiled_step, 'compile_train_step', compile_train_step)
    monkeypatch.setattr(guard, 'LossReader', lambda job: lambda *args: Losses(np.arange(6), HALF))
    return found


def test_a_short_run_has_samples_at_the_same_steps_as_training(source_steps):
    """The source ends with step 4, in the first of two phases of 6 steps."""
    job = jobs.setup(sourced(strategy=TwoOfAll(), until_epochs=1.0, trial_pairs=1))
    guard.compare(job, job.samples)
    position, of_training = None, []
    for phase in job.phases:
        feed = Feed(job, phase, position=position)
        steps = range(phase.start, phase.stop)
        of_training += [step for step in steps if 'source' in feed.take(step)]
        position = feed.position
    assert source_steps == of_training == [0, 1, 2, 3]


def test_a_short_run_of_a_later_phase_has_samples_until_they_end(source_steps):
    """Only the second phase, of steps 4 to 10, shares anything with a source that ends at 7."""
    job = jobs.setup(sourced(strategy=HeadThenAll(), until_epochs=2.0, trial_pairs=1))
    found = guard.compare(job, job.samples)
    assert (found.steps, found.whole) == (7, 7)
    assert source_steps == [4, 5, 6]


def test_a_short_run_trains_the_phase_with_the_most_steps_with_samples(monkeypatch):
    """The second phase is longer, and the source ends at its second step."""
    job = jobs.setup(sourced(strategy=HeadThenAll(), share_head=True, data=Blobs()))
    source = dataclasses.replace(job.samples, until=6)
    assert [source.steps_in(phase) for phase in job.phases] == [4, 2]
    asked = []
    monkeypatch.setattr(guard, '_losses', lambda *args: asked.append(args[3].index) or ANY)
    guard.compare(job, source)
    assert asked == [0, 0]


ANY = [Losses(np.arange(6), HALF)]


def test_the_earliest_start_of_a_phase_is_where_the_one_before_can_run_out_of_patience():
    """The first evaluation is the best so far; one or two more may be no better."""
    starts = {}
    for patience in (None, 1, 2):
        what = experiment(strategy=TwoOfAll(patience=patience), evaluate_every_epochs=0.5)
        starts[patience] = jobs.setup(what).phases[1].earliest
    assert starts == {None: 6, 1: 4, 2: 6}  # evaluated at 2, 4 and 6


def test_samples_that_end_before_the_planned_start_count_where_patience_may_end_sooner(
    source_steps,
):
    """The head alone for up to 9 steps, that may be 7, then everything: the source ends at 8."""
    what = sourced(strategy=Impatient(), until_epochs=2.2, trial_pairs=1)
    job = jobs.setup(what)
    assert (job.samples.until, job.phases[1].start, job.phases[1].earliest) == (8, 9, 7)
    guard.compare(job, job.samples)
    assert source_steps == [7]


def test_a_source_that_ends_before_any_start_of_what_it_shares_is_refused():
    with pytest.raises(ConfigError, match='the samples have no effect'):
        jobs.setup(sourced(strategy=Impatient(), until_epochs=2.0))
