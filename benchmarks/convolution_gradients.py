"""What the gradient of a network costs with our convolutions on CPU, and with XLA's.

    python -m benchmarks.convolution_gradients [--batch=4] [--repeats=5] [--network=ResNet-18]

ResNet-50 has 1 x 1 convolutions, ResNeXt-50 those and kernels in groups; at 48 px the maps of a
ResNet-18's last stage are smaller than its kernels; ConvNeXt's are 7 x 7, one a channel. The
gradients of both are compared first; then they are timed by turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from tljax.models import convolutions, stages
from tljax.models.backbones.convnext import ConvNeXt
from tljax.models.backbones.resnet import ResNet
from tljax.types import Preprocessing

NETWORKS = {  # and the side of their images
    'ResNet-50': (ResNet(depth=50), 96),
    'ResNeXt-50': (ResNet(depth=50, groups=32, width_per_group=4), 96),
    'ResNet-18': (ResNet(depth=18), 48),
    'ConvNeXt-T': (ConvNeXt(), 96),
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', choices=NETWORKS, nargs='+', default=list(NETWORKS))
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=5)
    arguments = parser.parse_args()
    print("| network | ours, s | XLA's, s | XLA's over ours |\n| --- | --- | --- | --- |")
    for name in arguments.network:
        backbone, size = NETWORKS[name]
        ours = gradient_of(backbone, size, arguments.batch)
        with mock.patch.object(convolutions, 'convolve', jax.lax.conv_general_dilated):
            theirs = gradient_of(backbone, size, arguments.batch)
        for one, other in zip(jax.tree.leaves(ours()), jax.tree.leaves(theirs()), strict=True):
            scale = float(jnp.abs(other).max())
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-2 * scale + 1e-6)
        pairs = [(timed(ours), timed(theirs)) for _ in range(arguments.repeats)]
        first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        spread = f'{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})'
        print(f'| {name}, {size} px | {first:.2f} | {second:.2f} | {spread} |', flush=True)


def gradient_of(backbone: Any, size: int, batch: int) -> Callable[[], Any]:
    """A call that computes the gradient of all parameters in training mode; compiled."""
    shown = Preprocessing(size_px=size, resize_px=size)
    model = stages.build(backbone, 10, preprocessing=shown)
    params, stats = stages.init(model, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (batch, size, size, 3))
    targets = jax.nn.one_hot(jnp.arange(batch) % 10, 10)
    head = jax.random.normal(jax.random.key(2), params['head']['linear']['kernel'].shape)
    params['head']['linear']['kernel'] = 0.01 * head  # from zeros no gradient flows below it

    def loss(params):
        logits, _ = stages.run(model, params, stats, x, trainable=model.names)
        return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean()

    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    return lambda: jax.block_until_ready(compiled(params))


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == '__main__':
    main()
