"""What probes and grids on features cost, against scikit-learn's and torch's, in one run.

    python -m benchmarks.probes [--parts=regression,heads,pass] [--pairs=5]
    python -m benchmarks.probes --torch=/path/to/python

A ResNet-18 of ../shared/data and the photographs of clothes there (600 to train on, 186 for
validation, 10 classes); where they are absent, random weights and images that are made here. A grid
of 32 heads (4 learning rates x 4 decays x 2 seeds, 10 epochs of batches of 64) is trained on cached
features; scikit-learn makes 32 L-BFGS fits of the same features with all cores (4 strengths x 8
orders of the examples, `n_jobs` processes); torch, in the Python given, trains one head of the grid
through the frozen network, of which 32 take 32 times as long. Compilation is counted apart. Parts:

    regression  32 strengths of logistic regression to the same objective as scikit-learn's
    heads       the grid against 32 fits, to the same accuracy on validation
    pass        ten epochs of a linear probe against one pass over the images
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression

from tljax import features
from tljax.data import decoded_images
from tljax.data.folder import Folder
from tljax.data.synthetic import Synthetic
from tljax.features import probes
from tljax.features.probes import Axes, grid
from tljax.models import stages
from tljax.models.backbones.resnet import ResNet
from tljax.strategies.optimizers import SGD
from tljax.types import Examples
from tljax.weights import loading

SHARED = pathlib.Path(__file__).parents[2] / 'shared/data'
WEIGHTS = SHARED / 'weights/resnet18-ktb-small-f9db5f80.pth'
CORES = len(os.sched_getaffinity(0))
AXES = Axes(
    learning_rates=(0.003, 0.01, 0.03, 0.1), weight_decays=(0.0, 1e-3, 1e-2, 1e-1), seeds=(0, 1)
)
EPOCHS, BATCH_SIZE = 10, 64
TORCH = """
import json, sys, time
import numpy as np, torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

folder, epochs, batch_size, rate, decay, threads = sys.argv[1], *map(float, sys.argv[2:])
torch.set_num_threads(int(threads))
state = load_file(f'{folder}/weights.safetensors')
data = np.load(f'{folder}/images.npz')


def norm(x, name):
    parts = [state[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')]
    return F.batch_norm(x, *parts)


def block(x, name, stride):
    out = F.conv2d(x, state[f'{name}.conv1.weight'], stride=stride, padding=1)
    out = F.relu(norm(out, f'{name}.bn1'))
    out = norm(F.conv2d(out, state[f'{name}.conv2.weight'], padding=1), f'{name}.bn2')
    if f'{name}.downsample.0.weight' in state:
        shortcut = F.conv2d(x, state[f'{name}.downsample.0.weight'], stride=stride)
        x = norm(shortcut, f'{name}.downsample.1')
    return F.relu(out + x)


def trunk(x):
    x = F.relu(norm(F.conv2d(x, state['conv1.weight'], stride=2, padding=3), 'bn1'))
    x = F.max_pool2d(x, 3, 2, 1)
    for layer in range(1, 5):
        for index in range(2):
            stride = 2 if layer > 1 and index == 0 else 1
            x = block(x, f'layer{layer}.{index}', stride)
    return x.mean((2, 3))


def prepared(images):
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(data[name]).view(1, 3, 1, 1) for name in ('mean', 'std'))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


for name in list(state):
    if state[name].ndim == 4:
        state[name] = state[name].contiguous(memory_format=torch.channels_last)
with torch.no_grad():
    features = trunk(prepared(data['train'][:8]))
head = nn.Linear(512, int(data['labels'].max()) + 1)
nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
optimizer = torch.optim.SGD(head.parameters(), rate, momentum=0.9, weight_decay=decay)
labels, count = torch.from_numpy(data['labels']).long(), len(data['train'])
steps = -(-int(epochs) * count // int(batch_size))
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
order = torch.cat([torch.randperm(count) for _ in range(int(epochs) + 1)])
started = time.perf_counter()
for step in range(steps):
    rows = order[step * int(batch_size) : (step + 1) * int(batch_size)]
    with torch.no_grad():
        x = trunk(prepared(data['train'][rows.numpy()]))
    loss = F.cross_entropy(head(x), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
seconds = time.perf_counter() - started
with torch.no_grad():
    logits = torch.cat([head(trunk(prepared(part))) for part in np.array_split(data['val'], 6)])
right = (logits.argmax(1).numpy() == data['val_labels']).mean()
print(json.dumps({'seconds': seconds, 'accuracy': float(right), 'steps': steps,
                  'features': features.tolist()}))
"""


@dataclasses.dataclass(frozen=True)
class Task:
    """A network and two splits of a data set."""

    network: tuple[Any, Any, Any]
    splits: Mapping[str, Examples]
    state: Mapping[str, np.ndarray] | None  # the weights as torch names them

    def extract(self, split: str, **options: Any) -> features.Features:
        """The pooled features of a split."""
        return features.extract(*self.network, self.splits[split], **options)


def task() -> Task:
    """The real one, or what stands in for it."""
    if not WEIGHTS.is_file():
        model = stages.build(ResNet(depth=18), 10)
        params, stats = stages.init(model, jax.random.key(0))
        source = Synthetic(num_classes=10, train_per_class=60, size_px=256).splits()
        return Task((model, params, stats), {**source, 'val': source['test']}, None)
    loaded = loading.load(str(WEIGHTS), ResNet(depth=18))
    model = stages.build(ResNet(depth=18), 10, preprocessing=loaded.preprocessing)
    params, stats = stages.start(model, _trunk(loaded.params), _trunk(loaded.stats), KEY)
    splits = decoded_images.wrap(Folder(path=str(SHARED / 'clothing10')).splits(), model.images, 1)
    from tljax.weights import torch_file

    return Task((model, params, stats), splits, torch_file.read(WEIGHTS))


KEY = jax.random.key(0)


def _trunk(part: dict[str, Any]) -> dict[str, Any]:
    return {name: leaves for name, leaves in part.items() if name != stages.HEAD}


def heads(train: tuple[Any, Any], val: tuple[Any, Any]) -> Callable[[], np.ndarray]:
    """A call that trains the grid on standardised features and gives its accuracies."""
    apply, init = grid.linear_head(train[0].shape[-1], 10)

    def call() -> np.ndarray:
        scale = probes.scaling(train[0])
        x, val_x = scale.apply(train[0])[:, None], scale.apply(val[0])
        params = grid.train(
            x,
            train[1],
            AXES,
            apply=apply,
            init=init,
            optimizer=SGD(),
            num_classes=10,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
        )
        return grid.evaluate(params, apply, val_x, val[1])

    return call


def fit(x: np.ndarray, labels: np.ndarray, decay: float, seed: int, **options: Any) -> Any:
    """One fit of scikit-learn in a worker, and the seconds of the processor that it took."""
    rows, started = np.random.default_rng(seed).permutation(len(x)), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = LogisticRegression(C=1 / (len(x) * decay), **options).fit(x[rows], labels[rows])
    return model, time.process_time() - started


def scikit_learn(x: np.ndarray, labels: np.ndarray, jobs: Any, **options: Any) -> Any:
    """A call that makes fits with all cores, and gives them and their seconds."""
    # Each worker has the threads that are left to it.
    pool = Parallel(n_jobs=CORES, max_nbytes=None)

    def call() -> tuple[list[Any], float]:
        results = pool(delayed(fit)(x, labels, *job, **options) for job in jobs)
        pairs: list[Any] = list(results or ())
        return [model for model, _ in pairs], sum(taken for _, taken in pairs)

    return call


def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int) -> Any:
    """Times both in turns, on the wall and of the processor, and prints the ratios."""
    times, results, models_ = [], None, None
    for _ in range(pairs):
        started = time.perf_counter(), time.process_time()
        results = jax.block_until_ready(ours())
        mine = time.perf_counter() - started[0], time.process_time() - started[1]
        started = time.perf_counter()
        models_, processor = theirs()
        times.append((*mine, time.perf_counter() - started, processor))
    for kind, a, b in (('wall', 0, 2), ('processor', 1, 3)):
        first, second = (statistics.median(row[i] for row in times) for i in (a, b))
        ratios = [row[b] / row[a] for row in times]
        print(
            f'{name}, {kind}: {first:.3f} s, scikit-learn {second:.3f} s: '
            f'{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})'
        )
    return results, models_, statistics.median(row[0] for row in times)


def compare_heads(train: tuple[Any, Any], val: tuple[Any, Any], pairs: int) -> float:
    """The grid against 32 fits, in turns; returns the grid's seconds."""
    scale, labels = probes.scaling(train[0]), train[1]
    x, val_x = (np.asarray(scale.apply(part[0]), np.float64) for part in (train, val))
    jobs = [(decay, seed) for decay in (1e-2, 1e-1, 5e-1, 2.0) for seed in range(8)]
    ours, theirs = heads(train, val), scikit_learn(x, labels, jobs)
    started = time.perf_counter()
    ours()
    print(f'grid of 32 heads with its compilation: {time.perf_counter() - started:.2f} s')
    theirs()
    results, fits, seconds = compare('grid of 32 heads', ours, theirs, pairs)
    best = max((model.predict(val_x) == val[1]).mean() for model in fits)
    print(f'best accuracy on validation: {results.max():.4f}, scikit-learn {best:.4f}')
    return seconds


def compare_regression(train: tuple[Any, Any], pairs: int) -> None:
    """Logistic regressions to the same objective, one strength after the other and all at once."""
    x, labels = probes.scaling(train[0]).apply(train[0]), train[1]
    decays = np.logspace(-4, 1, 32).astype(np.float32)
    host, jobs = np.asarray(x, np.float64), [(float(decay), 0) for decay in decays]
    theirs = scikit_learn(host, labels, jobs, tol=1e-6, max_iter=2000)
    probes.logistic(x, labels, decays)
    name = '32 strengths of logistic regression'
    results, fits, _ = compare(name, lambda: probes.logistic(x, labels, decays), theirs, pairs)
    above = [
        objective(*_arrays(results.linear.at(i)), host, labels, float(decay))
        / objective(fits[i].coef_.T, fits[i].intercept_, host, labels, float(decay))
        - 1
        for i, decay in enumerate(decays)
    ]
    print(f'objectives from {min(above):.1e} to {max(above):.1e} above')


def _arrays(linear: probes.Linear) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(linear.kernel), np.asarray(linear.bias)


def objective(kernel: Any, bias: Any, x: np.ndarray, labels: np.ndarray, decay: float) -> float:
    """What both minimise, in float64."""
    logits = x @ kernel.astype(np.float64) + bias
    logits -= logits.max(1, keepdims=True)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    return float(losses.mean() + decay / 2 * np.square(kernel.astype(np.float64)).sum())


def probe_of_one_view(made: Task, pairs: int) -> float:
    """A pass over the images and ten epochs on its features; returns the pass's seconds."""
    apply, init = grid.linear_head(512, 10)
    count, ratios, passes = len(made.splits['train']), [], []
    for pair in range(-1, pairs):
        started = time.perf_counter()
        results = made.extract('train', cache_gigabytes=0)
        jax.block_until_ready(results.values)
        passed = time.perf_counter() - started
        started = time.perf_counter()
        options = {'optimizer': SGD(), 'num_classes': 10, 'epochs': 10, 'batch_size': BATCH_SIZE}
        axes = Axes(learning_rates=(0.01,))
        jax.block_until_ready(
            grid.train(
                jnp.asarray(results.values), results.labels, axes, apply=apply, init=init, **options
            )
        )
        probed = time.perf_counter() - started
        if pair >= 0:
            ratios.append(1 + probed / passed)
            passes.append(passed)
    print(
        f'a pass and a 10-epoch linear probe / the pass over {count} images: '
        f'{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})'
    )
    return statistics.median(passes)


def compare_torch(python: str, made: Task, ours: float) -> None:
    """One head through the frozen network in torch, against the grid with its pass."""
    from safetensors.numpy import save_file

    model = made.network[0]
    cut = (model.preprocessing.resize_px - model.preprocessing.size_px) // 2
    inner = slice(cut, cut + model.preprocessing.size_px)
    images = {
        split: np.stack([made.splits[split].load(i) for i in range(len(made.splits[split]))])
        for split in ('train', 'val')
    }
    with tempfile.TemporaryDirectory() as folder:
        assert made.state
        arrays = {n: np.ascontiguousarray(a) for n, a in made.state.items() if a.ndim}
        save_file(arrays, f'{folder}/weights.safetensors')
        np.savez(
            f'{folder}/images.npz',
            train=images['train'][:, inner, inner],
            val=images['val'][:, inner, inner],
            labels=made.splits['train'].labels,
            val_labels=made.splits['val'].labels,
            mean=np.float32(model.preprocessing.mean),
            std=np.float32(model.preprocessing.std),
        )
        command = [python, '-c', TORCH, folder, EPOCHS, BATCH_SIZE, 0.01, 1e-2, CORES]
        completed = subprocess.run(
            list(map(str, command)), check=True, capture_output=True, text=True
        )
    answer = json.loads(completed.stdout)
    here = np.asarray(made.extract('train', cache_gigabytes=0).values)[:8, 0]
    error = np.abs(here - np.asarray(answer['features'])).max() / np.abs(here).max()
    assert error < 1e-3, error
    print(
        f'torch, one head through the frozen network: {answer["seconds"]:.1f} s '
        f'({answer["steps"]} steps, accuracy on validation {answer["accuracy"]:.4f}); '
        f'32 of them / pass and grid, {ours:.1f} s: {32 * answer["seconds"] / ours:.0f} times'
    )


def main() -> None:
    """Prints a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--parts', default='regression,heads,pass')
    parser.add_argument('--torch', help='a Python that has torch and safetensors')
    arguments = parser.parse_args()
    parts, made, trained, passed = arguments.parts.split(','), task(), 0.0, 0.0
    train, val = (made.extract(split).matrix() for split in ('train', 'val'))
    if 'regression' in parts:
        compare_regression(train, arguments.pairs)
    if 'heads' in parts:
        trained = compare_heads(train, val, arguments.pairs)
    if 'pass' in parts:
        passed = probe_of_one_view(made, min(arguments.pairs, 3))
    if arguments.torch and made.state and trained and passed:
        compare_torch(arguments.torch, made, passed + trained)


if __name__ == '__main__':
    main()
