"""Real networks on real images have the accuracy and the outputs of their originals."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from benchmarks import real_networks
from tljax.models import stages
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vgg import VGG
from tljax.types import InputError
from tljax.weights import loading, torch_file

FAST = real_networks.CASES[1]


@pytest.mark.parametrize(
    'case',
    [
        pytest.param(case, marks=[] if case == FAST else pytest.mark.slow)
        for case in real_networks.CASES
    ],
    ids=lambda case: f'{case.file}-{case.images}'.replace('/', '-'),
)
def test_a_ported_network_has_the_accuracy_of_its_original(case, real_data):
    error, accuracy, _ = real_networks.measure(case, real_data)
    assert error < 1e-4
    assert accuracy == pytest.approx(case.stated, abs=0.11)  # one image of a thousand


NETWORKS = {
    'cifar10_resnet20-12fca82f.th': ResNetSmall(depth=20),
    'cifar10_resnet56-4bfd9763.th': ResNetSmall(depth=56),
    'resnet18-ktb-small-f9db5f80.pth': ResNet(depth=18),
}
IMAGES = 2
RESNET20, RESNET56, RESNET18 = NETWORKS


@functools.cache
def _outputs(file: str, data: pathlib.Path):
    """The output of every stage for the first images, and the outputs of torch."""
    loaded = loading.load(str(data / 'weights' / file), NETWORKS[file])
    golden = np.load(data / 'golden' / f'{pathlib.Path(file).stem}.npz')
    model = stages.build(NETWORKS[file], golden['logits'].shape[1])

    # It runs once, and without optimisation it compiles in half the time.
    @functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
    def run(params, stats, images):
        x, outputs = stages.normalise(loaded.preprocessing, images), {}
        for name, following in zip(model.names, [*model.names[1:], None], strict=True):
            x, _ = stages.run(model, params, stats, x, start=name, stop=following)
            outputs[name] = x
        return outputs

    outputs = run(loaded.params, loaded.stats, golden['images_u8'][:IMAGES])
    return jax.tree.map(np.asarray, outputs), golden


def _assert_close(ours, theirs, what):
    atol = 1e-4 * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=what)


@pytest.mark.parametrize(
    'file', [RESNET20, RESNET18, pytest.param(RESNET56, marks=pytest.mark.slow)]
)
def test_every_stage_of_a_real_network_has_the_output_of_torch(file, real_data):
    outputs, golden = _outputs(file, real_data)
    for stage, output in outputs.items():
        if stage == stages.HEAD:
            continue
        name = stage.replace('stage', 'layer')
        _assert_close(output.mean((1, 2)), golden[f'{name}_mean_hw'][:IMAGES], stage)
        _assert_close(output[0].transpose(2, 0, 1), golden[f'{name}_img0'], stage)


@pytest.mark.parametrize('file', NETWORKS)
def test_the_preprocessing_of_a_real_network_is_that_of_its_training(file, real_data):
    golden = np.load(real_data / 'golden' / f'{pathlib.Path(file).stem}.npz')
    preprocessing = loading.load(str(real_data / 'weights' / file), NETWORKS[file]).preprocessing
    np.testing.assert_allclose(preprocessing.mean, golden['mean'])
    np.testing.assert_allclose(preprocessing.std, golden['std'])


VGG_PREFIX = 'vgg16-prefix-conv1_1-conv3_3.pth'


def test_an_incomplete_network_is_refused_with_its_missing_leaves(real_data):
    with pytest.raises(InputError) as caught:
        loading.load(str(real_data / 'weights' / VGG_PREFIX), VGG(depth=16))
    text = str(caught.value)
    assert '- params/stage4/conv1/kernel [3, 3, 256, 512]' in text
    assert '- params/fc6/linear/kernel [25088, 4096]' in text
    assert 'stage3/conv3' not in text


def test_a_real_vgg_prefix_holds_seven_convolutions(real_data):
    arrays = torch_file.read(real_data / 'weights' / VGG_PREFIX)
    names = [
        f'features.{i}.{kind}' for i in (0, 2, 5, 7, 10, 12, 14) for kind in ('weight', 'bias')
    ]
    assert sorted(arrays) == sorted(names)
