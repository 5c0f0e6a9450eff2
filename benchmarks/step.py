"""Forward passes and training steps of ResNet-50 and VGG-16 compared with torch's, in one run.

    python -m benchmarks.step --torch=/path/to/python [--pairs=5] [--rows=16] [--network=resnet50]

Random weights, images and labels are the same for both. torch runs in the Python of --torch, which
needs no tljax, as it is and with channels_last, on as many threads as there are cores. What is
frozen has `requires_grad=False` there, and its BatchNorm evaluates, as here. Logits and the norm of
the gradient are compared first. Then every case is timed by turns after a warm-up, and the median
of the pairs' ratios is printed with the least and the greatest: torch's faster form over ours, so
that above 1 is faster here.

A row `kept for 10 epochs` is what `cache_prefix` does with images that are not augmented: the
frozen stages run once, then ten steps on what they gave, against ten of torch; seconds are of one.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax import tree
from tljax.metrics.losses import CrossEntropy
from tljax.models import port, stages
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.vgg import VGG
from tljax.strategies import optimizers, partition
from tljax.strategies.cut import Compute
from tljax.strategies.strategies import FineTune, FreezeBelow
from tljax.training import states, step
from tljax.types import Preprocessing, Strategy

NETWORKS = {'resnet50': ResNet(depth=50), 'vgg16': VGG(depth=16, dropout=0.0)}
# The first stage that trains, by the prefixes of torch's names of what is frozen below it.
CUTS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    'resnet50': {
        'frozen below stage4': ('stage4', ('conv1', 'bn1', 'layer1', 'layer2', 'layer3')),
        'head only': ('head', ('conv1', 'bn1', 'layer')),
    },
    'vgg16': {
        'frozen below stage4': ('stage4', tuple(f'features.{n}.' for n in range(17))),
        'head only': ('head', ('features', 'classifier.0', 'classifier.3')),
    },
}
RATE = 0.01
EPOCHS = 10
KEPT = f', kept for {EPOCHS} epochs'
WORKER = pathlib.Path(__file__).with_name('step_torch.py')


def frozen_of(network: str, case: str) -> tuple[str, ...]:
    """The prefixes of torch's names of what a case freezes."""
    return CUTS[network].get(case, ('', ()))[1]


class Ours:
    """The cases of a network here, each a call that waits for its result."""

    def __init__(self, name: str, rows: int, size: int):
        small = Preprocessing(size_px=size, resize_px=size)
        self.model = stages.build(NETWORKS[name], 1000, preprocessing=small)
        rng = np.random.default_rng(0)
        params, stats = stages.init(self.model, jax.random.key(0))
        self.params, self.stats = stages.ordered(self.model, params), stats
        head = self.params['head']['linear']  # ours starts from zeros
        head['kernel'] = jnp.asarray(rng.normal(0, 0.01, head['kernel'].shape), jnp.float32)
        self.batch = {
            'input': jnp.asarray(rng.integers(0, 256, (rows, size, size, 3), np.uint8)),
            'label': jnp.asarray(rng.integers(0, 1000, rows), jnp.int32),
            'id': jnp.arange(rows, dtype=jnp.uint32),
            'mask': jnp.ones(rows, bool),
        }
        self.images = stages.normalise(self.model.preprocessing, self.batch['input'])
        self.cuts = {case: cut[0] for case, cut in CUTS[name].items()}

    def foreign(self, name: str) -> dict[str, np.ndarray]:
        """The weights under torchvision's names."""
        leaves = tree.flatten({'params': self.params, 'batch_stats': self.stats})
        host = {path: np.asarray(leaf) for path, leaf in leaves.items()}
        return port.to_foreign(host, NETWORKS[name].port_tables()['torchvision'])

    def forward(self) -> tuple[Callable[[], Any], np.ndarray]:
        """Logits in evaluation."""
        run = jax.jit(lambda p, s, x: stages.run(self.model, p, s, x)[0])
        call = functools.partial(run, self.params, self.stats, self.images)
        return lambda: jax.block_until_ready(call()), np.asarray(call())

    def kept(self, case: str) -> tuple[Callable[[], Any], float]:
        """The frozen stages once, then steps on what they gave."""
        cut = self.cuts[case]
        run = jax.jit(lambda p, s, x: stages.run(self.model, p, s, x, stop=cut)[0])

        def features() -> jax.Array:
            return jax.block_until_ready(run(self.params, self.stats, self.images))

        one, norm = self.training(case, features())

        def call() -> None:
            features()
            for _ in range(EPOCHS):
                one()

        return call, norm

    def training(
        self, case: str, features: jax.Array | None = None
    ) -> tuple[Callable[[], Any], float]:
        """A step of SGD with momentum, and the norm of the first gradient."""
        cut = self.cuts.get(case)
        batch = self.batch if features is None else {**self.batch, 'input': features}
        compute = Compute(cached=features is not None)
        strategy: Strategy = FreezeBelow(stage=cut) if cut else FineTune()
        rules = strategy.phases(self.params)[0].rules
        labels = partition.assign(self.params, rules)
        optimizer = partition.make(optimizers.SGD(momentum=0.9), rules, labels, lambda _: RATE)
        current = states.create(self.params, self.stats, optimizer, labels)
        function = step.make_train_step(
            self.model, optimizer, labels, CrossEntropy(), compute=compute
        )
        train = jax.jit(function, donate_argnums=1)
        key = jax.random.key(0)
        held = [train(key, current, batch)[0]]
        pairs = zip(jax.tree.leaves(self.params), jax.tree.leaves(held[0].params), strict=True)
        moved = sum(float(jnp.sum(jnp.square(a - b))) for a, b in pairs)

        def call() -> None:
            held[0], sums = train(key, held[0], batch)
            jax.block_until_ready((held[0], sums))

        return call, float(np.sqrt(moved)) / RATE


class Torch:
    """A process that runs the cases on torch's side."""

    def __init__(self, python: str, folder: pathlib.Path, name: str):
        cores = str(len(os.sched_getaffinity(0)))
        self._process = subprocess.Popen(
            [python, str(WORKER), str(folder), name, cores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> Any:
        """Sends a request and waits for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + '\n')
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def compare(
    call: Callable[[], Any], torch: Torch, request: dict[str, Any], pairs: int, steps: int = 1
) -> str:
    """A row's cells: medians of both, and of the ratios, after a warm-up; `call` is of `steps`."""
    forms = ('eager', 'channels_last')
    call()
    for form in forms:
        torch.ask(**request, form=form)
    ours, theirs = [], {form: [] for form in forms}
    for _ in range(pairs):
        ours.append(timed(call) / steps)
        for form in forms:
            theirs[form].append(torch.ask(**request, form=form)['seconds'])
    best = min(theirs.values(), key=statistics.median)
    ratios = sorted(b / a for a, b in zip(ours, best, strict=True))
    medians = [statistics.median(x) for x in (ours, theirs['eager'], theirs['channels_last'])]
    cells = ' | '.join(f'{seconds:.3g}' for seconds in medians)
    return f'{cells} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})'


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--torch', required=True, help='a Python that has torch')
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--rows', type=int, default=16)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--network', choices=NETWORKS, action='append')
    arguments = parser.parse_args()
    print('| network | case | ours, s | torch, s | channels_last, s | torch over ours |')
    print('| --- | --- | --- | --- | --- | --- |')
    for name in arguments.network or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, pathlib.Path(folder), arguments)


def measure(name: str, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Prints the rows of a network."""
    ours = Ours(name, arguments.rows, arguments.size)
    np.savez(folder / 'weights.npz', **ours.foreign(name))  # type: ignore[arg-type]
    np.savez(folder / 'batch.npz', x=ours.images, y=ours.batch['label'])
    torch = Torch(arguments.torch, folder, name)
    for case in ('forward', 'full fine-tuning', *CUTS[name]):
        request = {'case': case, 'frozen': frozen_of(name, case)}
        call, results = ours.forward() if case == 'forward' else ours.training(case)
        answer = torch.ask(**request, form='eager')
        wanted = answer.get('gradient_norm')
        if wanted is None:
            wanted = np.load(folder / 'logits.npy')
        off = np.abs(results - wanted).max() / np.abs(wanted).max()
        assert off < (1e-4 if case == 'forward' else 2e-2), f'{case}: differs by {off:.1e}'
        cells = compare(call, torch, request, arguments.pairs)
        print(f'| {name} | {case} | {cells} |', flush=True)
        if case in CUTS[name]:
            del call  # and with it a state
            call, again = ours.kept(case)
            assert abs(again - results) < 1e-4 * results, f'{case}: features give another gradient'
            cells = compare(call, torch, request, arguments.pairs, EPOCHS)
            print(f'| {name} | {case}{KEPT} | {cells} |', flush=True)
    torch.close()


if __name__ == '__main__':
    main()
