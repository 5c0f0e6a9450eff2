"""What storing the sums of residual blocks does to the gradient of a network on CPU.

    python -m benchmarks.residual_sums [--network=vit_small] [--rows=16] [--pairs=5]

The gradient of all parameters, for images of 224 px in float32, is compiled with and without
`layers.KEEP_BARRIERS`. The gradients are compared first, and then timed by turns. Prints the
seconds of compiling, the median seconds of a gradient, and the median ratio with the smallest and
largest.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import tljax
from tljax import tree
from tljax.models import layers, stages

# The name of a backbone, and its fields.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    'vit_small': ('ViT', {'width': 384}),
    'convnext_tiny': ('ConvNeXt', {}),
    'swin_tiny': ('Swin', {}),
}
FORMS: dict[str, dict[str, Any]] = {'stored': layers.KEEP_BARRIERS, 'fused': {}}


def gradients(network: str, rows: int) -> dict[str, Callable[[], Any]]:
    """The gradient in both forms, compiled."""
    name, fields = NETWORKS[network]
    model = stages.build(getattr(tljax, name)(**fields), 10)
    params, stats = stages.init(model, jax.random.key(0))
    kernel = params['head']['linear']['kernel']  # from zeros no gradient flows below it
    params['head']['linear']['kernel'] = jax.random.normal(jax.random.key(2), kernel.shape) / 10
    x = jax.random.normal(jax.random.key(1), model.preprocessing.first_input(rows).shape)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        logits, _ = stages.run(model, params, stats, x, trainable=model.names)
        return -jax.nn.log_softmax(logits)[:, 0].mean()

    calls = {}
    for form, options in FORMS.items():
        started = time.perf_counter()
        program = jax.jit(jax.grad(loss), compiler_options=options).lower(params, x).compile()
        print(f'{form}: compiled in {time.perf_counter() - started:.1f} s')
        calls[form] = lambda program=program: jax.block_until_ready(program(params, x))
    return calls


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--network', choices=NETWORKS, default='vit_small')
    parser.add_argument('--rows', type=int, default=16)
    parser.add_argument('--pairs', type=int, default=5)
    arguments = parser.parse_args()
    jax.config.update('jax_enable_compilation_cache', False)
    calls = gradients(arguments.network, arguments.rows)
    stored, fused = (tree.flatten(call()) for call in calls.values())
    for path, leaf in fused.items():
        off = jnp.abs(stored[path] - leaf).max()
        assert off <= 1e-4 * jnp.abs(leaf).max() + 1e-7, f'{path}: the gradients differ by {off}'
    seconds: dict[str, list[float]] = {form: [] for form in calls}
    for _ in range(arguments.pairs):
        for form, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[form].append(time.perf_counter() - started)
    for form, times in seconds.items():
        print(f'{form}: {statistics.median(times):.2f} s')
    ratios = [b / a for a, b in zip(seconds['stored'], seconds['fused'], strict=True)]
    middle = statistics.median(ratios)
    print(f'fused / stored: {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})')


if __name__ == '__main__':
    main()
