"""Penalties in a run: what they read of the start, what they cost, and that a run resumes."""

import dataclasses

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

S = 5  # classes of the source task


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


def penalised(source, *penalties, **changes):
    """The tiny experiment, from these weights, with some penalties."""
    return experiment(backbone=Tiny(weights=source), penalties=penalties, **changes)


ALL = (
    L2SP(), L2SPFisher(examples=4), DELTA(examples=8), BSS(), FeatureDistillation(),
    LogitDistillation(), CoTuning(),
)  # fmt: skip


class Step:
    """A step of the small network with penalties, and where it starts."""

    def __init__(self, rules, *penalties, norm=Norm.AUTO, accumulate=1, rate=1.0, earlier=()):
        model, params, stats = steps_tests.network()
        rng = np.random.default_rng(1)
        head = {'linear': {'kernel': rng.normal(size=(8, S)), 'bias': rng.normal(size=S)}}
        whole = {**model.stages, 'head': steps_tests.layers.ClassifierHead(S)}
        upstream = Upstream(
            model=dataclasses.replace(model, stages=whole, num_classes=S),
            params={'head': jax.tree.map(np.float32, head)},
            stats={},
            first='head',
        )
        phases = [partition.assign(params, rules) for rules in (*earlier, rules)]
        cuts = [find_cut(model, labels, norm) for labels in phases]
        held = penalty_start.PenaltyStart(
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
        self.plan = held.plan(len(phases) - 1) if penalties else None
        self.given = ()
        if penalties:  # of which none looks at examples
            mesh, how = devices.make_mesh(), {'seed': 0, 'batch_size': 8, 'threads': 0}
            self.given = (held.measure(None, mesh, **how),)  # type: ignore[arg-type]
        labels, sgd = phases[-1], SGD(learning_rate=rate, momentum=0.0)
        transform = partition.make(sgd, rules, labels, lambda _: rate)
        self.labels = labels
        self.start = states.create(params, stats, transform, labels)
        self.make = lambda plan: step.make_train_step(
            model, transform, labels, CrossEntropy(), norm=norm, penalties=plan,
            compute=Compute(accumulate=accumulate),
        )  # fmt: skip

    def after(self, start=None, batch=None, plan=None):
        """The state and the sums after one step."""
        return jit(self.make(plan or self.plan))(
            jax.random.key(0), start or self.start, batch or make_batch(), *self.given
        )

    def cost(self):
        """The floating-point operations of a step."""
        arguments = (jax.random.key(0), self.start, make_batch(), *self.given)
        return jit(self.make(self.plan)).lower(*arguments).compile().cost_analysis()['flops']


def moved_from(start, by):
    """A state whose parameters have all moved."""
    return dataclasses.replace(start, params=jax.tree.map(lambda x: x + by, start.params))


def test_a_penalty_adds_its_slope_to_that_of_the_loss():
    plain, held = Step(EVERYTHING), Step(EVERYTHING, L2SP(strength=0.5, head_strength=0.2))
    begun = moved_from(plain.start, 0.25)
    (free, _), (kept, sums) = (one.after(begun) for one in (plain, held))
    pull = jax.tree.map(lambda a, b: a - b, free.params, kept.params)
    below_head = {name: pull[name] for name in STAGES[:-1]}
    jax.tree.map(lambda x: np.testing.assert_allclose(x, 0.5 * 0.25, atol=1e-5), below_head)
    assert_close(
        pull['head'], jax.tree.map(lambda x: 0.2 * x, begun.params['head']), atol=1e-5
    )  # fmt: skip
    shared = sum(x.size for x in jax.tree.leaves(below_head))
    head = sum(float((x**2).sum()) for x in jax.tree.leaves(begun.params['head']))
    wanted = 0.25 * shared * 0.25**2 + 0.1 * head
    np.testing.assert_allclose(sums['penalty_L2SP'] / sums['count'], wanted, rtol=1e-4)


def test_the_loss_that_is_recorded_is_without_penalties():
    plain, held = Step(EVERYTHING), Step(EVERYTHING, L2SP(head_strength=1e3))
    (_, free), (_, kept) = (one.after() for one in (plain, held))
    assert free['loss'] == kept['loss']
    assert kept['penalty_L2SP'] > 1


def test_a_stronger_penalty_ends_nearer_to_the_start():
    ways = []
    for strength in (1e-3, 10.0):
        held = Step(EVERYTHING, L2SP(strength=strength), rate=0.05)
        current, one = held.start, jit(held.make(held.plan))
        for number in range(8):
            current, _ = one(jax.random.key(0), current, make_batch(number), *held.given)
        moved = jax.tree.map(jnp.subtract, current.params['low'], held.start.params['low'])
        ways.append(float(sum((x**2).sum() for x in jax.tree.leaves(moved))))
    assert ways[1] < 0.5 * ways[0]


def test_several_penalties_add_up():
    two = (L2SP(strength=0.5), FeatureDistillation(strength=3.0))
    plain, both, *each = (Step(EVERYTHING, *which) for which in ((), two, two[:1], two[1:]))
    begun = moved_from(plain.start, 0.25)
    free, together, first, second = (one.after(begun)[0].params for one in (plain, both, *each))
    wanted = jax.tree.map(lambda f, a, b: a + b - f, free, first, second)
    assert_close(together, wanted, rtol=1e-4, atol=1e-5)
    assert not equal(first, free)
    assert not equal(second, free)


@pytest.mark.parametrize('penalty', [FeatureDistillation(strength=9.0), LogitDistillation()])
def test_frozen_leaves_and_statistics_stay_bit_identical_under_a_penalty(penalty):
    held = Step(below('top'), penalty)
    end, _ = held.after()
    for name in ('low', 'mid'):
        assert equal(end.params[name], held.start.params[name])
        assert equal(end.stats[name], held.start.stats[name])
    assert not equal(end.params['top'], held.start.params['top'])


def test_what_is_compared_with_is_the_starting_network_and_not_todays():
    held = Step(EVERYTHING, FeatureDistillation(), norm=Norm.AFFINE_ONLY)
    still, moved = (held.after(s)[1] for s in (held.start, moved_from(held.start, 0.25)))
    np.testing.assert_allclose(still['penalty_FeatureDistillation'], 0, atol=1e-6)
    assert moved['penalty_FeatureDistillation'] > 1e-3


def test_statistics_are_those_of_the_start_too():
    """By the batch's own in training, so that nothing else of a step reads the running ones."""
    held = Step(EVERYTHING, FeatureDistillation())
    moved = jax.tree.map(lambda x: x + 0.25, held.start.stats)
    found, wanted = (
        held.after(dataclasses.replace(held.start, stats=stats))[1]['penalty_FeatureDistillation']
        for stats in (moved, held.start.stats)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize('penalty', [FeatureDistillation(stages=('top',)), LogitDistillation()])
def test_the_starting_network_goes_on_from_the_frozen_prefix_with_the_same_result(penalty):
    held = Step(below('top'), penalty)
    assert held.plan.shares_prefix
    begun = moved_from(held.start, 0.0)
    begun.params['top'] = jax.tree.map(lambda x: x + 0.25, begun.params['top'])
    apart = dataclasses.replace(held.plan, shares_prefix=False)
    one, other = (held.after(begun, plan=plan)[0] for plan in (held.plan, apart))
    assert_close(one.params, other.params, rtol=1e-5, atol=1e-6)


def test_of_the_starting_network_only_stages_above_the_cut_are_computed():
    high, low = (
        Step(below(stage), FeatureDistillation()).cost() - Step(below(stage)).cost()
        for stage in ('top', 'low')
    )
    assert 0 < high < low / 2


def test_what_an_earlier_phase_trained_is_not_taken_for_the_start():
    held = Step(below('top'), FeatureDistillation(), earlier=(EVERYTHING,))
    assert not held.plan.shares_prefix
    assert all(leaf is not None for leaf in jax.tree.leaves(held.given[0].params))
    moved = moved_from(held.start, 0.25)
    moved.params['top'] = held.start.params['top']
    assert held.after(moved)[1]['penalty_FeatureDistillation'] > 1e-3


def test_frozen_leaves_are_not_kept_twice():
    held = Step(below('top'), L2SP())
    kept = {n for n in STAGES if jax.tree.leaves(held.given[0].params[n])}
    assert kept == {'top', 'head'}


def test_what_reads_no_start_keeps_none():
    assert not jax.tree.leaves(Step(EVERYTHING, BSS()).given)


def test_parts_of_a_batch_weigh_as_their_rows():
    batch = make_batch()
    batch['mask'][5:] = False
    ends = [
        Step(EVERYTHING, L2SP(), FeatureDistillation(), norm=Norm.AFFINE_ONLY, accumulate=parts)
        for parts in (1, 2)
    ]
    begun = moved_from(ends[0].start, 0.25)
    (one, sums), (two, summed) = (end.after(begun, batch) for end in ends)
    assert_close(two.params, one.params, rtol=1e-4, atol=1e-5)
    for name in ('penalty_L2SP', 'penalty_FeatureDistillation'):
        np.testing.assert_allclose(summed[name], sums[name], rtol=1e-4)


def test_four_devices_pay_as_one_does():
    held = Step(EVERYTHING, BSS(smallest=2), FeatureDistillation(), LogitDistillation(), rate=0.1)
    alone = held.after()[0]
    mesh = devices.make_mesh()
    whole, rows = devices.replicated(mesh), devices.split(mesh)
    shared = jit(
        held.make(held.plan), in_shardings=(whole, whole, rows, whole), out_shardings=whole
    )(jax.random.key(0), held.start, devices.put_batch(mesh, make_batch()), *held.given)[0]
    assert_close(shared.params, alone.params, rtol=1e-4, atol=1e-4)


def test_penalties_of_one_class_are_numbered():
    assert names_of((L2SP(), BSS(), L2SP())) == ('penalty_L2SP', 'penalty_BSS', 'penalty_L2SP_2')


@pytest.fixture(scope='module')
def reference(source, tmp_path_factory):
    """The folder and the result of a run of two phases with every penalty."""
    workdir = tmp_path_factory.mktemp('reference')
    return workdir, train(penalised(source, *ALL, strategy=HeadThenAll()), workdir)


@pytest.mark.parametrize('number', [3, 6])
def test_a_run_with_penalties_resumes_as_if_it_had_not_been_stopped(
    number, source, reference, tmp_path
):
    what = penalised(source, *ALL, strategy=HeadThenAll())
    crash_after(number, what, tmp_path)
    train(what, tmp_path)
    assert_same_run(what, tmp_path, reference)


def test_training_records_have_the_value_of_each_penalty(reference):
    trained = [r for r in records(reference[0]) if r['split'] == 'train']
    names = {f'penalty_{type(one).__name__}' for one in ALL}
    for record in trained:
        assert names <= record.keys()
        assert all(np.isfinite(record[name]) for name in names)
    assert trained[0]['penalty_FeatureDistillation'] == 0  # the head alone has trained
    assert trained[-1]['penalty_FeatureDistillation'] > 0
    others = [r for r in records(reference[0]) if r['split'] != 'train']
    assert not [r for r in others if names & r.keys()]


def test_without_penalties_nothing_of_the_start_is_kept(source):
    job = jobs.setup(penalised(source))
    assert (job.penalty_start, job.penalty_arrays) == (None, ())


def test_without_penalties_nothing_of_them_is_in_the_program():
    """No operation comes from their file, and the program costs what its stages do."""
    one = Step(EVERYTHING)
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
        jobs.setup(penalised(source, penalty, strategy=LinearProbe()))


@pytest.mark.parametrize('strategy', [FineTune(), FromScratch()])
@pytest.mark.parametrize('penalty', [CoTuning(), LogitDistillation(), L2SPFisher()])
def test_without_weights_there_is_no_head_of_a_source_task(penalty, strategy):
    with pytest.raises(InputError, match='no upstream head'):
        jobs.setup(experiment(penalties=(penalty,), strategy=strategy))


def test_from_scratch_nothing_is_drawn_to_weights_that_are_not_used(source):
    with pytest.raises(InputError, match='no pretrained stage trains'):
        jobs.setup(penalised(source, L2SP(), strategy=FromScratch()))


def test_all_penalties_without_effect_are_named_at_once(source):
    with pytest.raises(InputError, match=r'penalties\[0\].*\n.*penalties\[2\]'):
        jobs.setup(penalised(source, DELTA(stages=('mid',)), BSS(), DELTA(stages=('x',))))


def test_a_penalty_out_of_range_is_a_problem_of_the_config(source):
    with pytest.raises(ConfigError, match=r'config.penalties\[1\].strength is -1'):
        jobs.setup(penalised(source, BSS(), L2SP(strength=-1.0)))


def test_co_tuning_knows_each_label_in_source_categories(source):
    job = jobs.setup(penalised(source, CoTuning()))
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
    job = jobs.setup(penalised(source, L2SPFisher(examples=4), strategy=HeadThenAll()))
    (found,) = job.penalty_arrays[0].prepared
    assert found.keys() == {'low', 'high'}
    assert all((leaf >= 0).all() for leaf in jax.tree.leaves(found))
    assert any((leaf > 0).any() for leaf in jax.tree.leaves(found['low']))
