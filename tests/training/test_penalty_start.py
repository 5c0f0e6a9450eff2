"""Penalties in a run: the arrays of the start that they read, their cost, and resumption."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.small_runs import (
    HeadThenAll,
    Tiny,
    assert_same_run,
    crash_after,
    experiment,
    records,
)
from tests.training import test_step as steps_tests
from tests.training.test_step import EVERYTHING, STAGES, assert_close, below, equal, jit, make_batch
from tljax import devices
from tljax.config.experiment import ConfigError
from tljax.data.pipeline import Reading
from tljax.metrics.losses import CrossEntropy
from tljax.models import stages
from tljax.strategies import partition
from tljax.strategies.cut import Compute, find_cut
from tljax.strategies.optimizers import SGD
from tljax.strategies.penalties import (
    BSS,
    DELTA,
    L2SP,
    CoTuning,
    FeatureDistillation,
    L2SPFisher,
    LogitDistillation,
)
from tljax.strategies.strategies import FineTune, FromScratch, LinearProbe
from tljax.training import compiled_step, jobs, penalty_start, states, step
from tljax.training.penalty_terms import Upstream, names_of
from tljax.training.run import train
from tljax.types import InputError, Norm
from tljax.weights import loading, own_format

pytestmark = pytest.mark.usefixtures('shared_programs')
S = 5  # classes of the upstream task


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A file of weights of the tiny network, with a head of its own task."""
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    model = stages.build(Tiny(), S)
    rng = np.random.default_rng(0)
    params, stats = jax.tree.map(
        lambda leaf: rng.uniform(-0.5, 1.0, leaf.shape).astype(np.float32), stages.shapes(model)
    )
    stats = jax.tree.map(np.abs, stats)
    own_format.save(path, params, stats, {})
    return str(path)


def with_penalties(source, *penalties, **changes):
    """The tiny experiment, from these weights, with some penalties."""
    return experiment(backbone=Tiny(weights=source), penalties=penalties, **changes)


ALL = (
    L2SP(), L2SPFisher(examples=4), DELTA(examples=8), BSS(), FeatureDistillation(),
    LogitDistillation(), CoTuning(),
)  # fmt: skip


STEPS: dict[str, 'Step'] = {}


def small_step(rules, *penalties, **options):
    """A `Step`; equal arguments give the same object, which is compiled once."""
    key = repr((rules, penalties, sorted(options.items())))
    if key not in STEPS:
        STEPS[key] = Step(rules, *penalties, **options)
    return STEPS[key]


class Step:
    """A step of the small network with penalties, and its first state."""

    def __init__(self, rules, *penalties, norm=Norm.AUTO, accumulate=1, rate=1.0, earlier=()):
        model, params, stats = steps_tests.network()
        rng = np.random.default_rng(1)
        head = {'linear': {'kernel': rng.normal(size=(8, S)), 'bias': rng.normal(size=S)}}
        upstream_stages = {**model.stages, 'head': steps_tests.layers.ClassifierHead(S)}
        upstream = Upstream(
            model=dataclasses.replace(model, stages=upstream_stages, num_classes=S),
            params={'head': jax.tree.map(np.float32, head)},
            stats={},
            first='head',
        )
        phases = [partition.assign(params, rules) for rules in (*earlier, rules)]
        cuts = [find_cut(model, labels, norm) for labels in phases]
        start = penalty_start.PenaltyStart(
            penalties=penalties,
            model=model,
            params=params,
            stats=stats,
            shared=frozenset(STAGES[:-1]),
            upstream=upstream,
            phases=tuple(
                penalty_start.PhaseChanges(
                    leaves=partition.trained(labels), changed=cut.trainable | cut.updates_statistics
                )
                for labels, cut in zip(phases, cuts, strict=True)
            ),
        )
        self.plan = start.in_phase(len(phases) - 1) if penalties else None
        self.arrays = ()
        if penalties:  # none of which reads examples
            reading = Reading(batch_size=8, threads=0, cache_gigabytes=0.0)
            mesh = devices.make_mesh()
            self.arrays = (start.measure(None, mesh, seed=0, reading=reading),)  # type: ignore[arg-type]
        labels, sgd = phases[-1], SGD(learning_rate=rate, momentum=0.0)
        transform = partition.make(sgd, rules, labels, lambda _: rate)
        self.labels = labels
        self.start = states.create(params, stats, transform, labels)
        self.make = lambda plan: step.make_train_step(
            model, transform, labels, CrossEntropy(), norm=norm, penalties=plan,
            compute=Compute(accumulate=accumulate),
        )  # fmt: skip

    @functools.cached_property
    def compiled(self):
        """The step, jitted."""
        return jit(self.make(self.plan))

    def after(self, start=None, batch=None):
        """The state and the sums after one step."""
        return self.compiled(
            jax.random.key(0), start or self.start, batch or make_batch(), *self.arrays
        )

    def cost(self):
        """The floating-point operations of a step."""
        arguments = (jax.random.key(0), self.start, make_batch(), *self.arrays)
        return steps_tests.operations(self.compiled.lower(*arguments))


def moved_from(start, by):
    """A state with `by` added to every parameter."""
    return dataclasses.replace(start, params=jax.tree.map(lambda x: x + by, start.params))


PULL = L2SP(strength=0.5, head_strength=0.2)
FEATURES = FeatureDistillation(strength=3.0)
TOP = {
    'features': FeatureDistillation(strength=9.0, stages=('top',)), 'logits': LogitDistillation()
}  # fmt: skip
TOP_MEMBERS = ['features', pytest.param('logits', marks=pytest.mark.slow)]


def in_parts(accumulate):
    """A step with two penalties and running statistics, whose batches are split into parts."""
    return small_step(
        EVERYTHING, PULL, FEATURES, norm=Norm.AFFINE_ONLY, accumulate=accumulate, rate=0.5
    )


def test_a_penalty_adds_its_gradient_to_that_of_the_loss():
    plain, penalised = small_step(EVERYTHING), small_step(EVERYTHING, PULL)
    begun = moved_from(plain.start, 0.25)
    (free, _), (kept, sums) = (one.after(begun) for one in (plain, penalised))
    pull = jax.tree.map(lambda a, b: a - b, free.params, kept.params)
    below_head = {name: pull[name] for name in STAGES[:-1]}
    jax.tree.map(lambda x: np.testing.assert_allclose(x, 0.5 * 0.25, atol=1e-5), below_head)
    assert_close(
        pull['head'], jax.tree.map(lambda x: 0.2 * x, begun.params['head']), atol=1e-5
    )  # fmt: skip
    shared = sum(x.size for x in jax.tree.leaves(below_head))
    head = sum(float((x**2).sum()) for x in jax.tree.leaves(begun.params['head']))
    expected = 0.25 * shared * 0.25**2 + 0.1 * head
    np.testing.assert_allclose(sums['penalty_L2SP'] / sums['count'], expected, rtol=1e-4)


def test_the_recorded_loss_has_no_penalties():
    (_, free), (_, kept) = (
        small_step(EVERYTHING, *penalties).after() for penalties in ((), (PULL,))
    )
    assert free['loss'] == kept['loss']
    assert kept['penalty_L2SP'] > 1


def test_a_stronger_penalty_ends_closer_to_the_start():
    distances = []
    for strength in (1e-3, 10.0):
        one = small_step(below('top'), L2SP(strength=strength), rate=0.05)
        current = one.start
        for number in range(8):
            current, _ = one.after(current, make_batch(number))
        moved = jax.tree.map(jnp.subtract, current.params['top'], one.start.params['top'])
        distances.append(float(sum((x**2).sum() for x in jax.tree.leaves(moved))))
    assert distances[1] < 0.5 * distances[0]


@pytest.mark.slow
def test_several_penalties_add_up():
    steps = [small_step(EVERYTHING, *p) for p in ((), (PULL, FEATURES), (PULL,), (FEATURES,))]
    begun = moved_from(steps[0].start, 0.25)
    free, together, first, second = (one.after(begun)[0].params for one in steps)
    expected = jax.tree.map(lambda f, a, b: a + b - f, free, first, second)
    assert_close(together, expected, rtol=1e-4, atol=1e-5)
    assert not equal(first, free)
    assert not equal(second, free)


@pytest.mark.parametrize('name', TOP_MEMBERS)
def test_frozen_leaves_and_statistics_stay_bit_identical_under_a_penalty(name):
    one = small_step(below('top'), TOP[name])
    end, _ = one.after()
    for stage in ('low', 'mid'):
        assert equal(end.params[stage], one.start.params[stage])
        assert equal(end.stats[stage], one.start.stats[stage])
    assert not equal(end.params['top'], one.start.params['top'])


def test_a_penalty_compares_with_the_starting_network():
    one = in_parts(1)
    still, moved = (one.after(s)[1] for s in (one.start, moved_from(one.start, 0.25)))
    np.testing.assert_allclose(still['penalty_FeatureDistillation'], 0, atol=1e-6)
    assert moved['penalty_FeatureDistillation'] > 1e-3


def test_a_penalty_uses_the_statistics_of_the_starting_network():
    """Training uses the batch's statistics, so nothing else of a step reads the running ones."""
    one = small_step(EVERYTHING, FEATURES)
    moved = jax.tree.map(lambda x: x + 0.25, one.start.stats)
    actual, expected = (
        one.after(dataclasses.replace(one.start, stats=stats))[1]['penalty_FeatureDistillation']
        for stats in (moved, one.start.stats)
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize('name', TOP_MEMBERS)
def test_the_starting_network_shares_the_frozen_prefix_with_the_same_result(name):
    one = small_step(below('top'), TOP[name])
    assert one.plan.shares_prefix
    begun = moved_from(one.start, 0.0)
    begun.params['top'] = jax.tree.map(lambda x: x + 0.25, begun.params['top'])
    separate = jit(one.make(dataclasses.replace(one.plan, shares_prefix=False)))
    expected, _ = separate(jax.random.key(0), begun, make_batch(), *one.arrays)
    assert_close(one.after(begun)[0].params, expected.params, rtol=1e-5, atol=1e-6)


def test_a_step_computes_the_starting_network_above_the_cut_only():
    high, low = (
        small_step(below(stage), penalty).cost() - small_step(below(stage)).cost()
        for stage, penalty in (('top', TOP['features']), ('low', FEATURES))
    )
    assert 0 < high < low / 2


def test_the_start_of_stages_that_an_earlier_phase_trained_is_kept():
    one = small_step(below('top'), FeatureDistillation(), earlier=(EVERYTHING,))
    assert not one.plan.shares_prefix
    assert all(leaf is not None for leaf in jax.tree.leaves(one.arrays[0].params))
    moved = moved_from(one.start, 0.25)
    moved.params['top'] = one.start.params['top']
    assert one.after(moved)[1]['penalty_FeatureDistillation'] > 1e-3


def test_frozen_leaves_are_not_kept_twice():
    start = small_step(below('top'), L2SP()).arrays[0].params
    assert {name for name in STAGES if jax.tree.leaves(start[name])} == {'top', 'head'}


def test_a_penalty_that_reads_no_start_keeps_none():
    assert not jax.tree.leaves(small_step(EVERYTHING, BSS()).arrays)


def test_parts_of_a_batch_count_by_their_images():
    batch = make_batch()
    batch['mask'][5:] = False
    begun = moved_from(in_parts(1).start, 0.25)
    (one, sums), (two, summed) = (in_parts(count).after(begun, batch) for count in (1, 2))
    assert_close(two.params, one.params, rtol=1e-4, atol=1e-5)
    for name in ('penalty_L2SP', 'penalty_FeatureDistillation'):
        np.testing.assert_allclose(summed[name], sums[name], rtol=1e-4)


def test_penalties_on_four_devices_equal_those_on_one():
    penalties = BSS(smallest=2), FeatureDistillation(), LogitDistillation()
    one = small_step(below('top'), *penalties, rate=0.1)
    alone = one.after()[0]
    mesh = devices.make_mesh()
    replicated, rows = devices.replicated(mesh), devices.split(mesh)
    shared = jit(
        one.make(one.plan),
        in_shardings=(replicated, replicated, rows, replicated),
        out_shardings=replicated,
    )(jax.random.key(0), one.start, devices.put_batch(mesh, make_batch()), *one.arrays)[0]
    assert_close(shared.params, alone.params, rtol=1e-4, atol=1e-4)


def test_penalties_of_one_class_are_numbered():
    assert names_of((L2SP(), BSS(), L2SP())) == ('penalty_L2SP', 'penalty_BSS', 'penalty_L2SP_2')


RUNS = {'two': (L2SPFisher(examples=4), FeatureDistillation()), 'all': ALL}


def settings_of(name, source):
    """The experiment of a run of two phases with several penalties."""
    return with_penalties(source, *RUNS[name], strategy=HeadThenAll())


@pytest.fixture(scope='module')
def reference_of(shared_programs, source, tmp_path_factory):
    """The function from a run's name to folder and result; it trains each once, without crashes."""
    folder = tmp_path_factory.mktemp('reference')

    @functools.cache
    def reference(name):
        return folder / name, train(settings_of(name, source), folder / name)

    return reference


@pytest.mark.slow
@pytest.mark.parametrize('name', ['two', 'all'])
@pytest.mark.parametrize('number', [3, 6])
def test_a_resumed_run_with_penalties_is_bit_identical(
    number, name, source, reference_of, tmp_path
):
    settings = settings_of(name, source)
    crash_after(number, settings, tmp_path)
    train(settings, tmp_path)
    assert_same_run(settings, tmp_path, reference_of(name))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['two', 'all'])
def test_training_records_have_the_value_of_each_penalty(name, reference_of):
    lines = records(reference_of(name)[0])
    trained = [r for r in lines if r['split'] == 'train']
    names = {f'penalty_{type(one).__name__}' for one in RUNS[name]}
    for record in trained:
        assert names <= record.keys()
        assert all(np.isfinite(record[name]) for name in names)
    assert trained[0]['penalty_FeatureDistillation'] == 0  # the first phase trains the head only
    assert trained[-1]['penalty_FeatureDistillation'] > 0
    assert not [r for r in lines if r['split'] != 'train' and names & r.keys()]


def test_without_penalties_nothing_of_the_start_is_kept(source):
    job = jobs.setup(with_penalties(source))
    assert (job.penalty_start, job.penalty_arrays) == (None, ())


def test_without_penalties_nothing_of_them_is_in_the_program():
    """No operation comes from their file, and the program costs what its stages do."""
    one = small_step(EVERYTHING)
    traced = jax.make_jaxpr(one.make(None))(jax.random.key(0), one.start, make_batch())
    files = {
        frame.file_name.rpartition('/')[-1]
        for equation in traced.jaxpr.eqns
        for frame in equation.source_info.traceback.frames
    }
    assert 'stages.py' in files
    assert 'penalty_terms.py' not in files


@pytest.mark.parametrize('penalty', ALL, ids=lambda one: type(one).__name__)
def test_a_penalty_on_a_linear_probe_is_refused_before_anything_is_compiled(
    penalty, source, monkeypatch
):
    monkeypatch.setattr(compiled_step, 'compile_train_step', None)
    with pytest.raises(InputError, match=rf'penalties\[0\] \({type(penalty).__name__}\) has no'):
        jobs.setup(with_penalties(source, penalty, strategy=LinearProbe()))


@pytest.mark.parametrize('strategy', [FineTune(), FromScratch()])
@pytest.mark.parametrize('penalty', [CoTuning(), LogitDistillation(), L2SPFisher()])
def test_without_weights_there_is_no_head_of_a_source_task(penalty, strategy):
    with pytest.raises(InputError, match='no upstream head'):
        jobs.setup(experiment(penalties=(penalty,), strategy=strategy))


def test_from_scratch_nothing_is_drawn_to_weights_that_are_not_used(source):
    with pytest.raises(InputError, match='no pretrained stage trains'):
        jobs.setup(with_penalties(source, L2SP(), strategy=FromScratch()))


def test_all_penalties_without_effect_are_named_at_once(source):
    with pytest.raises(InputError, match=r'penalties\[0\].*\n.*penalties\[2\]'):
        jobs.setup(with_penalties(source, DELTA(stages=('mid',)), BSS(), DELTA(stages=('x',))))


def test_a_penalty_out_of_range_is_a_problem_of_the_config(source):
    with pytest.raises(ConfigError, match=r'config.penalties\[1\].strength is -1'):
        jobs.setup(with_penalties(source, BSS(), L2SP(strength=-1.0)))


def test_co_tuning_knows_each_label_in_source_categories(source):
    job = jobs.setup(with_penalties(source, CoTuning()))
    (relation,) = job.penalty_arrays[0].prepared
    assert relation.shape == (3, S)
    np.testing.assert_allclose(relation.sum(1), 1, rtol=1e-5)
    pretrained = loading.load(source, Tiny())
    model = stages.build(Tiny(), S)
    train_split = job.splits['train']
    rows = [i for i in range(len(train_split)) if train_split.labels[i] == 1]
    images = np.stack([train_split.load(i) for i in rows])
    logits, _ = stages.run(
        model, pretrained.params, pretrained.stats, stages.normalise(model.preprocessing, images)
    )
    np.testing.assert_allclose(relation[1], jax.nn.softmax(logits).mean(0), rtol=1e-4)


def test_fisher_information_is_there_for_what_trains_and_came_with_the_weights(source):
    job = jobs.setup(with_penalties(source, L2SPFisher(examples=4), strategy=HeadThenAll()))
    (fisher,) = job.penalty_arrays[0].prepared
    assert fisher.keys() == {'low', 'high'}
    assert all((leaf >= 0).all() for leaf in jax.tree.leaves(fisher))
    assert any((leaf > 0).any() for leaf in jax.tree.leaves(fisher['low']))
