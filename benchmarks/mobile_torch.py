"""Networks of depthwise convolutions on CPU against torch, by turns.

    python -m benchmarks.mobile_torch --torch=PYTHON [--batch=16] [--size=224] [--repeats=7]

PYTHON is the interpreter of an environment with torch and timm. Each library runs in a process of
its own that waits while the other is timed. `forward` is in evaluation; `step` is the loss in
training mode, the gradient of all parameters and the new running statistics, without an optimizer.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

NETWORKS = {'efficientnet_lite0': 'EfficientNetLite', 'efficientnet_b0': 'EfficientNet'}
KINDS = ('forward', 'step')


def main() -> None:
    """Measures and prints, or answers the process that measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--torch', default='python')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--network', choices=NETWORKS, nargs='+', default=list(NETWORKS))
    parser.add_argument('--worker', choices=('jax', 'torch'))
    arguments = parser.parse_args()
    if arguments.worker:
        _answer(_of_jax if arguments.worker == 'jax' else _of_torch, arguments)
        return
    print("| network | what | ours, s | torch's, s | ours over torch's |")
    print('| --- | --- | --- | --- | --- |')
    for name in arguments.network:
        ours, theirs = (
            _started(python, library, name, arguments)
            for python, library in ((sys.executable, 'jax'), (arguments.torch, 'torch'))
        )
        for kind in KINDS:
            ask(ours, kind)  # compiles
            ask(theirs, kind)
            pairs = [(ask(ours, kind), ask(theirs, kind)) for _ in range(arguments.repeats)]
            first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratios = sorted(a / b for a, b in pairs)
            spread = f'{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})'
            print(f'| {name} | {kind} | {first:.2f} | {second:.2f} | {spread} |', flush=True)
        for process in (ours, theirs):
            process.communicate()


def _started(python: str, library: str, name: str, arguments: Any) -> subprocess.Popen[str]:
    command = [python, '-m', 'benchmarks.mobile_torch', f'--worker={library}']
    command += [f'--network={name}', f'--batch={arguments.batch}', f'--size={arguments.size}']
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str], kind: str) -> float:
    """The seconds of one call in a process."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f'{kind}\n')
    process.stdin.flush()
    return float(process.stdout.readline())


def _answer(made: Callable[..., dict[str, Callable[[], Any]]], arguments: Any) -> None:
    calls = made(arguments.network[0], arguments.batch, arguments.size)
    for line in sys.stdin:
        begun = time.perf_counter()
        calls[line.strip()]()
        print(time.perf_counter() - begun, flush=True)


def _of_jax(name: str, batch: int, size: int) -> dict[str, Callable[[], Any]]:
    import jax
    import jax.numpy as jnp

    import tljax
    from tljax.models import stages
    from tljax.types import Preprocessing

    # The padding of timm's network, which costs torch the least.
    backbone = getattr(tljax, NETWORKS[name])(same_padding=False)
    shown = Preprocessing(size_px=size, resize_px=size)
    model = stages.build(backbone, 10, preprocessing=shown)
    params, stats = stages.init(model, jax.random.key(0))
    params['head']['linear']['kernel'] += 0.01  # from zeros no gradient flows below it
    x = jax.random.normal(jax.random.key(1), (batch, size, size, 3))
    targets = jax.nn.one_hot(jnp.arange(batch) % 10, 10)

    def loss(params, stats, x):
        logits, stats = stages.run(model, params, stats, x, trainable=model.names)
        return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean(), stats

    forward = jax.jit(lambda *inputs: stages.run(model, *inputs)[0])
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return {
        'forward': lambda: jax.block_until_ready(forward(params, stats, x)),
        'step': lambda: jax.block_until_ready(step(params, stats, x)),
    }


def _of_torch(name: str, batch: int, size: int) -> dict[str, Callable[[], Any]]:
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(os.cpu_count() or 1)
    module = timm.create_model(name, num_classes=10)
    x, targets = torch.randn(batch, 3, size, size), torch.arange(batch) % 10

    def forward():
        module.eval()
        with torch.no_grad():
            module(x)

    def step():
        module.train()
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(x), targets).backward()

    return {'forward': forward, 'step': step}


if __name__ == '__main__':
    main()
