"""Networks against the figures of other libraries, small figures of our own, and themselves."""

import dataclasses
import functools
import importlib.util
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tests import golden_small, golden_transformers
from tljax import tree
from tljax.models import port, stages
from tljax.models.backbones.convnext import ConvNeXt
from tljax.models.backbones.efficientnet import EfficientNet
from tljax.models.backbones.efficientnet_lite import EfficientNetLite
from tljax.models.backbones.efficientnet_v2 import EfficientNetV2
from tljax.models.backbones.mobilenet import MobileNetV3
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vgg import VGG
from tljax.models.backbones.vit import ViT
from tljax.types import InputError, Preprocessing

# Nothing here runs twice: unoptimised, the networks compile in half the time.
_OPTIONS = {'xla_backend_optimization_level': 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """One pass in training mode, dropout off; norms by foreign name."""

    loss: float
    gradient_norms: dict[str, float]
    running_norms: dict[str, float]


class Network:
    """A backbone with the weights of a state dict, and how to run it."""

    def __init__(self, backbone, num_classes: int, tensor, naming: str | None = None):
        tables = backbone.port_tables()
        rules = tables[naming or next(iter(tables))]
        self.model = stages.build(backbone, num_classes)
        params, stats = stages.shapes(self.model)
        wanted = tree.flatten({'params': params, 'batch_stats': stats})
        self.paths, shapes = _foreign_names(wanted, rules)
        state_dict = {name: tensor(name, shape) for name, shape in shapes.items()}
        leaves = tree.unflatten(port.to_ours(state_dict, rules, wanted))
        self.params, self.stats = leaves['params'], leaves.get('batch_stats', {})

    def evaluate(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Every stage's output, by stage."""

        def outputs(params, stats, x):
            result = {}
            for name, following in _slices(self.model):
                x, _ = stages.run(self.model, params, stats, x, start=name, stop=following)
                result[name] = x
            return result

        compiled = jax.jit(outputs, compiler_options=_OPTIONS)
        return jax.tree.map(np.asarray, compiled(self.params, self.stats, images))

    def train(self, images: np.ndarray, labels: np.ndarray, dtype: str) -> Trained:
        """The mean cross-entropy of a batch, and what comes of it; uses up the network's values."""
        one_hot = np.eye(self.model.num_classes, dtype=dtype)[labels]

        def loss(params, stats, x):
            logits, stats = stages.run(self.model, params, stats, x, trainable=self.model.names)
            return -(one_hot * jax.nn.log_softmax(logits)).sum(1).mean(), stats

        def with_norms(*inputs):
            """No gradient leaves the program: VGG-16's take 1 GB in float64."""
            result, gradients = jax.value_and_grad(loss, has_aux=True)(*inputs)
            return result, jax.tree.map(lambda x: jnp.sqrt((x * x).sum()), gradients)

        with jax.enable_x64(dtype == 'float64'), pytest.MonkeyPatch.context() as patch:
            if dtype == 'float64':
                patch.setattr(jax.lax, 'conv_general_dilated', convolution_by_products)
            leaves, structure = jax.tree.flatten((self.params, self.stats, images))
            del self.params, self.stats  # VGG-16's are 0.5 GB in float32, and 1.1 GB in float64
            for index, leaf in enumerate(leaves):
                leaves[index] = jnp.array(leaf, dtype)
            inputs = jax.tree.unflatten(structure, leaves)
            (value, stats), norms = jax.jit(with_norms, compiler_options=_OPTIONS)(*inputs)
        return Trained(
            loss=float(value),
            gradient_norms=self._by_foreign_name({'params': norms}),
            running_norms=self._by_foreign_name(
                {'batch_stats': jax.tree.map(np.linalg.norm, jax.device_get(stats))}
            ),
        )

    def _by_foreign_name(self, leaves: tree.Tree) -> dict[str, float]:
        by_path = tree.flatten(leaves)
        return {name: float(by_path[p]) for name, p in self.paths.items() if p in by_path}


def _slices(model):
    return zip(model.names, [*model.names[1:], None], strict=True)


def _foreign_names(leaves, rules):
    """`{name: path}` and `{name: shape}`, told from leaves that hold their own number."""
    paths = list(leaves)
    numbered = {
        path: np.broadcast_to(np.int16(index), leaves[path].shape)
        for index, path in enumerate(paths)
    }
    foreign = {
        name: array
        for name, array in port.to_foreign(numbered, rules).items()
        if not name.endswith('num_batches_tracked')  # written as zeros, and no leaf
    }
    names = {name: paths[array.flat[0]] for name, array in foreign.items()}
    return names, {name: array.shape for name, array in foreign.items()}


def convolution_by_products(x, kernel, strides, padding, **_others):
    """`lax.conv_general_dilated` as one matrix product.

    XLA has no fast float64 convolution on CPU: VGG-11's gradients took 30 s with it, 3 s so.
    """
    (height, width), (stride, _) = kernel.shape[:2], strides
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, cols = ((n - k) // stride + 1 for n, k in zip(x.shape[1:3], (height, width), strict=True))
    views = [
        x[:, i : i + stride * rows : stride, j : j + stride * cols : stride][:, :rows, :cols]
        for i in range(height)
        for j in range(width)
    ]
    return jnp.tensordot(jnp.concatenate(views, -1), kernel.reshape(-1, kernel.shape[-1]), 1)


@pytest.mark.parametrize(('size', 'stride'), [(1, 2), (3, 1), (3, 2), (7, 2)])
def test_the_product_that_stands_in_for_float64_convolutions_is_one(size, stride):
    x = jnp.asarray(golden_small.images(2, 9))
    kernel = jnp.asarray(golden_small.tensor('kernel', (size, size, 3, 4)))
    pad = (size - 1) // 2
    how = ((stride, stride), ((pad, pad), (pad, pad)))
    names = ('NHWC', 'HWIO', 'NHWC')
    expected = jax.lax.conv_general_dilated(x, kernel, *how, dimension_numbers=names)
    np.testing.assert_allclose(
        convolution_by_products(x, kernel, *how), expected, rtol=1e-4, atol=1e-5
    )


# --- the figures of torchvision, timm and transformers ---


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where a reference network is compared: sizes in evaluation, dtypes in training."""

    backbone: Any
    sizes: Sequence[int] = (97,)
    dtypes: Sequence[str] = ()
    naming: str = 'torchvision'


PLANS = {
    'resnet18': Plan(ResNet(depth=18), (97, 224), ('float32',)),
    'resnet34': Plan(ResNet(depth=34)),
    'resnet50': Plan(ResNet(depth=50), dtypes=('float64',)),
    'resnet101': Plan(ResNet(depth=101)),
    'resnet152': Plan(ResNet(depth=152)),
    'vgg11': Plan(VGG(depth=11), (97, 224)),
    'vgg16': Plan(VGG(depth=16)),
    'vgg16_bn': Plan(VGG(depth=16, batch_norm=True), dtypes=('float32',)),
    'vgg19': Plan(VGG(depth=19)),
    'timm_of_vgg16': Plan(VGG(depth=16), naming='timm'),
    'transformers_of_resnet50': Plan(ResNet(depth=50), naming='transformers'),
    'convnext_tiny': Plan(ConvNeXt(), (97, 224), ('float32',)),
    'timm_of_convnext_tiny': Plan(ConvNeXt(), naming='timm'),
    'vit_b_32': Plan(ViT(patch_px=32), (224,), ('float32',)),
    'timm_of_vit_small_patch16_224': Plan(ViT(width=384), (224,), ('float32',), naming='timm'),
}
# ResNet-18 by default. Small networks stand for the other families below, as these are `slow`.
ALWAYS = {('resnet18', 97), ('resnet18', 'float32')}


def _cases(pairs):
    return [pytest.param(*pair, marks=() if pair in ALWAYS else pytest.mark.slow) for pair in pairs]


_SIZES = [(name, size) for name, plan in PLANS.items() for size in plan.sizes]
EVALUATED = _cases(_SIZES)
WITH_STAGES = _cases((n, px) for n, px in _SIZES if n.startswith(('resnet', 'vgg')))
TRAINED = _cases((name, dtype) for name, plan in PLANS.items() for dtype in plan.dtypes)


@pytest.fixture(scope='module')
def reference(golden):
    """`reference_weights.py` beside the figures."""
    spec = importlib.util.spec_from_file_location('reference', golden / 'reference_weights.py')
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def measured(reference):
    """`measured(name)` evaluates at a size and trains in a dtype, once each.

    The weights of the last network stay, and no others: VGG-16's alone take 0.5 GB.
    """

    @functools.lru_cache(1)
    def network(name: str) -> Network:
        return Network(PLANS[name].backbone, 1000, reference.tensor, PLANS[name].naming)

    def measure(name: str) -> types.SimpleNamespace:
        _, figures = reference.golden(name)
        size, batch = figures['train']['size'], figures['train']['batch']

        @functools.cache
        def evaluated(px: int) -> dict[str, np.ndarray]:
            return network(name).evaluate(_nhwc(reference.images(2, px)))

        @functools.cache
        def trained(dtype: str) -> Trained:
            images, labels = _nhwc(reference.images(batch, size)), reference.labels(batch)
            used_up = network(name)
            network.cache_clear()
            return used_up.train(images, labels, dtype)

        return types.SimpleNamespace(
            outputs=evaluated,
            training=trained,
            evaluation_figures={entry['size']: entry for entry in figures['eval']},
            training_figures=figures['train'],
        )

    return functools.cache(measure)


def _nhwc(images):
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _torch_stages(name: str, features: Mapping[str, Any]) -> dict[str, Any]:
    """Torchvision's figures by our stages; what it pools within the head or `fc6` is no stage."""
    if name.startswith('resnet'):
        return {('stem' if key == 'maxpool' else key.replace('layer', 'stage')): value
                for key, value in features.items() if key != 'avgpool'}  # fmt: skip
    pooled = [value for key, value in features.items() if key.startswith('features.')]
    stages = {f'stage{index}': value for index, value in enumerate(pooled, 1)}
    return stages | {'fc7': features['classifier.4']}


@pytest.mark.parametrize(('name', 'size'), EVALUATED)
def test_logits_equal_the_references(measured, name, size):
    ours = measured(name).outputs(size)['head']
    wanted = measured(name).evaluation_figures[size]
    np.testing.assert_allclose(np.linalg.norm(ours), wanted['logits_norm'], rtol=1e-4)
    atol = 1e-4 * np.abs(wanted['logits']).max()
    np.testing.assert_allclose(ours[:, :32], wanted['logits'], rtol=0, atol=atol)


@pytest.mark.parametrize(('name', 'size'), WITH_STAGES)
def test_every_stages_output_equals_torchvisions(measured, name, size):
    ours = measured(name).outputs(size)
    stages = _torch_stages(name, measured(name).evaluation_figures[size]['features'])
    assert set(ours) - set(stages) <= {'fc6', 'head'}
    for stage, wanted in stages.items():
        output = ours[stage].transpose(0, 3, 1, 2) if ours[stage].ndim == 4 else ours[stage]
        assert list(output.shape) == wanted['shape_nchw'], stage
        figures = [np.linalg.norm(output), output.mean()]
        np.testing.assert_allclose(figures, [wanted['norm'], wanted['mean']], 1e-4, err_msg=stage)
        atol = 1e-4 * wanted['norm'] / np.sqrt(output.size)
        np.testing.assert_allclose(
            output.ravel()[:8], wanted['first'], rtol=1e-4, atol=atol, err_msg=stage
        )


@pytest.mark.parametrize(('name', 'dtype'), TRAINED)
def test_the_training_loss_equals_the_references(measured, name, dtype):
    ours, wanted = measured(name).training(dtype), measured(name).training_figures
    np.testing.assert_allclose(ours.loss, wanted['loss'], rtol=1e-4)


@pytest.mark.parametrize(('name', 'dtype'), TRAINED)
def test_running_statistics_move_as_torchvisions(measured, name, dtype):
    ours, wanted = measured(name).training(dtype), measured(name).training_figures
    _assert_norms_close(ours.running_norms, wanted['running_stat_norms'], rtol=1e-4, atol=0)


@pytest.mark.parametrize(('name', 'dtype'), TRAINED)
def test_every_gradient_norm_equals_the_references(measured, name, dtype):
    ours, wanted = measured(name).training(dtype), measured(name).training_figures
    _assert_norms_close(ours.gradient_norms, wanted['gradient_norms'], **GRADIENTS_WITHIN[dtype])


# In float32, gradients through the batch statistics of four images are ill-conditioned: torch's own
# of ResNet-50 are up to 8.6e-3 from those in float64, which is why the deep ones are compared in
# float64. `atol` is for gradients that are zero but for rounding: biases before a BatchNorm.
GRADIENTS_WITHIN = {
    'float32': {'rtol': 5e-3, 'atol': 1e-4},
    'float64': {'rtol': 1e-6, 'atol': 1e-6},
}


def _assert_norms_close(ours, wanted, rtol, atol):
    """Relative to each norm, and to nothing but `atol` for norms under 1e-6."""
    assert set(ours) == set(wanted)
    for name, norm in wanted.items():
        limit = atol if norm < 1e-6 else rtol * norm
        assert abs(ours[name] - norm) <= limit, (name, ours[name], norm)


# --- our own small figures ---


SMALL = {
    'resnet18': Plan(ResNet(depth=18), dtypes=('float32',)),
    'resnet_small20': Plan(ResNetSmall(depth=20), dtypes=('float64',)),
    'vgg11': Plan(VGG(depth=11), dtypes=('float32',)),
    'vgg11_bn': Plan(VGG(depth=11, batch_norm=True), dtypes=('float32',)),
}


SMALL_CASES = [
    name if name == 'resnet_small20' else pytest.param(name, marks=pytest.mark.slow)
    for name in SMALL
]


@pytest.fixture(scope='module')
def small():
    """`small(name)`: our logits of two images, our training on four, and the figures for both."""

    @functools.cache
    def measure(name: str) -> tuple[np.ndarray, Trained, dict[str, Any]]:
        network = Network(SMALL[name].backbone, golden_small.NUM_CLASSES, golden_small.tensor)
        size = golden_small.SIZE_PX[name]
        logits = network.evaluate(golden_small.images(2, size))['head']
        batch = golden_small.images(4, size), golden_small.labels(4)
        return logits, network.train(*batch, *SMALL[name].dtypes), golden_small.figures()[name]

    return measure


@pytest.mark.parametrize('name', SMALL_CASES)
def test_logits_equal_our_small_figures(small, name):
    logits, _, wanted = small(name)
    atol = 1e-4 * np.abs(wanted['eval_logits']).max()
    np.testing.assert_allclose(logits, wanted['eval_logits'], rtol=0, atol=atol)


@pytest.mark.parametrize('name', SMALL_CASES)
def test_the_training_loss_and_running_statistics_equal_our_small_figures(small, name):
    _, ours, wanted = small(name)
    np.testing.assert_allclose(ours.loss, wanted['loss'], rtol=1e-4)
    _assert_norms_close(ours.running_norms, wanted['running_norms'], rtol=1e-4, atol=0)


@pytest.mark.parametrize('name', SMALL_CASES)
def test_every_gradient_norm_equals_our_small_figures(small, name):
    _, ours, wanted = small(name)
    (dtype,) = SMALL[name].dtypes
    _assert_norms_close(ours.gradient_norms, wanted['gradient_norms'], **GRADIENTS_WITHIN[dtype])


# --- transformers' figures of small networks, under its names of today and of before ---


def before_release_5(name: str) -> str:
    """What transformers' files call an entry of a ViT, whichever release wrote them."""
    name = name.replace('vit.layers.', 'vit.encoder.layer.').replace('o_proj', 'output.dense')
    for new, old in (('q_proj', 'query'), ('k_proj', 'key'), ('v_proj', 'value')):
        name = name.replace(f'attention.{new}', f'attention.attention.{old}')
    return name.replace('mlp.fc1', 'intermediate.dense').replace('mlp.fc2', 'output.dense')


@pytest.mark.parametrize(
    ('name', 'rename', 'naming'),
    [
        ('vit', str, 'transformers'),
        pytest.param('vit', before_release_5, 'transformers4', marks=pytest.mark.slow),
        ('convnext', str, 'transformers'),
        ('resnet18', str, 'transformers'),
    ],
)
def test_logits_equal_transformers(name, rename, naming):
    wanted = golden_transformers.figures()[name]
    network = _of_transformers(wanted, rename)
    assert network.origin.naming == naming
    logits = network.logits(golden_small.images(2, golden_transformers.NETWORKS[name][2]))
    atol = 1e-4 * np.abs(wanted['logits']).max()
    np.testing.assert_allclose(logits, wanted['logits'], rtol=0, atol=atol)


def _of_transformers(figures, rename):
    """The network of the entries by formula that the figures are of."""
    return tljax.load(
        {
            rename(key): np.zeros((), np.int64)
            if key.endswith('num_batches_tracked')
            else golden_small.tensor(key, tuple(shape))
            for key, shape in figures['manifest'].items()
        }
    )


def test_transformers_names_before_release_5_give_the_same_network():
    figures = golden_transformers.figures()['vit']
    new, old = (_of_transformers(figures, rename) for rename in (str, before_release_5))
    assert (new.origin.naming, old.origin.naming) == ('transformers', 'transformers4')
    assert new.model == old.model
    jax.tree.map(np.testing.assert_array_equal, new.params, old.params)


# --- properties ---


SMALL_IMAGES = Preprocessing(size_px=32, resize_px=32)


def _drawn(backbone) -> Any:
    """A model of three classes with weights by formula, and two pairs of images that share one."""
    cut = 'stage3' if isinstance(backbone, VGG) else None  # its fc6 has 100 million weights
    model = stages.build(backbone, 3, cut_after=cut, preprocessing=SMALL_IMAGES)
    draw = functools.partial(tree.map_paths, lambda path, x: golden_small.tensor(path, x.shape))
    params, stats = map(draw, stages.shapes(model))
    first, second, third = golden_small.images(3, SMALL_IMAGES.size_px)
    return model, params, stats, np.stack([first, second]), np.stack([first, third])


def _every_output(model, params, stats, x, trainable=()):
    outputs = {}
    for name, following in _slices(model):
        x, stats = stages.run(
            model, params, stats, x, start=name, stop=following, trainable=trainable
        )
        outputs[name] = x
    return outputs, stats


FAMILIES = [
    ResNetSmall(depth=8),
    pytest.param(ResNet(depth=18), marks=pytest.mark.slow),
    VGG(depth=11),
    ViT(width=64, depth=2),
    pytest.param(ConvNeXt(depths=(1, 1, 2, 1), widths=(8, 16, 32, 64)), marks=pytest.mark.slow),
    pytest.param(
        EfficientNet(depths=(1, 2, 1, 1, 1, 1, 1), widths=(8, 16, 24, 32, 40, 48, 56)),
        marks=pytest.mark.slow,
    ),
    pytest.param(EfficientNetV2(depths=(1,) * 6), marks=pytest.mark.slow),
    pytest.param(MobileNetV3.small(), marks=pytest.mark.slow),
    pytest.param(
        EfficientNetLite(depths=(1, 2, 1, 1, 1, 1, 1), widths=(8, 16, 24, 32, 40, 48, 56)),
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize('backbone', FAMILIES, ids=str)
def test_running_a_prefix_and_then_its_suffix_equals_running_all(backbone):
    model, params, stats, x, _ = _drawn(backbone)
    whole, _ = stages.run(model, params, stats, x)
    for cut in model.names[1:]:
        middle, _ = stages.run(model, params, stats, x, stop=cut)
        logits, _ = stages.run(model, params, stats, middle, start=cut)
        np.testing.assert_array_equal(logits, whole, err_msg=cut)


@pytest.mark.parametrize('backbone', FAMILIES, ids=str)
def test_an_image_in_evaluation_does_not_depend_on_the_others_of_its_batch(backbone):
    model, params, stats, *pairs = _drawn(backbone)
    one, other = (_every_output(model, params, stats, pair)[0] for pair in pairs)
    for name in model.names:
        np.testing.assert_array_equal(one[name][0], other[name][0], err_msg=name)


def test_an_image_in_training_depends_on_the_others_of_its_batch():
    model, params, stats, *pairs = _drawn(ResNetSmall(depth=8))
    one, other = (_every_output(model, params, stats, pair, model.names)[0] for pair in pairs)
    assert all(np.any(one[name][0] != other[name][0]) for name in model.names)


def test_live_stages_alone_update_their_running_statistics():
    model, params, stats, x, _ = _drawn(ResNetSmall(depth=8))
    _, updated = _every_output(model, params, stats, x, trainable=('stage2', 'head'))
    before, after = tree.flatten(stats), tree.flatten(updated)
    changed = {path for path in before if np.any(before[path] != after[path])}
    assert changed == {path for path in before if path.startswith('stage2/')}


def test_dropout_is_on_in_live_stages_given_a_key_and_nowhere_else():
    model = stages.build(VGG(dropout=0.25), 3)
    kernel = golden_small.tensor('kernel', (4096, 4096))
    params = {'fc7': {'linear': {'kernel': kernel, 'bias': np.ones(4096, np.float32)}}}
    x = jnp.ones((2, 4096))

    def zeros(**how):
        output, _ = stages.run(model, params, {}, x, start='fc7', stop='head', **how)
        return np.mean(np.asarray(output) == 0)

    plain, key = zeros(), jax.random.key(0)
    assert zeros(trainable=('fc7',)) == zeros(trainable=('fc6',), dropout_key=key) == plain
    assert zeros(trainable=('fc7',), dropout_key=key) == pytest.approx(
        plain + (1 - plain) / 4, abs=0.02
    )


@pytest.mark.parametrize(
    ('cut_after', 'names'),
    [
        (None, ('stage1', 'stage2', 'stage3', 'stage4', 'stage5', 'fc6', 'fc7', 'head')),
        ('fc7', ('stage1', 'stage2', 'stage3', 'stage4', 'stage5', 'fc6', 'fc7', 'head')),
        ('stage5', ('stage1', 'stage2', 'stage3', 'stage4', 'stage5', 'head')),
        ('stage1', ('stage1', 'head')),
    ],
)
def test_a_cut_keeps_the_stages_up_to_it_and_the_head_follows(cut_after, names):
    model = stages.build(VGG(depth=11), 3, cut_after=cut_after)
    assert model.names == names


@pytest.mark.parametrize(
    ('cut_after', 'features'), [('fc7', 4096), ('stage5', 512), ('stage2', 128)]
)
def test_the_head_reads_the_features_of_the_stage_before_it(cut_after, features):
    params, _ = stages.shapes(stages.build(VGG(depth=11), 3, cut_after=cut_after))
    assert params['head']['linear']['kernel'].shape == (features, 3)


def test_a_cut_after_no_stage_is_an_input_error_that_names_the_stages():
    with pytest.raises(InputError, match=r"'layer9', wanted one of \['stem', 'stage1', 'stage2'"):
        stages.build(ResNet(depth=18), 3, cut_after='layer9')


@pytest.mark.parametrize(
    'backbone', [ResNet(depth=19), ResNetSmall(depth=18), VGG(depth=15), VGG(dropout=1.0)], ids=str
)
def test_a_field_out_of_range_is_a_problem_that_names_what_was_wanted(backbone):
    (problem,) = backbone.problems()
    assert 'wanted' in problem
