"""Training steps on a GPU in bfloat16: speed, share of the roofline, memory, real images, torch.

    bash benchmarks/gpu.sh [--torch=PYTHON] [--batch=256] [--steps=20] [--small]

For ResNet-50 and ViT-S/16 at 224 px, with everything trained and with the lower stages frozen: the
images per second of a step on one resident batch; the same from a folder of JPEGs, in the first
epoch and from the cache of decoded images; the memory of the program with and without
recomputation; and torch's step (channels_last, autocast, torch.compile) where --torch has it.

The roofline is measured on the device: the rate of a bfloat16 matrix product and of a copy. The
least time of a step is the larger of its floating-point operations (XLA's count) over the first,
and of the bytes of its arguments and results over the second. `--small` makes everything tiny, to
try the script without a GPU.
"""

import argparse
import functools
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.data import CORES, examples_of, images
from tljax.data import decoded_images, pipeline
from tljax.metrics.losses import CrossEntropy
from tljax.models import stages
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.vit import ViT
from tljax.strategies import optimizers, partition
from tljax.strategies.cut import Compute
from tljax.strategies.strategies import FineTune, FreezeBelow
from tljax.training import states, step
from tljax.types import Dtype, Preprocessing, Strategy, images_of

# A network, and the first stage that is trained when the lower ones are frozen.
NETWORKS: dict[str, tuple[Any, str]] = {
    'resnet50': (ResNet(depth=50), 'stage4'),
    'vit_small_patch16_224': (ViT(width=384), 'block10'),
}
WORKER = pathlib.Path(__file__).with_name('gpu_torch.py')
ROUNDS = 3


class Steps:
    """The training steps of a network with a strategy, compiled for one batch size."""

    def __init__(self, name: str, cut: str | None, rows: int, size: int, remat: tuple[str, ...]):
        backbone, _ = NETWORKS[name]
        shown = Preprocessing(size_px=size, resize_px=size)
        self.model = stages.build(backbone, 1000, preprocessing=shown)
        params, stats = stages.init(self.model, jax.random.key(0))
        params = stages.ordered(self.model, params)
        strategy: Strategy = FreezeBelow(stage=cut) if cut else FineTune()
        rules = strategy.phases(params)[0].rules
        labels = partition.assign(params, rules)
        optimizer = partition.make(optimizers.SGD(momentum=0.9), rules, labels, lambda _: 0.01)
        compute = Compute(
            dtype=Dtype.BFLOAT16, prefix_dtype=Dtype.BFLOAT16, fold_prefix=True, remat=remat
        )
        function = step.make_train_step(
            self.model, optimizer, labels, CrossEntropy(), compute=compute
        )
        rng = np.random.default_rng(0)
        self.batch = {
            'input': jnp.asarray(rng.integers(0, 256, (rows, size, size, 3), np.uint8)),
            'label': jnp.asarray(rng.integers(0, 1000, rows), jnp.int32),
            'id': jnp.arange(rows, dtype=jnp.uint32),
            'mask': jnp.ones(rows, bool),
        }
        self.state = states.create(params, stats, optimizer, labels)
        self.rows, key = rows, jax.random.key(0)
        begun = time.perf_counter()
        lowered = jax.jit(function, donate_argnums=1).lower(key, self.state, self.batch)
        self.program = lowered.compile()
        self.compile_seconds = time.perf_counter() - begun
        self._step = functools.partial(self.program, key)

    def run(self, batches: Iterable[dict[str, Any]]) -> float:
        """Images per second; the state is donated from step to step."""
        begun, count = time.perf_counter(), 0
        for batch in batches:
            self.state, _ = self._step(self.state, batch)
            count += 1
        jax.block_until_ready(self.state)
        return count * self.rows / (time.perf_counter() - begun)

    def resident(self, steps: int) -> float:
        """Images per second on one batch, the median of the rounds after a warm-up."""
        self.run([self.batch] * 2)
        return statistics.median(self.run([self.batch] * steps) for _ in range(ROUNDS))

    def least_seconds(self, flops: float, bytes_: float) -> float:
        """The roofline of a step: see the module."""
        memory, counted = self._memory, self.program.cost_analysis()
        assert counted is not None
        moved = memory.argument_size_in_bytes + memory.output_size_in_bytes
        return max(float(counted['flops']) / flops, moved / bytes_)

    @property
    def _memory(self) -> Any:
        return self.program.memory_analysis()

    @property
    def gigabytes(self) -> float:
        """Of the program: its arguments and what it needs beside them."""
        memory = self._memory
        return (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 1e9


def rates(size: int) -> tuple[float, float]:
    """Measured floating-point operations and copied bytes per second, in bfloat16."""
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)
    copied = jax.jit(lambda x: x + 1)
    return 2 * size**3 / _seconds(lambda: product(x)), 4 * size**2 / _seconds(lambda: copied(x))


def _seconds(call: Callable[[], Any]) -> float:
    jax.block_until_ready(call())
    durations = []
    for _ in range(5):
        begun = time.perf_counter()
        jax.block_until_ready([call() for _ in range(10)])
        durations.append((time.perf_counter() - begun) / 10)
    return min(durations)


def convolutions(steps: Steps) -> str:
    """What the convolutions of a compiled program became; the rewritten ones are for CPU only."""
    lines = (steps.program.as_text() or '').splitlines()
    library = sum('custom_call_target="__cudnn$conv' in line for line in lines)
    plain = sum(' convolution(' in line for line in lines)
    return f'{library} convolutions by cuDNN, {plain} by XLA'


def from_files(steps: Steps, scratch: str, count: int) -> tuple[float, float]:
    """Images per second from JPEG files in the first epoch, and from the cache after it."""
    paths = images(None, pathlib.Path(scratch))
    paths = (paths * (1 + 4 * steps.rows // len(paths)))[: 4 * steps.rows]
    shown = images_of(steps.model.preprocessing)
    split = decoded_images.wrap({'': examples_of(paths)}, shown, 20)['']

    def batches(number: int) -> Iterable[dict[str, Any]]:
        stream = pipeline.train_batches(
            split, shown, batch_size=steps.rows, steps=number, seed=0, threads=CORES
        )
        for batch in stream:
            yield jax.device_put({**batch, 'id': batch['id'].astype(np.uint32)})

    first = steps.run(batches(4))
    return first, steps.run(batches(count))


def of_torch(python: str, name: str, cut: str | None, arguments: argparse.Namespace) -> str:
    """The images per second of torch's step, or why there are none."""
    request = {'name': name, 'cut': cut, 'rows': arguments.batch, 'size': arguments.size}
    command = [python, str(WORKER), json.dumps({**request, 'steps': arguments.steps})]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines() or done.stderr.splitlines() or ['no output']
    return lines[-1] if done.returncode == 0 else f'none ({lines[-1][:60]})'


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--torch', help='a Python that has torch and timm')
    parser.add_argument('--batch', type=int, default=256)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--small', action='store_true')
    arguments = parser.parse_args()
    if arguments.small:
        arguments.batch, arguments.size, arguments.steps = 2, 64, 2
    flops, bytes_ = rates(512 if arguments.small else 8192)
    device = jax.devices()[0]
    print(f'{device.device_kind}, jax {jax.__version__}: {flops / 1e12:.3g} TFLOP/s of a matrix')
    print(f'product, {bytes_ / 1e9:.3g} GB/s of a copy; batches of {arguments.batch}, bfloat16')
    print('| network | case | images/s | share of the roofline | compile, s | GB | torch |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    for name, (_, cut) in NETWORKS.items():
        for stage in (None, cut):
            measure(name, stage, (flops, bytes_), arguments)


def measure(
    name: str, cut: str | None, rates: tuple[float, float], arguments: argparse.Namespace
) -> None:
    """Prints the rows of a network and a strategy."""
    case = f'frozen below {cut}' if cut else 'full fine-tuning'
    steps = Steps(name, cut, arguments.batch, arguments.size, ())
    speed = steps.resident(arguments.steps)
    share = speed * steps.least_seconds(*rates) / arguments.batch
    theirs = of_torch(arguments.torch, name, cut, arguments) if arguments.torch else '-'
    cells = f'{speed:,.0f} | {share:.0%} | {steps.compile_seconds:.1f} | {steps.gigabytes:.2f}'
    print(f'| {name} | {case} | {cells} | {theirs} |', flush=True)
    print(f'  {convolutions(steps)}', flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        first, later = from_files(steps, scratch, arguments.steps)
    print(f'  from files {first / speed:.2f} of that speed, from the cache {later / speed:.2f}')
    if not cut:
        del steps
        again = Steps(name, cut, arguments.batch, arguments.size, ('*',))
        speed = again.resident(arguments.steps)
        print(f'  with all activations recomputed: {speed:,.0f} images/s, {again.gigabytes:.2f} GB')


if __name__ == '__main__':
    main()
