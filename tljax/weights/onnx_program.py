"""Exports a network as an ONNX model with jax2onnx, and checks it with ONNX Runtime.

jax2onnx 0.17.1 asks for an older Orbax than tljax needs, but imports none of it. It is therefore
installed without its requirements, and the extra `onnx` has those that it imports.
"""

import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tljax.models import fast_convolutions
from tljax.types import InputError

PACKAGES = ('onnx', 'onnx_ir', 'onnxruntime', 'jax2onnx')
INSTALL = "pip install 'tljax[onnx]' && pip install --no-deps jax2onnx==0.17.1"
OPSET = 23
INPUT, OUTPUT = 'images', 'probabilities'
LARGEST_DIFFERENCE = 1e-4  # of a probability, or of a value relative to the largest one
MOST_BYTES = 2**31 - 1  # of a protocol buffer
CHECKED = (1, 3)  # sizes of the batches that are compared


class OnnxError(InputError):
    """A network that cannot be converted, or whose converted form computes something else."""


def program(predict: Callable[[jax.Array], jax.Array], shape: tuple[int, int, int]) -> bytes:
    """An ONNX model from uint8 images [b, h, w, C] to what `predict` returns, with any batch size.

    Args:
        predict: a function that JAX can trace, not compiled: jax2onnx reads the sizes in it.
        shape: height, width and channels of an image.

    Raises:
        OnnxError: a package is missing, the function has an operation that jax2onnx does not know,
            or ONNX Runtime computes other values.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise OnnxError(f'--format=onnx needs {", ".join(missing)}: {INSTALL}')
    content = _converted(predict, shape)
    if len(content) > MOST_BYTES:
        raise OnnxError(f'the model has {len(content):,} bytes; an ONNX file holds 2 GiB')
    _check(predict, content, shape)
    return content


def _converted(predict: Callable[[jax.Array], jax.Array], shape: tuple[int, int, int]) -> bytes:
    # It warns of each of its own examples whose packages are missing, and of untyped values.
    for name in ('jax2onnx', 'onnx_ir'):
        logging.getLogger(name).setLevel(logging.ERROR)
    jax2onnx = importlib.import_module('jax2onnx')

    images = jax.ShapeDtypeStruct(('b', *shape), np.uint8)  # type: ignore[arg-type]
    try:
        # jax2onnx has layers of its own, some of which promote ranks.
        with fast_convolutions.xla_alone(), jax.numpy_rank_promotion('allow'):
            model: Any = jax2onnx.to_onnx(
                predict,
                [images],
                model_name='tljax',
                opset=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
        return model.SerializeToString()
    except Exception as error:  # of any kind: jax2onnx raises those of what it failed at
        text = ' '.join(str(error).split('\n')[0].split())
        raise OnnxError(f'jax2onnx cannot convert this network: {text:.300}') from error


def _check(
    predict: Callable[[jax.Array], jax.Array], content: bytes, shape: tuple[int, int, int]
) -> None:
    """Compares the model with the network on random images."""
    onnxruntime = importlib.import_module('onnxruntime')

    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    compiled, rng = jax.jit(predict), np.random.default_rng(0)
    for count in CHECKED:
        images = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
        wanted = np.asarray(compiled(images))
        (found,) = session.run(None, {INPUT: images})
        scale = max(1.0, float(np.abs(wanted).max()))
        difference = float(np.abs(np.asarray(found) - wanted).max()) / scale
        if not difference <= LARGEST_DIFFERENCE:
            raise OnnxError(
                f'ONNX Runtime computes other values than the network: they differ by '
                f'{difference:.2g}, wanted at most {LARGEST_DIFFERENCE:g}'
            )
