"""What the XLA flag of tljax/environment.py does to ResNet-50 on CPU.

    python -m benchmarks.xla_flag --pairs=3

Each pair runs this file twice as a process of its own, with and without the flag: ResNet-50,
224 px, float32, batch 16, evaluation and full training step, the median of a few after a warm-up.
The losses are compared first. Prints images/s and the ratio of each pair.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def measure() -> dict[str, float]:
    """Images per second in this process."""
    import jax
    import numpy as np

    from tljax.metrics.losses import CrossEntropy
    from tljax.models import stages
    from tljax.models.backbones.resnet import ResNet
    from tljax.strategies import optimizers, partition
    from tljax.strategies.strategies import FineTune
    from tljax.training import states, step

    model = stages.build(ResNet(depth=50), 10)
    params, stats = stages.init(model, jax.random.key(0))
    rules = FineTune().phases(stages.ordered(model, params))[0].rules
    labels = partition.assign(params, rules)
    optimizer = partition.make(optimizers.SGD(), rules, labels, lambda _: 0.01)
    current = states.create(params, stats, optimizer, labels)
    rows = 16
    batch = {
        'input': np.random.default_rng(0).integers(0, 256, (rows, 224, 224, 3), np.uint8),
        'label': np.arange(rows, dtype=np.int32) % 10,
        'id': np.arange(rows, dtype=np.uint32),
        'mask': np.ones(rows, bool),
    }
    key = jax.random.key(0)
    train = jax.jit(step.make_train_step(model, optimizer, labels, CrossEntropy()))
    evaluate = jax.jit(step.make_eval_step(model, CrossEntropy()))
    seconds: dict[str, list[float]] = {'train': [], 'evaluate': []}
    loss = 0.0
    for _ in range(4):
        started = time.perf_counter()
        _, sums = jax.block_until_ready(train(key, current, batch))
        seconds['train'].append(time.perf_counter() - started)
        started = time.perf_counter()
        jax.block_until_ready(evaluate(current.params, current.stats, batch))
        seconds['evaluate'].append(time.perf_counter() - started)
        loss = float(sums['loss'])
    speeds = {name: rows / statistics.median(times[1:]) for name, times in seconds.items()}
    return {**speeds, 'loss': loss}


def child(flag: bool) -> dict[str, float]:
    """The measurement in a fresh process."""
    environment = dict(os.environ)
    if not flag:  # naming the flag at its default keeps tljax from setting it
        environment['XLA_FLAGS'] = '--xla_cpu_experimental_ynn_fusion_type=+individual_convolution'
    command = [sys.executable, '-m', 'benchmarks.xla_flag', '--child']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints a line for each pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--pairs', type=int, default=3)
    parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure()))
        return
    for _ in range(arguments.pairs):
        with_flag, without = child(flag=True), child(flag=False)
        assert abs(with_flag['loss'] - without['loss']) < 1e-3 * abs(without['loss'])
        for name in ('evaluate', 'train'):
            ratio = with_flag[name] / without[name]
            print(
                f'{name:<9} {with_flag[name]:6.2f} images/s with, '
                f'{without[name]:6.2f} without: {ratio:.2f}x'
            )


if __name__ == '__main__':
    main()
