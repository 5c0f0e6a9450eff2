"""Every class of an extension point, discovered in the package, keeps its contract."""

import copy
import dataclasses
import functools
import importlib
import inspect
import json
import math
import pkgutil
import shutil
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import prepared
from tljax import augment, data, sample_transfer, tree, types
from tljax.config import config_json
from tljax.config.experiment import Experiment
from tljax.data import arrays, text
from tljax.data.digits import Digits
from tljax.data.subsets import Subset
from tljax.metrics import losses, ordinal, scores, tasks, totals
from tljax.models import adapters, backbones, heads, port, stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.records import trackers
from tljax.strategies import optimizers, partition, penalties, schedules, strategies
from tljax.types import (
    Domains,
    PenaltyInputs,
    Phase,
    Preprocessing,
    Reweighing,
    Rule,
    Seen,
    Setting,
    Start,
    TextPreprocessing,
)
from tljax.weights import recognise

DIGITS = (np.arange(4 * 16, dtype=np.uint8).reshape(4, 4, 4), np.arange(4) % 2)
# Arguments of classes that have required fields, or that do nothing by default.
ARGUMENTS = {
    'FreezeBelow': {'stage': 'stage2'},
    'Surgical': {'stages': ('stage2',)},
    'FineTune': {'learning_rate_scale': 0.5, 'backbone_scale': 0.1},
    'RandomCrop': {'size_px': 6, 'pad_px': 2},
    'Affine': {
        'rotate_degrees': 20.0, 'shear_degrees': 20.0, 'scale_factor': 1.5, 'shift_share': 0.2
    },
    'RandomResizedCrop': {'size_px': 6},
    'Constant': {'warmup_epochs': 1.5},
    'Step': {'warmup_epochs': 0.5, 'every_epochs': 1.5},
    'Cosine': {'warmup_epochs': 2.0},
    'CrossEntropy': {'label_smoothing': 0.1},
    'ClassWeighted': {'loss': losses.CrossEntropy(), 'weights': (1.0, 2.0, 0.5)},
    'Folder': {'path': 'folder'},
    'Manifest': {'path': 'folder/list.csv'},
    'Arrays': {'path': 'folder/arrays.npz'},
    'InMemory': {'digest': arrays.keep(train=DIGITS, test=DIGITS).digest},
    'Texts': {'path': 'folder/texts.csv'},
    'NextTokens': {'texts': text.Texts(path='folder/texts.csv')},
    'NextToken': {'window': 4},
    'OrderedClasses': {'data': Digits(), 'classes': tuple('3012456789')},
    'TFDS': {'name': 'tiny', 'data_dir': 'folder'},
}  # fmt: skip
MODULES = {
    'Backbone': backbones,
    'Head': heads,
    'DataSource': data,
    'Strategy': strategies,
    'Augmentation': augment,
    'Schedule': schedules,
    'Optimizer': optimizers,
    'Loss': losses,
    'Task': tasks,
    'Penalty': penalties,
    'Adapter': adapters,
    'Weighing': sample_transfer,
    'Tracker': trackers,
}
CLASSES = 3


def methods_of(protocol):
    """The names of the methods that a contract asks for."""
    return {
        name
        for name, value in vars(protocol).items()
        if inspect.isfunction(value) and (name == '__call__' or not name.startswith('_'))
    }


def classes_of(kind):
    """The dataclasses in a module, or in the files of a folder, that fulfil a contract."""
    home = MODULES[kind]
    methods = methods_of(getattr(types, kind))
    names = [
        f'{home.__name__}.{m.name}' for m in pkgutil.iter_modules(getattr(home, '__path__', ()))
    ]
    for module in map(importlib.import_module, names or [home.__name__]):
        for value in vars(module).values():
            defined_here = isinstance(value, type) and value.__module__ == module.__name__
            if (
                defined_here
                and '__dataclass_fields__' in vars(value)
                and methods <= set(dir(value))
            ):
                yield value


def instance(value):
    """An instance of a discovered class, with its `ARGUMENTS`."""
    return value(**ARGUMENTS.get(value.__name__, {}))


def every(*kinds, fast=None):
    """Parametrizes a test with an instance of every discovered class of some kinds.

    If names of classes are given as `fast`, the others are marked slow.
    """
    classes = [value for kind in kinds for value in classes_of(kind)]
    parameters = [
        pytest.param(
            instance(value),
            id=value.__name__,
            marks=() if fast is None or value.__name__ in fast else pytest.mark.slow,
        )
        for value in classes
    ]
    return pytest.mark.parametrize('one', parameters)


@pytest.mark.parametrize('kind', MODULES)
def test_the_classes_of_a_kind_are_discovered_and_fulfil_its_protocol(kind):
    classes = list(classes_of(kind))
    assert classes
    assert all(isinstance(instance(one), getattr(types, kind)) for one in classes)


CONFIG_CLASSES = (
    Experiment, Preprocessing, TextPreprocessing, Rule, Phase, Subset,
    sample_transfer.LabelledSource, sample_transfer.UnlabelledPool, sample_transfer.WithoutSource,
    *(value for kind in MODULES for value in classes_of(kind)),
)  # fmt: skip


class TestConfigDataclass:
    """Overrides on the command line need these properties; a failure lists the classes without."""

    def test_it_has_slots_so_that_misspelt_fields_are_caught(self):
        assert [one for one in CONFIG_CLASSES if '__slots__' not in vars(one)] == []
        assert [one for one in CONFIG_CLASSES if one.__dataclass_params__.frozen] == []

    def test_its_fields_are_given_by_name(self):
        fields = [(one, field) for one in CONFIG_CLASSES for field in dataclasses.fields(one)]
        assert [(one, field.name) for one, field in fields if not field.kw_only] == []

    def test_it_has_a_docstring(self):
        texts = {one: inspect.getdoc(one) or '(' for one in CONFIG_CLASSES}
        generated = [o for o, text in texts.items() if text.startswith(('(', f'{o.__name__}('))]
        assert generated == []  # by `dataclass`

    def test_its_annotations_are_types_that_overrides_can_parse(self):
        kinds = [(one, field.type) for one in CONFIG_CLASSES for field in dataclasses.fields(one)]
        assert [(one, kind) for one, kind in kinds if isinstance(kind, str)] == []
        literal = [one for one, kind in kinds if typing.get_origin(kind) is typing.Literal]
        assert literal == []
        assert [one for one in CONFIG_CLASSES if '__post_init__' in vars(one)] == []


def instances():
    """One object of every discovered class."""
    return [instance(value) for kind in MODULES for value in classes_of(kind)]


def test_a_config_object_can_be_copied_deeply():
    for one in instances():
        twin = copy.deepcopy(one)
        assert twin == one
        assert twin is not one


def test_a_config_object_survives_json():
    for one in instances():
        experiment = Experiment(
            backbone=ResNetSmall(),
            data=Digits(),
            strategy=strategies.LinearProbe(),
            optimizer=optimizers.SGD(),
            baselines=(one,),  # a field takes any object in JSON
        )
        assert config_json.from_json(config_json.to_json(experiment)) == experiment


def test_the_default_of_a_config_object_is_valid():
    assert {repr(one): problems for one in instances() if (problems := problems_of(one))} == {}


def problems_of(one):
    """What a config object finds wrong with its fields."""
    return getattr(one, 'problems', list)()


@every('Backbone')
def test_stages_of_a_backbone_have_plain_names_and_leave_the_head_free(one):
    names = list(one.stages())
    assert names
    assert stages.HEAD not in names
    assert all(name.isidentifier() for name in names)
    assert list(one.stages()) == names


@every('Backbone', fast=('AWDLSTM', 'ResNet', 'VGG', 'ViT'))
@pytest.mark.parametrize('trains', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_backbone_and_its_head_turn_its_input_into_logits(one, trains):
    model = stages.build(one, CLASSES)
    params, stats = shapes_of(one)

    def forward(params, stats, x):
        trainable, key = (model.names, jax.random.key(0)) if trains else ((), None)
        return stages.run(model, params, stats, x, trainable=trainable, dropout_key=key)

    logits, after = jax.eval_shape(forward, params, stats, one.preprocessing().first_input(2))
    assert (logits.shape, logits.dtype) == ((2, CLASSES), jnp.float32)
    assert tree.flatten(after).keys() == tree.flatten(stats).keys()


SHAPES = {}


def shapes_of(backbone):
    """The shapes of a backbone's parameters and statistics with its head, traced once."""
    if repr(backbone) not in SHAPES:
        SHAPES[repr(backbone)] = stages.shapes(stages.build(backbone, CLASSES))
    return SHAPES[repr(backbone)]


def leaves_of(backbone):
    """`{path: shape holder}` of a backbone and its head."""
    params, stats = shapes_of(backbone)
    return tree.flatten({'params': params, 'batch_stats': stats})


@every('Backbone')
def test_every_port_table_of_a_backbone_maps_every_leaf_both_ways(one):
    leaves = leaves_of(one)
    zeros = {path: np.broadcast_to(np.int8(0), leaf.shape) for path, leaf in leaves.items()}
    for table in one.port_tables().values():
        back = port.to_ours(port.to_foreign(zeros, table), table, leaves)
        assert {path: leaf.shape for path, leaf in back.items()} == {
            path: leaf.shape for path, leaf in leaves.items()
        }


@every('Backbone')
def test_a_backbone_is_recognised_by_the_names_of_every_library(one):
    leaves = leaves_of(one)
    zeros = {path: np.broadcast_to(np.int8(0), leaf.shape) for path, leaf in leaves.items()}
    for naming, table in one.port_tables().items():
        result = recognise.recognise(port.to_foreign(zeros, table))
        same = one.port_tables()[result.naming] == table  # two libraries can have the same names
        assert same, (naming, result.naming)
        assert type(result.backbone) is type(one)
        assert leaves_of(result.backbone).keys() == leaves.keys()
        assert result.num_classes == CLASSES


@every('Backbone')
def test_a_backbone_is_recognised_by_its_paths(one):
    zeros = {p: np.broadcast_to(np.int8(0), leaf.shape) for p, leaf in leaves_of(one).items()}
    result = recognise.recognise(zeros)
    assert (type(result.backbone), result.naming) == (type(one), port.OWN)
    assert leaves_of(result.backbone).keys() == zeros.keys()


@every('Backbone')
def test_the_preprocessing_of_a_backbone_is_valid(one):
    expected = one.preprocessing()
    assert expected.problems() == []
    if isinstance(expected, TextPreprocessing):
        return
    assert 0 < expected.size_px <= expected.resize_px
    assert len(expected.mean) == len(expected.std) == 3
    assert all(0 <= mean <= 1 for mean in expected.mean)
    assert all(0 < std <= 1 for std in expected.std)


@every('Backbone')
def test_a_backbone_starts_from_random_weights_by_default(one):
    assert one.weights is None


@every('Head')
@pytest.mark.parametrize('shape', [(2, 3, 3, 8), (2, 5, 8), (2, 8)], ids=['maps', 'tokens', 'flat'])
def test_a_head_turns_maps_tokens_and_vectors_into_logits(one, shape):
    x, how = jnp.ones(shape), {'deterministic': True, 'use_running_average': True}
    logits, variables = one.module(CLASSES).init_with_output(jax.random.key(0), x, **how)
    assert logits.shape == (2, CLASSES)
    assert variables['params']['linear']['bias'].shape == (CLASSES,)


@pytest.fixture
def small(one):
    """The shapes of a small network's parameters, the stages in forward order.

    It has adapters if the strategy trains only adapters.
    """
    model = stages.build(ResNetSmall(), CLASSES)
    params = stages.ordered(model, shapes_of(ResNetSmall())[0])
    added = (
        tuple(map(instance, classes_of('Adapter'))) if type(one) is strategies.AdaptersOnly else ()
    )
    return adapters.extended(added, params, jax.random.key(0))


@every('Strategy')
def test_the_rules_of_a_strategy_cover_the_model_and_train_something_in_every_phase(one, small):
    phases = one.phases(small)
    assert phases
    for phase in phases:
        assert not phase.problems()
        labels = partition.assign(small, phase.rules)
        assert tree.flatten(labels).keys() == tree.flatten(small).keys()
        assert any(jax.tree.leaves(partition.trained(labels)))


@every('Strategy')
def test_the_head_trains_in_some_phase_of_a_strategy(one, small):
    trained = [partition.trained(partition.assign(small, p.rules)) for p in one.phases(small)]
    assert any(all(jax.tree.leaves(phase[stages.HEAD])) for phase in trained)


@every('Strategy')
def test_a_strategy_declares_whether_it_starts_from_pretrained_weights(one):
    assert isinstance(one.pretrained, bool)


@every('Adapter')
def test_an_adapter_adds_float32_leaves_to_layers(one):
    params, _ = shapes_of(ResNetSmall())
    added, leaves = one.add(params, jax.random.key(0)), tree.flatten(params)
    assert added
    for path, leaf in added.items():
        layer, marked, _ = path.partition(f'/{types.ADAPTER}/')
        assert marked
        assert any(tree.matches(layer, other) for other in leaves)
        assert leaf.dtype == np.float32


@pytest.mark.parametrize(
    'backbone', [instance(b) for b in classes_of('Backbone')], ids=lambda b: str(b)[:7]
)
@every('Adapter')
def test_an_adapter_merges_into_every_backbone_that_has_its_layers(one, backbone):
    params, _ = shapes_of(backbone)
    try:
        extended = adapters.extended((one,), params, jax.random.key(0))
    except types.InputError as error:
        if 'the model has none' not in str(error):
            raise
        return
    merged = jax.eval_shape(one.merged, extended)
    shapes = [{p: x.shape for p, x in tree.flatten(t).items()} for t in (merged, params)]
    assert shapes[0] == shapes[1]


@every('Adapter')
def test_a_new_adapter_changes_no_layer(one):
    model = stages.build(ResNetSmall(), CLASSES, cut_after='stage1')
    params, _ = stages.init(model, jax.random.key(0))
    merged = one.merged(adapters.extended((one,), params, jax.random.key(1)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), merged, params)
    assert one.merged(params) is params


@functools.cache
def augmented(seed):
    """`{class name: (images, targets)}` of every augmentation with the keys of a seed."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(0, 255, (4, 8, 8, 3)), jnp.float32)
    targets = jax.nn.one_hot(jnp.arange(4) % 3, 3)
    return all_augmentations()(jax.random.split(jax.random.key(seed), 4), images, targets)


@functools.cache
def all_augmentations():
    """All augmentations of the same images in one program, which compiles fastest."""
    each = {one.__name__: instance(one) for one in classes_of('Augmentation')}
    fast_compilation = {
        'xla_backend_optimization_level': 0,
        'xla_llvm_disable_expensive_passes': True,
    }
    return jax.jit(
        lambda *batch: {name: one(*batch) for name, one in each.items()},
        compiler_options=fast_compilation,
    )


@every('Augmentation')
def test_an_augmentation_keeps_shapes_types_and_ranges(one):
    changed, soft = augmented(0)[type(one).__name__]
    size, views = getattr(one, 'size_px', 8), getattr(one, 'views', 1)
    assert (changed.shape, changed.dtype) == ((4 * views, size, size, 3), jnp.float32)
    assert 0 <= changed.min() <= changed.max() <= 255 + 1e-3
    assert soft.shape == (4 * views, 3)
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-6)


@every('Augmentation')
def test_an_augmentation_depends_on_its_keys_alone(one):
    name = type(one).__name__
    first, again, others = (
        each[name][0] for each in (augmented(0), augmented_again(0), augmented(7))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, others) or isinstance(
        one, augment.Copy
    )  # has no random numbers


augmented_again = functools.cache(augmented.__wrapped__)  # computes the same once more


@every('Schedule')
@pytest.mark.parametrize(('steps_per_epoch', 'total'), [(3.375, 11), (1.0, 1), (0.4, 2), (50, 20)])
def test_a_schedule_is_finite_and_never_negative(one, steps_per_epoch, total):
    multiplier = jax.jit(one.multiplier(steps_per_epoch, total))
    values = [float(multiplier(jnp.int32(step))) for step in range(total + 1)]
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in values)
    assert values[0] > 0


@every('Optimizer')
def test_an_optimizer_steps_against_the_gradient_by_its_learning_rate(one):
    params = {'w': jnp.full((3,), 2.0), 'b': jnp.zeros(2)}
    grads = jax.tree.map(jnp.ones_like, params)
    transform = dataclasses.replace(one, weight_decay=0.0).transform(lambda _: 0.25, 1.0)
    for _ in range(2):
        updates, _ = jax.jit(transform.update)(grads, transform.init(params), params)
        for update in jax.tree.leaves(updates):
            np.testing.assert_allclose(update, -0.25, rtol=1e-4)


@every('Optimizer')
def test_an_optimizer_scales_its_weight_decay_per_group(one):
    params = {'w': jnp.full((3,), 2.0)}
    grads = {'w': jnp.zeros(3)}
    decaying = dataclasses.replace(one, weight_decay=0.5)
    moves = []
    for scale in (0.0, 1.0, 2.0):
        transform = decaying.transform(lambda _: 0.25, scale)
        moves.append(transform.update(grads, transform.init(params), params)[0]['w'])
    np.testing.assert_array_equal(moves[0], 0)
    np.testing.assert_allclose(moves[1], -0.25 * 0.5 * 2, rtol=1e-5)
    np.testing.assert_allclose(moves[2], 2 * moves[1], rtol=1e-5)


@every('Optimizer')
@pytest.mark.parametrize('value', [0.0, -1.0, math.inf, math.nan])
def test_an_optimizer_reports_an_invalid_learning_rate(one, value):
    broken = dataclasses.replace(one, learning_rate=value)
    assert [line for line in broken.problems() if line.startswith('learning_rate is')]


ROWS = 6


def labelled(task):
    """Outputs and labels of a small batch of a task, as arrays on the host."""
    rng = np.random.default_rng(0)
    shape = (ROWS, *task.label_shape(CLASSES))
    several = shape if task.continues else (ROWS,)  # logits for every token
    logits = rng.normal(0, 2, (*several, task.outputs(CLASSES))).astype(np.float32)
    return logits, rng.integers(0, 2, shape).astype(task.label_dtype)


def sums_of(task, mask):
    """The sums of the small batch with its default loss."""
    logits, labels = (jnp.asarray(x) for x in labelled(task))
    losses_of = task.default_loss()(logits, task.targets(labels, CLASSES))
    return task.sums(logits, labels, losses_of, jnp.asarray(mask))


@every('Task')
def test_the_default_loss_of_a_task_fits_its_targets(one):
    assert one.loss_problem(one.default_loss()) is None
    logits, labels = labelled(one)
    targets = one.targets(jnp.asarray(labels), CLASSES)
    assert targets.dtype == (jnp.float32 if one.keeps_outputs else jnp.int32)
    assert one.default_loss()(jnp.asarray(logits), targets).shape == (ROWS,)


@every('Task')
def test_padding_does_not_count_in_the_sums_of_a_task(one):
    sums, zeros = sums_of(one, np.zeros(ROWS, bool)), one.zeros(CLASSES)
    assert {n: (x.shape, x.dtype) for n, x in sums.items()} == {
        n: (x.shape, x.dtype) for n, x in zeros.items()
    }
    assert all(not np.asarray(x).any() for x in (*sums.values(), *zeros.values()))


@every('Task')
def test_the_summary_of_a_task_has_its_score(one):
    sums, (logits, labels) = sums_of(one, np.ones(ROWS, bool)), labelled(one)
    summary = totals.summary(one, sums, [(logits, labels)] if one.reads_rows else ())
    assert summary['count'] == ROWS
    assert math.isfinite(summary['loss'])
    assert math.isfinite(summary[one.score.name])
    assert scores.of(summary) is one.score
    assert scores.of(totals.summary(one, sums)) is one.score  # as in a record of training
    better = -1 if one.score.lower_is_better else 1
    best = {**summary, one.score.name: summary[one.score.name] + better}
    assert totals.rank(best) > totals.rank(summary)


@every('Task')
def test_equal_views_have_the_prediction_of_one_of_them(one):
    logits = jnp.asarray(labelled(one)[0])
    averaged = one.average(jnp.stack([logits] * 3, 1))
    assert averaged.shape == logits.shape
    np.testing.assert_allclose(one.predicted(averaged), one.predicted(logits), rtol=1e-5)


@every('Task')
def test_a_task_states_the_width_of_its_head(one):
    assert one.count(one.outputs(CLASSES)) == CLASSES
    model = stages.build(ResNetSmall(), CLASSES, task=one)
    params, _ = stages.shapes(model)
    shapes = {path: leaf.shape for path, leaf in tree.flatten({'params': params}).items()}
    assert stages.outputs_of_head(shapes) == model.outputs == one.outputs(CLASSES)


@every('Task')
def test_labels_of_a_task_survive_predictions_and_json(one):
    _, labels = labelled(one)
    np.testing.assert_array_equal(one.recorded(labels).astype(one.label_dtype), labels)
    assert len(json.loads(json.dumps(one.listed(labels)))) == ROWS
    assert len(one.strata(labels)) == ROWS
    assert all(isinstance(name, str) for name in one.names(labels[0], ('a', 'b', 'c')))


@every('Loss')
def test_a_loss_is_finite_per_example_and_smaller_for_correct_logits(one):
    targets = jax.nn.one_hot(jnp.arange(2), CLASSES)
    scale = 1 if getattr(one, 'numbers', False) else 3
    right, wrong = scale * targets, scale * jnp.roll(targets, 1, -1)
    large = 1e15 if scale == 1 else 1e30
    if getattr(one, 'predicts_variance', False):
        right, wrong = (jnp.concatenate([x, jnp.zeros_like(x)], -1) for x in (right, wrong))
    if getattr(one, 'ordinal', False):
        pair = (jax.nn.log_softmax(x) for x in (right, wrong))
        right, wrong = map(ordinal.conditional_logits, pair)
    if isinstance(one, losses.TokenCrossEntropy):
        targets, right, wrong = jnp.arange(2)[:, None], right[:, None], wrong[:, None]
    good, bad, huge = (jax.jit(one.__call__)(x, targets) for x in (right, wrong, large * right))
    assert good.shape == (2,)
    assert np.isfinite([good, bad, huge]).all()
    assert (good < bad).all()


@pytest.fixture
def folder(tmp_path, monkeypatch, prepared_set):
    """A working directory with a small `folder/` of images, and the other files of sources."""
    monkeypatch.chdir(tmp_path)
    for split, count in (('train', 3), ('test', 2)):
        for name in ('cat', 'dog'):
            (tmp_path / 'folder' / split / name).mkdir(parents=True)
            for index in range(count):
                path = tmp_path / 'folder' / split / name / f'{index}.png'
                Image.new('RGB', (12, 10), (index, 0, 0)).save(path)
    files = sorted((tmp_path / 'folder').rglob('*.png'))
    rows = [f'{path},{path.parent.name},{path.parent.parent.name}' for path in files]
    (tmp_path / 'folder/list.csv').write_text('\n'.join(['path,label,split', *rows]))
    texts = [f'text {i},{"ab"[i % 2]},{"test" if i < 2 else "train"}' for i in range(6)]
    (tmp_path / 'folder/texts.csv').write_text('\n'.join(['text,label,split', *texts]))
    images, labels = DIGITS
    np.savez(
        tmp_path / 'folder/arrays.npz',
        train_images=images, train_labels=labels, test_images=images, test_labels=labels,
    )  # fmt: skip
    shutil.copytree(prepared_set / 'tiny', tmp_path / 'folder/tiny')


@pytest.fixture(scope='session')
def prepared_set(tmp_path_factory):
    """A folder with a set of TensorFlow Datasets in it."""
    path = tmp_path_factory.mktemp('prepared')
    prepared.prepare(path)
    return path


@pytest.mark.usefixtures('folder')
@every('DataSource')
def test_the_splits_of_a_source_are_consistent(one):
    splits = one.splits()
    assert {'train', 'test'} <= splits.keys() <= {'train', 'val', 'test'}
    names = splits['train'].class_names
    ids = np.concatenate([split.ids for split in splits.values()])
    assert len(np.unique(ids)) == len(ids)
    for split in splits.values():
        assert len(split) == len(split.ids) > 0
        assert split.class_names == names
        assert ids.dtype == np.int64
        if split.task is not None and split.task.numbers:
            assert split.labels.shape == (len(split), len(names))
            assert split.labels.dtype == np.float32
            continue
        assert split.labels.dtype == np.int32
        assert set(np.unique(split.labels)) == set(range(len(names)))


@pytest.mark.usefixtures('folder')
@every('DataSource')
def test_a_source_loads_the_same_rgb_image_or_text_each_time(one):
    split = one.splits()['test']
    image = split.load(len(split) - 1)
    if isinstance(image, str):
        assert image == one.splits()['test'].load(len(split) - 1)
        return
    assert (image.ndim, image.shape[2], image.dtype) == (3, 3, np.uint8)
    np.testing.assert_array_equal(one.splits()['test'].load(len(split) - 1), image)


def penalty_inputs():
    """The start of a network of two stages and a head, and inputs after a step."""
    setting = Setting(
        stages=('low', 'top', 'head'),
        shared=frozenset({'low', 'top'}),
        trained=frozenset({'low', 'top', 'head'}),
        upstream_classes=4,
    )
    params = {name: {'scale': jnp.linspace(1, 2, 6)} for name in setting.stages}

    def run(params, x, start, stop):
        for name in setting.stages[setting.stages.index(start or 'low') :]:
            if name == stop:
                return x
            x = x * params[name]['scale'].reshape(1, 1, 1, -1)

    images = jax.random.normal(jax.random.key(0), (8, 2, 2, 6))
    batch = images, jnp.arange(8) % CLASSES, jnp.ones(8, bool)
    common = {
        'setting': setting,
        'upstream': lambda x: x.mean((1, 2)) @ jax.random.normal(jax.random.key(1), (6, 4)),
    }
    start = Start(
        num_classes=CLASSES, task=tasks.classes.Classes(), params=params,
        trained=jax.tree.map(lambda _: True, params), run=run,
        batches=lambda _: iter([batch]), key=jax.random.key(2), **common,
    )  # fmt: skip
    features = {'low': images, 'top': 2 * images}
    inputs = PenaltyInputs(
        trained=jax.tree.map(lambda leaf: leaf + 1, params),
        start=params,
        features=features,
        start_features=jax.tree.map(lambda maps: maps + 1, features),
        targets=jax.nn.one_hot(batch[1], CLASSES),
        mask=batch[2],
        **common,
    )
    return start, inputs


@every('Penalty')
def test_a_penalty_is_a_finite_number_with_a_gradient_that_is_not_zero(one):
    start, inputs = penalty_inputs()
    needed = one.needs(start.setting)
    assert one.obstacle(start.setting) is None
    features = {name: inputs.features[name] for name in needed.features}
    prepared = one.prepare(start)

    def value(trained, features):
        seen = dataclasses.replace(inputs, trained=trained, features=features)
        return one(seen, prepared)

    penalty, gradient = jax.jit(jax.value_and_grad(value, (0, 1)))(inputs.trained, features)
    assert (penalty.shape, penalty.dtype) == ((), jnp.float32)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((penalty, gradient)))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@every('Penalty')
def test_the_preparation_of_a_penalty_is_deterministic(one):
    first, again = (one.prepare(penalty_inputs()[0]) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)


@every('Penalty')
def test_a_penalty_reports_an_invalid_strength(one):
    for value in (0.0, -1.0, math.inf, math.nan):
        broken = dataclasses.replace(one, strength=value)
        assert [line for line in broken.problems() if line.startswith('strength is')]


def domains():
    """60 source examples of three classes, and 30 target examples like the first class."""
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int32) % 3
    source = np.float32(rng.normal(size=(60, 4)) + 3 * np.eye(4)[labels])
    target = np.float32(rng.normal(size=(30, 4)) + 3 * np.eye(4)[0])
    return Domains(
        count=60,
        features=lambda: (source, target),
        labels=lambda: labels,
        predictions=lambda: np.tile([0.8, 0.1, 0.1], (30, 1)),
        seed=3,
    )


@every('Weighing')
def test_a_weighing_is_deterministic_and_its_weights_have_mean_1(one):
    weights = one.measure(domains())
    assert weights.shape == (60,)
    assert weights.min() >= 0
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_array_equal(weights, one.measure(domains()))


@every('Weighing')
def test_a_weighing_during_training_is_pure_and_ignores_padding(one):
    if not isinstance(one, Reweighing):
        return
    memory = jax.tree.map(jnp.asarray, one.begin(5, 1.0, 4))
    x = jax.random.normal(jax.random.key(0), (3, 4))
    seen = Seen(
        step=jnp.int32(0), last=True, rows=jnp.array([4, 1, 0]),
        mask=jnp.array([True, True, False]), wrong=jnp.array([0.9, 0.2, 1.0]),
        features=x, errors=x[:, :2],
        slope=jnp.ones((4, 2)), offset=jnp.ones(2),
    )  # fmt: skip
    weights, after = jax.jit(lambda w, m: one.update(w, m, seen))(jnp.ones(5), memory)
    again, _ = one.update(
        jnp.ones(5), memory, dataclasses.replace(seen, wrong=seen.wrong.at[2].set(0))
    )
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, memory)
    assert weights.shape == (5,)
    assert (weights >= 0).all()
    assert not np.array_equal(weights, np.ones(5))
    np.testing.assert_allclose(again, weights, rtol=1e-6)
