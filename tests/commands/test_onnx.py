"""Networks as ONNX models: ONNX Runtime computes their probabilities, for any batch size."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax.commands import export as command
from tljax.models import fast_convolutions, stages
from tljax.models.backbones.convnext import ConvNeXt
from tljax.models.backbones.mobilenet import MobileNetV2
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.vgg import VGG
from tljax.models.backbones.vit import ViT
from tljax.types import Preprocessing
from tljax.weights import onnx_program

SIDE = 64
SMALL = [
    ResNet(depth=18),
    VGG(depth=11),
    ViT(width=64, depth=2, size_px=SIDE),
    ConvNeXt(depths=(1, 1, 2, 1), widths=(8, 16, 32, 64)),
    MobileNetV2(),
]
needs_converter = pytest.mark.skipif(
    importlib.util.find_spec('jax2onnx') is None, reason='jax2onnx is not installed'
)


def predictor(backbone):
    """A function from images to probabilities, with values that differ from image to image."""
    shown = Preprocessing(size_px=SIDE, resize_px=SIDE)
    model = stages.build(backbone, 5, preprocessing=shown)
    params, stats = stages.init(model, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + np.float32(0.02 * rng.normal(size=leaf.shape)), params
    )

    def predict(images):
        logits, _ = stages.run(model, params, stats, stages.normalise(shown, jnp.float32(images)))
        return model.task.predicted(logits)

    return predict


def session(content):
    """ONNX Runtime with a model."""
    import onnxruntime

    return onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])


@pytest.mark.slow
@needs_converter
@pytest.mark.parametrize('backbone', SMALL, ids=lambda one: type(one).__name__)
def test_a_model_gives_the_networks_probabilities_for_any_batch_size(backbone):
    predict = predictor(backbone)
    model = session(onnx_program.program(predict, (SIDE, SIDE, 3)))
    compiled, rng = jax.jit(predict), np.random.default_rng(1)
    for count in (1, 2, 5):
        images = rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
        wanted = np.asarray(compiled(images))
        (found,) = model.run(['probabilities'], {'images': images})
        assert np.ptp(wanted) > 1e-3
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.slow
@needs_converter
def test_a_run_is_exported_with_its_preprocessing_and_another_image_size(probe_run, tmp_path):
    out = tmp_path / 'net.onnx'
    arguments = [str(probe_run), f'--out={out}', '--format=onnx', '--image_size=24x31']
    assert command.main(arguments) == 0
    images = np.random.default_rng(1).integers(0, 256, (4, 24, 31, 3)).astype(np.uint8)
    (found,) = session(out.read_bytes()).run(None, {'images': images})
    network = tljax.load(probe_run)
    # Its resizing is Pillow's within two gray levels.
    np.testing.assert_allclose(found, network.predict(images), atol=0.02)
    assert "session.run(None, {'images': images})" in (tmp_path / 'README.md').read_text()


@pytest.mark.slow
@needs_converter
def test_a_model_that_computes_something_else_is_refused(monkeypatch):
    convert = onnx_program._converted
    monkeypatch.setattr(
        onnx_program, '_converted', lambda f, shape: convert(lambda x: f(x) + 3e-4, shape)
    )
    with pytest.raises(onnx_program.OnnxError, match='computes other values'):
        onnx_program.program(lambda x: jnp.mean(jnp.float32(x), (1, 2)) / 255, (4, 4, 3))


@pytest.mark.slow
@needs_converter
def test_an_operation_that_is_not_known_is_refused_in_a_line():
    with pytest.raises(onnx_program.OnnxError, match='cannot convert this network') as caught:
        onnx_program.program(lambda x: jax.lax.linalg.eigh(jnp.float32(x[..., 0]))[0], (4, 4, 3))
    assert '\n' not in str(caught.value)


def test_a_missing_package_is_a_line_that_says_what_to_install(probe_run, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, 'find_spec', lambda name: None)
        code = command.main([str(probe_run), f'--out={tmp_path}/a.onnx', '--format=onnx'])
    (line,) = capsys.readouterr().err.splitlines()
    assert (code, line) == (
        2,
        'error: --format=onnx needs onnx, onnx_ir, onnxruntime, jax2onnx: ' + onnx_program.INSTALL,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_convolution_for_a_converter_depends_on_no_platform():
    window = fast_convolutions.Window((1, 1), ((1, 1), (1, 1)), 4, None)
    x, kernel = jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 1, 4))

    def traced():
        return str(jax.make_jaxpr(lambda x: fast_convolutions.depthwise(x, kernel, window))(x))

    assert 'platform_index' in traced()
    with fast_convolutions.xla_alone():
        assert 'platform_index' not in traced()
