"""A test of about two seconds: a matrix product, and a training step of a small network."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tljax.models import stages
from tljax.models.backbones.resnet_small import ResNetSmall

SIDE = {'cpu': 1024}  # of the square matrices; on other devices OTHER_SIDE
OTHER_SIDE = 8192
BATCH = 64
CLASSES = 10
RATE = 0.01


def measure(seconds: float = 1.0) -> dict[str, dict[str, Any]]:
    """Measures the speed of the first device in float32.

    Args:
        seconds: how long each of the two tests is repeated. Compiling them comes before; the
            compilation cache has them from the second time on.

    Returns:
        `matrix_product` with `side` and `gflop_per_second`, and `training_step` with `network`,
        `batch_size` and `images_per_second`. The speeds are of the median repetition.
    """
    side = SIDE.get(jax.default_backend(), OTHER_SIDE)
    product = jax.jit(jnp.dot)
    matrix = jax.random.normal(jax.random.key(0), (side, side))
    took = _median_seconds(lambda _: product(matrix, matrix), seconds)
    step, params = _step()
    step_took = _median_seconds(step, seconds, params)
    return {
        'matrix_product': {'side': side, 'gflop_per_second': 2e-9 * side**3 / took},
        'training_step': {
            'network': 'ResNet-20 at 32 px',
            'batch_size': BATCH,
            'images_per_second': BATCH / step_took,
        },
    }


def _step() -> tuple[Callable[[Any], Any], Any]:
    """A compiled step of gradient descent, `params -> params`, and the first parameters."""
    model = stages.build(ResNetSmall(), CLASSES)
    params, stats = stages.init(model, jax.random.key(0))
    key = jax.random.key(1)
    x = jax.random.normal(key, (BATCH, 32, 32, 3))
    targets = jax.nn.one_hot(jnp.arange(BATCH) % CLASSES, CLASSES)

    def loss(params: Any) -> jax.Array:
        logits, _ = stages.run(model, params, stats, x, trainable=model.names, dropout_key=key)
        return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1))

    @jax.jit
    def step(params: Any) -> Any:
        return jax.tree.map(lambda p, g: p - RATE * g, params, jax.grad(loss)(params))

    return step, params


def _median_seconds(function: Callable[[Any], Any], seconds: float, value: Any = None) -> float:
    """The median time of one call, of at least three; each call gets the result of the last."""
    value = jax.block_until_ready(function(value))
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        value = jax.block_until_ready(function(value))
        times.append(time.perf_counter() - start)
    return statistics.median(times)
