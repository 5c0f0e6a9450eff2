"""What a training step of ResNeXt-50 costs with our gradient of kernels in groups, and with XLA's.

    python -m benchmarks.grouped_convolution [--size_px=96] [--batch=4]

ResNet-50's step stands beside them. The gradients of both are compared first.
"""

import argparse
import functools
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from tljax import layers
from tljax import model as models
from tljax.backbones.resnet import ResNet
from tljax.types import Preprocessing

RESNEXT = ResNet(depth=50, groups=32, width_per_group=4)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--size_px', type=int, default=96)
    parser.add_argument('--batch', type=int, default=4)
    arguments = parser.parse_args()
    measure = functools.partial(_measure, size=arguments.size_px, batch=arguments.batch)
    ours, our_seconds = measure(RESNEXT)
    with mock.patch.object(layers, '_grouped', jax.lax.conv_general_dilated):
        theirs, their_seconds = measure(RESNEXT)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-2 * scale + 1e-6)
    _, plain_seconds = measure(ResNet(depth=50))
    print('| gradient | seconds a step | over ResNet-50 |\n| --- | --- | --- |')
    rows = {'ResNeXt-50, ours': our_seconds, "ResNeXt-50, XLA's": their_seconds}
    for name, seconds in (rows | {'ResNet-50': plain_seconds}).items():
        print(f'| {name} | {seconds:.2f} | {seconds / plain_seconds:.1f} |')


def _measure(backbone: ResNet, size: int, batch: int):
    """The gradient of the parameters, and the shorter of two steps' seconds."""
    shown = Preprocessing(size_px=size, resize_px=size)
    model = models.build(backbone, 10, preprocessing=shown)
    params, stats = models.init(model, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (batch, size, size, 3))
    targets = jax.nn.one_hot(jnp.arange(batch) % 10, 10)
    head = jax.random.normal(jax.random.key(2), params['head']['linear']['kernel'].shape)
    params['head']['linear']['kernel'] = 0.01 * head  # from zeros no gradient flows below it

    @jax.jit
    def gradient(params):
        def loss(params):
            logits, _ = models.run(model, params, stats, x, live=model.names)
            return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean()

        return jax.grad(loss)(params)

    found, seconds = jax.block_until_ready(gradient(params)), []
    for _ in range(2):
        started = time.perf_counter()
        jax.block_until_ready(gradient(params))
        seconds.append(time.perf_counter() - started)
    return found, min(seconds)


if __name__ == '__main__':
    main()
