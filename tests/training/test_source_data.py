"""Training with samples of a source domain: their part of a step, and resumption."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.small_runs import (
    Blobs,
    HeadThenAll,
    TinyStage,
    assert_identical,
    assert_same_run,
    crash_after,
    experiment,
    last_checkpoint,
    records,
)
from tljax import devices
from tljax.augment import Copy, Cutout, MixUp
from tljax.config.experiment import ConfigError
from tljax.data import arrays
from tljax.data.synthetic import Synthetic
from tljax.metrics.losses import CrossEntropy
from tljax.models import stages
from tljax.records import checkpoint_reading, runs
from tljax.sample_transfer import (
    GradientAlignment,
    Guard,
    LabelledSource,
    NearestSelection,
    TrAdaBoost,
    UnlabelledPool,
)
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import LPFT, LinearProbe
from tljax.training import compiled_step, jobs, states
from tljax.training.batches import train_batches
from tljax.training.run import train
from tljax.types import Examples, InputError, Norm, Seen

pytestmark = pytest.mark.usefixtures('shared_programs')
WAVES = Synthetic(num_classes=4, train_per_class=10, test_per_class=1, size_px=8)


def beside(**changes):
    """Samples of four classes, without a guard."""
    return LabelledSource(**{'data': WAVES, 'guard': Guard.OFF, **changes})


def sourced(**changes):
    """The tiny experiment with samples; see `small_runs.experiment`."""
    fields = {name: changes.pop(name) for name in list(changes) if name in EXPERIMENT}
    return experiment(samples=beside(**changes), **fields)


EXPERIMENT = {f.name for f in dataclasses.fields(experiment())} - {'data', 'per_class'}


@dataclasses.dataclass(slots=True, kw_only=True)
class Mislabelled:
    """The blobs as samples; the second half of them has wrong labels."""

    def splits(self):
        """See `types.DataSource`."""
        train_split = Blobs().splits()['train']
        labels = train_split.labels.copy()
        labels[18:] = (labels[18:] + 1) % 3
        return {'train': dataclasses.replace(train_split, labels=labels)}


def pool(**changes):
    """The tiny experiment with the blobs as unlabelled samples, most of which get a label."""
    fields = {
        'data': Blobs(), 'threshold': 0.4, 'guard': Guard.OFF, 'strong': (Cutout(),), **changes
    }  # fmt: skip
    return experiment(samples=UnlabelledPool(**fields), optimizer=SGD(learning_rate=0.1))


RUNS = {
    'alignment': lambda: sourced(until_epochs=2.0, weights=GradientAlignment()),
    'phases': lambda: sourced(
        strategy=HeadThenAll(),
        until_epochs=2.0,
        ema_decay=0.9,
        weights=TrAdaBoost(),
        accumulate=2,
    ),
    'shared head': lambda: sourced(
        data=Mislabelled(), share_head=True, weights=NearestSelection(), guard=Guard.WARN
    ),
    'pool': pool,
    'solved head': lambda: sourced(strategy=LPFT(learning_rate_scale=0.1), epochs=2.0),
}  # fmt: skip


@functools.cache
def resolved(name):
    """A job of `RUNS`, with equal weights."""
    return jobs.setup(RUNS[name]())


@pytest.fixture(scope='module')
def reference_of(shared_programs, tmp_path_factory):
    """The function from a run's name to folder and result; it trains each once, without crashes."""
    folder = tmp_path_factory.mktemp('reference')

    @functools.cache
    def reference(name):
        return folder / name, train(RUNS[name](), folder / name)

    return reference


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_a_run_with_samples_that_crashed_and_resumed_is_bit_identical(name, reference_of, tmp_path):
    crash_after(5, RUNS[name](), tmp_path)
    train(RUNS[name](), tmp_path)
    reference = reference_of(name)
    assert_same_run(RUNS[name](), tmp_path, reference)
    resumed, expected = (
        last_checkpoint(RUNS[name](), folder)[0]['state'].source
        for folder in (tmp_path, reference[0])
    )
    assert jax.tree.leaves(resumed)
    assert [r for r in records(tmp_path) if 'source_loss' in r]
    assert_identical(resumed, expected)


def batches(job, steps=6):
    """The first ones, on the host."""
    return list(train_batches(job, steps))


def test_target_rows_are_those_of_a_run_without_samples():
    with_samples, without = (batches(jobs.setup(e)) for e in (sourced(), experiment()))
    for one, other in zip(with_samples, without, strict=True):
        one.pop('source')
        assert_identical(one, other)


def test_sample_rows_depend_on_seed_and_step_only(monkeypatch):
    reference = [batch['source'] for batch in batches(resolved('alignment'))]
    threads = jobs.setup(dataclasses.replace(RUNS['alignment'](), data_threads=0))
    assert_identical([batch['source'] for batch in batches(threads)], reference)
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    halves = []
    for index in range(2):
        monkeypatch.setattr(jax, 'process_index', lambda index=index: index)
        halves.append(batches(resolved('alignment')))
    for wanted, *both in zip(reference, *halves, strict=True):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *(b['source'] for b in both))
        assert_identical(joined, wanted)
    other = batches(jobs.setup(sourced(seed=1)))
    assert not np.array_equal(other[0]['source']['id'], reference[0]['id'])


def test_batches_resume_where_they_were_saved():
    stream = iter(train_batches(resolved('alignment'), 11))
    for _ in range(4):
        next(stream)
    saved = json.loads(json.dumps(stream.get_state()))
    wanted = [next(stream) for _ in range(4)]
    again = iter(train_batches(resolved('alignment'), 11))
    again.set_state(saved)
    assert_identical([next(again) for _ in range(4)], wanted)
    assert ['source' in batch for batch in wanted] == [True] * 3 + [False]  # until step 7


class Step:
    """One step of a job from its start, with an optimizer that has no state."""

    def __init__(self, **changes):
        plain = {
            'optimizer': SGD(learning_rate=1.0, momentum=0.0),
            'clip_norm': None,
            'augmentations': (),
            'backbone': Still(),
        }
        self.job = jobs.setup(sourced(**{**plain, **changes}))
        self.phase = self.job.phases[0]

    def after(self, with_samples, weights=None, batch=None):
        """The state and the sums after it."""
        job, state = self.job, jobs.first_state(self.job)
        if weights is not None:
            state = dataclasses.replace(
                state, source=dataclasses.replace(state.source, weights=jnp.float32(weights))
            )
            state = devices.put_replicated(job.mesh, state)
        batch = dict(batch or batches(job, 1)[0])
        if not with_samples:
            batch.pop('source', None)
        program = compiled_step.compile_train_step(job, self.phase, with_samples=with_samples)
        return program(jobs.train_key(job), state, devices.put_batch(job.mesh, batch))

    def moved(self, *arguments, **named):
        """The change of the network's parameters by the step."""
        after, _ = self.after(*arguments, **named)
        return jax.tree.map(lambda a, b: np.asarray(a) - b, after.params, self.job.params)


class WithoutDropout(TinyStage):
    """A stage without dropout."""

    def __call__(self, x, *, deterministic, use_running_average):
        """As in `TinyStage`."""
        return super().__call__(x, deterministic=True, use_running_average=use_running_average)


@dataclasses.dataclass(slots=True, kw_only=True)
class Still:
    """The tiny network without dropout; its head does not start at zero."""

    weights: str | None = None

    def stages(self):
        """See `types.Backbone`."""
        return {'low': WithoutDropout(4), 'high': WithoutDropout(8)}

    def head(self, num_classes):
        """See `types.Backbone`."""
        from tljax.models import layers

        return layers.ClassifierHead(num_classes, kernel_std=0.5)

    def port_tables(self):
        """See `types.Backbone`."""
        return {}

    def preprocessing(self):
        """See `types.Backbone`."""
        from tljax.types import Preprocessing

        return Preprocessing(size_px=8, resize_px=8)


def assert_close(found, wanted, atol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-3), found, wanted)


def difference(one, other):
    return jax.tree.map(lambda a, b: a - b, one, other)


def norm(tree):
    return float(np.sqrt(sum(np.square(x).sum() for x in jax.tree.leaves(tree))))


def test_the_gradient_of_samples_is_scaled_by_the_ratio_of_rows_and_the_weights():
    """A fraction of 2/3 is twice as many rows, and twice the gradient of their mean."""
    half, more = Step(), Step(fraction=2 / 3)
    assert (half.job.samples.rows, more.job.samples.rows) == (8, 16)
    alone = half.moved(False)
    batch = batches(half.job, 1)[0]
    pull = difference(half.moved(True), alone)
    assert norm(pull['low']) > 1e-3
    assert norm(pull['head']) == 0  # the samples have their own head
    doubled = {**batch, 'source': jax.tree.map(lambda x: np.concatenate([x, x]), batch['source'])}
    twice = difference(more.moved(True, batch=doubled), alone)
    assert_close(twice, jax.tree.map(lambda x: 2 * x, pull), atol=1e-4)
    weighed = difference(half.moved(True, weights=np.full(40, 0.25)), alone)
    assert_close(weighed, jax.tree.map(lambda x: 0.25 * x, pull))
    assert_close(half.moved(True, weights=np.zeros(40)), alone, atol=0)


def test_each_sample_counts_by_its_own_weight():
    step = Step()
    batch = batches(step.job, 1)[0]
    alone, rows = step.moved(False), batch['source']['id']
    parts = []
    for chosen in (rows[:3], rows[3:]):
        weights = np.zeros(40)
        weights[chosen] = 1
        parts.append(difference(step.moved(True, weights=weights), alone))
    both = difference(step.moved(True), alone)
    assert_close(jax.tree.map(lambda a, b: a + b, *parts), both)
    assert norm(parts[0]) > 1e-3


@pytest.mark.parametrize(
    'norm_policy', [Norm.AUTO, pytest.param(Norm.AFFINE_ONLY, marks=pytest.mark.slow)]
)
def test_running_statistics_follow_the_target_only(norm_policy):
    step = Step(norm=norm_policy)
    (with_samples, _), (alone, _) = (step.after(one) for one in (True, False))
    assert_identical(with_samples.stats, alone.stats)


def test_samples_are_normalised_by_the_statistics_of_samples():
    """A sample's gradient does not depend on the target's images, but on the other samples."""
    step = Step(share_head=True, data=Mislabelled())
    batch = batches(step.job, 1)[0]
    one = np.zeros(36)
    one[batch['source']['id'][0]] = 1  # the others count through statistics alone
    shown = batch['source']['input'].copy()
    shown[1:] = 255 - shown[1:]
    pulls = [
        difference(step.moved(True, one, changed), step.moved(False, one, changed))
        for changed in (
            batch,
            {**batch, 'input': 255 - batch['input']},
            {**batch, 'source': {**batch['source'], 'input': shown}},
        )
    ]
    assert_close(*pulls[:2])
    assert norm(difference(pulls[0]['head'], pulls[2]['head'])) > 0.1 * norm(pulls[0]['head']) > 0


@pytest.mark.slow
def test_accumulated_parts_add_up_to_the_whole_batch():
    whole, parts = (Step(norm=Norm.AFFINE_ONLY, accumulate=n) for n in (1, 4))
    assert_close(whole.moved(True), parts.moved(True))
    (_, one), (_, other) = (step.after(True) for step in (whole, parts))
    assert float(one['source_loss']) == pytest.approx(float(other['source_loss']), rel=1e-4)


@pytest.mark.parametrize(
    'one',
    [Copy(views=2), pytest.param(MixUp(), marks=pytest.mark.slow)],
    ids=['copies', 'mixed'],
)
def test_samples_are_copied_and_mixed_too(one):
    _, sums = Step(augmentations=(one,)).after(True)
    assert float(sums['source_count']) == 8 * getattr(one, 'views', 1)
    assert np.isfinite(float(sums['source_loss']))


def flops(job, with_samples):
    program = compiled_step.compile_train_step(job, job.phases[0], with_samples=with_samples)
    return program.compiled.cost_analysis()['flops']


def test_a_step_costs_as_much_as_its_rows_and_without_samples_as_a_plain_step():
    job = Step().job
    plain, double = (
        jobs.setup(dataclasses.replace(job.experiment, samples=None, batch_size=n)) for n in (8, 16)
    )
    assert flops(job, False) == flops(plain, False)
    assert flops(job, True) == pytest.approx(flops(double, False), rel=0.12)


@pytest.mark.slow
def test_the_strength_of_samples_falls_to_zero_by_their_last_epoch(reference_of):
    job = resolved('phases')
    assert job.samples.until == 7
    strengths = [float(job.samples.strength(np.float32(at))) for at in (0, 3.5, 7)]
    assert strengths == pytest.approx([1.0, 0.5, 0.0])
    assert jobs.samples_end(job, job.phases[1]) == 7
    trained = [r for r in records(reference_of('phases')[0]) if r['split'] == 'train']
    assert [r['step'] for r in trained] == [4, 5, 7, 10, 11]
    assert [r['step'] for r in trained if 'source_loss' in r] == [5, 7]


def test_the_saved_network_has_no_leaf_of_the_samples(reference_of):
    folder, _ = reference_of('phases')
    saved = runs.read(folder)
    assert set(saved.params) == {'low', 'high', 'head'}
    assert saved.params['head']['linear']['bias'].shape == (3,)
    _, params, _ = checkpoint_reading.read_variables(folder / 'checkpoints')
    assert params.keys() == saved.params.keys()


@pytest.mark.slow
def test_the_head_of_the_samples_is_trained(reference_of):
    arrays, _ = last_checkpoint(RUNS['phases'](), reference_of('phases')[0])
    head = arrays['state'].source.head['head']['linear']
    assert head['bias'].shape == (4,)
    assert np.abs(head['kernel']).max() > 0


def test_a_phase_that_trains_no_shared_leaf_has_no_samples():
    job = resolved('phases')
    first, second = job.phases
    assert (first.start, jobs.samples_end(job, first)) == (0, 0)
    assert (second.start, jobs.samples_end(job, second)) == (4, 7)
    assert [job.samples.steps_in(phase) for phase in job.phases] == [0, 3]


def test_samples_of_weight_zero_are_not_read():
    job = jobs.setup(sourced())
    weights = np.zeros(40, np.float32)
    weights[[3, 20, 21]] = 40 / 3
    job = dataclasses.replace(job, samples=dataclasses.replace(job.samples, weights=weights))
    ids = np.concatenate([b['source']['id'] for b in batches(job, 7)])
    assert set(ids.tolist()) == {3, 20, 21}


def test_a_shared_head_matches_classes_by_name():
    some = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1])
    reordered = arrays.keep(train=some, test=some, class_names=('c', 'a'))
    job = jobs.setup(sourced(data=reordered, share_head=True))
    assert job.samples.examples.labels.tolist() == [2, 0, 2, 0]
    assert job.samples.head == {}


@pytest.mark.slow
def test_samples_that_are_always_misclassified_lose_weight(tmp_path):
    """TrAdaBoost, where half of the samples have wrong labels."""
    what = sourced(
        data=Mislabelled(), share_head=True, weights=TrAdaBoost(), epochs=40.0,
        evaluate_every_epochs=40.0, checkpoint_every_steps=None, augmentations=(), evaluate=(),
    )  # fmt: skip
    result = train(what, tmp_path)
    arrays, _ = last_checkpoint(what, tmp_path)
    weights = np.asarray(arrays['state'].source.weights)
    assert weights.max() <= 1
    assert weights[18:].mean() < 0.8 * weights[:18].mean()
    assert result['source']['mean_weight_at_the_end'] == pytest.approx(weights.mean(), rel=1e-4)


@pytest.mark.parametrize(
    'shared',
    [False, pytest.param(True, marks=pytest.mark.slow)],
    ids=['own head', 'shared head'],
)
def test_gradient_alignment_weights_samples_by_the_product_of_gradients_of_the_shared_layer(shared):
    """The layer before both heads, or the shared head; the gradients come from `jax.grad`."""
    changes = {'data': Mislabelled(), 'share_head': True} if shared else {}
    step = Step(weights=GradientAlignment(rate=1.0), norm=Norm.AFFINE_ONLY, **changes)
    job, batch = step.job, batches(step.job, 1)[0]
    after, _ = step.after(True, batch=batch)

    def read(images):
        x = stages.normalise(job.model.preprocessing, images)
        x, _ = stages.run(job.model, job.params, job.stats, x, stop='head')
        return x.mean((1, 2))

    target, source = read(batch['input']), read(batch['source']['input'])
    head = job.params['head']['linear']
    other = head if shared else job.samples.head['head']['linear']
    kinds = head['kernel'].shape[1], other['kernel'].shape[1]

    def loss(layer, features, labels, linear, classes):
        if shared:
            logits = features @ (linear['kernel'] + layer[:-1]) + (linear['bias'] + layer[-1])[None]
        else:
            features = features + features @ layer[:-1] + layer[-1][None]
            logits = features @ linear['kernel'] + linear['bias'][None]
        return CrossEntropy()(logits, jax.nn.one_hot(labels, classes)).mean()

    layer = jnp.zeros((9, kinds[0] if shared else 8))
    pull = jax.grad(loss)(layer, target, batch['label'], head, kinds[0])
    rows = jax.vmap(lambda x, label: jax.grad(loss)(layer, x[None], label[None], other, kinds[1]))(
        source, jnp.asarray(batch['source']['label'])
    )
    aligned = np.maximum((pull[None] * rows).sum((1, 2)), 0)
    wanted = aligned / aligned.mean()
    assert 0 < (aligned > 0).sum() < len(aligned)
    found = np.asarray(after.source.weights)[batch['source']['id']]
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-4)


def test_gradient_alignment_moves_weights_towards_zero_if_no_sample_helps():
    x, errors = jnp.array([[1.0, 2.0]]), jnp.array([[0.5, -0.5]])
    seen = Seen(
        step=jnp.int32(0), last=True, rows=jnp.array([2]), mask=jnp.array([True]),
        wrong=jnp.zeros(1), features=x, errors=errors, slope=-x.T @ errors, offset=-errors[0],
    )  # fmt: skip
    after, _ = GradientAlignment(rate=0.25).update(jnp.ones(5), {}, seen)
    np.testing.assert_allclose(after, [1, 1, 0.75, 1, 1])
    helps = dataclasses.replace(seen, slope=x.T @ errors, offset=errors[0])
    after, _ = GradientAlignment(rate=0.25).update(jnp.full(5, 0.5), {}, helps)
    np.testing.assert_allclose(after, [0.5, 0.5, 0.625, 0.5, 0.5])


def test_a_round_of_tradaboost_ends_with_its_epoch_and_averages_over_its_steps():
    scheme = TrAdaBoost(round_epochs=2.0)
    weights, memory = jnp.ones(3), jax.tree.map(jnp.asarray, scheme.begin(3, 1.0, 6))
    wrong = {0: [0.9, 0.1], 1: [0.5, 0.1]}  # of examples 0 and 1, in two steps
    for at, values in wrong.items():
        seen = Seen(
            step=jnp.int32(at), last=True, rows=jnp.array([0, 1, 2]),
            mask=jnp.array([True, True, False]), wrong=jnp.array([*values, 1.0]),
            features=None, errors=None, slope=None, offset=None,
        )  # fmt: skip
        weights, memory = scheme.update(weights, memory, seen)
        assert (at == 1) == (float(weights[0]) < 1)
    beta = 1 / (1 + np.sqrt(2 * np.log(3) / 3))
    np.testing.assert_allclose(weights, beta ** np.array([0.7, 0.1, 0.4]), rtol=1e-5)
    assert not memory['shown'].any()


def test_a_round_of_tradaboost_ends_where_steps_are_skipped_too():
    """As in short runs and in trials, whose steps are spread over a phase: rounds of 3 steps."""
    scheme = TrAdaBoost(round_epochs=3.0)
    weights, memory = jnp.ones(2), jax.tree.map(jnp.asarray, scheme.begin(2, 1.0, 9))
    fell = []
    for at in (0, 2, 4, 6, 8):
        seen = Seen(
            step=jnp.int32(at), last=True, rows=jnp.arange(2), mask=jnp.array([True, False]),
            wrong=jnp.array([1.0, 0.0]), features=None, errors=None, slope=None, offset=None,
        )  # fmt: skip
        before = float(weights[0])
        weights, memory = scheme.update(weights, memory, seen)
        if float(weights[0]) != before:
            fell.append(at)
    assert fell == [2, 6, 8]


@pytest.mark.parametrize(
    ('what', 'words'),
    [
        (lambda: sourced(strategy=LinearProbe()), 'the samples have no effect'),
        (lambda: sourced(share_head=True), r"the source has classes \['class0'"),
        (lambda: sourced(fraction=1.0), 'config.samples.fraction is 1.0'),
        (lambda: sourced(least_share=0.0), 'config.samples.least_share is 0.0'),
        (
            lambda: sourced(weights=TrAdaBoost(round_epochs=0)),
            'config.samples.weights.round_epochs',
        ),
        (lambda: sourced(per_class=11), '11 examples per class were asked for'),
        (
            lambda: sourced(guard=Guard.DROP, validation_fraction=0.0),
            'the guard needs validation images',
        ),
        (lambda: pool(paths=('x',)), 'wanted one of them'),
        (lambda: pool(threshold=1.0), 'config.samples.threshold is 1.0'),
        (
            lambda: sourced(weights=GradientAlignment(), strategy=BackboneOnly()),
            'needs trained heads of one linear layer',
        ),
    ],
)
def test_impossible_samples_are_refused_before_anything_is_compiled(what, words):
    with pytest.raises(InputError, match=words):
        jobs.setup(what())


@dataclasses.dataclass(slots=True, kw_only=True)
class BackboneOnly:
    """All stages except the head are trained."""

    pretrained: bool = True

    def phases(self, params):
        """See `types.Strategy`."""
        from tljax.types import Phase, Rule

        return (Phase(rules=(Rule(pattern='head', train=False), Rule(pattern='**'))),)


def test_a_state_without_samples_has_none_of_their_fields():
    job = jobs.setup(experiment())
    assert jobs.first_state(job).source is None
    assert 'source_loss' not in jobs.zero_totals(job)
    assert isinstance(job.splits['train'], Examples)
    assert states.evaluated(jobs.first_state(job)).keys() == job.params.keys()
    with pytest.raises(ConfigError, match=r'config.samples is 3 \(int\)'):
        jobs.setup(experiment(samples=3))
