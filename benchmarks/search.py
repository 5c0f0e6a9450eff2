"""Steps until a search is as good as random search, on six tasks with real photographs.

    python -m benchmarks.search --data=../shared/data [--seeds=5] [--trials=30]

A task is a linear head on the frozen features of a ResNet-20 with CIFAR weights, after its second
or its third stage, on photographs of clothing, flowers and CIFAR objects (at most 600 at 32 px, a
third for validation). Learning rate, weight decay and momentum are
searched. Random search trains `--trials` heads to their end. The others have the same budget of
steps. Their cost is the share of random search's steps after which a head that was trained to its
end has at least the validation accuracy that random search has at its end; 1 means never.

The searches are those of `tljax sweep`, but a trial is a head in NumPy (SGD with Nesterov momentum,
a cosine schedule, batches of 32 in a fixed order), which pauses and resumes as a run does. A head
takes 40 ms, so that many seeds can be compared.
"""

import argparse
import json
import math
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

import tljax
from benchmarks.transferability import outputs
from tljax.data.folder import Folder
from tljax.sweep import search, search_worker, worker
from tljax.sweep.folder import SweepFolder
from tljax.sweep.search import Search
from tljax.sweep.search_worker import SearchWorker
from tljax.training.signals import Paused

STEPS, EVERY, BATCH, IMAGES = 180, 10, 32, 600
METHODS: dict[str, dict[str, Any]] = {
    'random': {'sampler': 'random', 'pruner': None},
    'random, halving': {'sampler': 'random', 'pruner': 'halving'},
    'tpe': {'sampler': 'tpe', 'pruner': None},
    'tpe, halving': {'sampler': 'tpe', 'pruner': 'halving'},
}
AXES = (
    tljax.Axis('optimizer.learning_rate', tljax.Range(1e-4, 10.0, log=True)),
    tljax.Axis('optimizer.weight_decay', tljax.Range(1e-6, 1.0, log=True)),
    tljax.Axis('optimizer.momentum', tljax.Range(0.0, 0.99)),
)
Task = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # features and labels: train, val


def tasks(data: pathlib.Path) -> Iterator[tuple[str, Task]]:
    """The name of each task, and its features, standardised, and labels."""
    cifar = tljax.load(
        str(data / 'weights/cifar10_resnet20-12fca82f.th'), backbone=tljax.ResNetSmall(depth=20)
    )
    for name in ('clothing10', 'flowers5', 'cifar10_jpg'):
        examples = Folder(path=str(data / name)).splits()['train']
        order = np.random.default_rng(0).permutation(len(examples))[:IMAGES]
        examples = examples.take(np.sort(order))
        results = outputs(cifar, examples)
        for stage in ('stage2', 'stage3'):
            features = results[stage].astype(np.float64)
            held_out = np.arange(len(features)) % 3 == 0
            held_out = np.random.default_rng(1).permutation(held_out)
            train, val = features[~held_out], features[held_out]
            mean, std = train.mean(0), train.std(0) + 1e-6
            labels = examples.labels
            task = ((train - mean) / std, labels[~held_out], (val - mean) / std, labels[held_out])
            yield f'{name}, {stage}', task


class Heads:
    """Trains linear heads in place of runs.

    Attributes:
        events: the steps of all heads so far, and the validation accuracy of each head that was
            trained to its end.
    """

    def __init__(self, task: Task):
        self.task, self.states = task, {}
        self.steps, self.events = 0, []

    def train(
        self, experiment: tljax.Experiment, workdir: pathlib.Path, *, until_step: float = math.inf
    ) -> None:
        """Trains or resumes a head; see `training.run.train`."""
        workdir.mkdir(parents=True, exist_ok=True)
        x, y, val, val_y = self.task
        classes, optimizer = int(y.max()) + 1, experiment.optimizer
        assert isinstance(optimizer, tljax.SGD)
        start = (0, np.zeros((x.shape[1] + 1, classes)), np.zeros((x.shape[1] + 1, classes)), 0.0)
        step, weights, velocity, best = self.states.get(workdir.name, start)
        order = np.random.default_rng(0)
        batches = [order.choice(len(x), BATCH, replace=False) for _ in range(STEPS)]
        x, val = (np.concatenate([a, np.ones((len(a), 1))], 1) for a in (x, val))
        with (workdir / 'metrics.jsonl').open('a') as records:
            while step < STEPS:
                if step and step % EVERY == 0 and step >= until_step:
                    self.states[workdir.name] = (step, weights, velocity, best)
                    raise Paused(step)
                rows = batches[step]
                errors = softmax(x[rows] @ weights) - np.eye(classes)[y[rows]]
                gradient = x[rows].T @ errors / BATCH + optimizer.weight_decay * weights
                velocity = optimizer.momentum * velocity + gradient
                rate = optimizer.learning_rate * 0.5 * (1 + math.cos(math.pi * step / STEPS))
                weights = weights - rate * (gradient + optimizer.momentum * velocity)
                step += 1
                self.steps += 1
                if step % EVERY == 0:
                    logits = np.nan_to_num(val @ weights)
                    accuracy = float((logits.argmax(1) == val_y).mean())
                    probability = softmax(logits)[np.arange(len(val_y)), val_y]
                    loss = float(-np.log(probability + 1e-12).mean())
                    best = max(best, accuracy)
                    record = {'step': step, 'phase': 0, 'split': 'val', 'accuracy': accuracy}
                    record |= {'loss': loss}
                    records.write(json.dumps(record) + '\n')
        self.events.append((self.steps, best))
        (workdir / 'result.json').write_text(json.dumps({'val': {'accuracy': best}}))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each row."""
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def events(task: Task, budget: int, seed: int, method: dict[str, Any]) -> list[tuple[int, float]]:
    """The steps and the validation accuracy of each head that a search trained to its end."""
    base = tljax.Experiment(
        backbone=tljax.ResNetSmall(depth=20),
        data=tljax.Digits(),
        strategy=tljax.LinearProbe(),
        optimizer=tljax.SGD(learning_rate=0.1, momentum=0.9),
    )
    (study,) = search.studies(Search(*AXES, budget_steps=budget, seed=seed, **method), base)
    heads = Heads(task)
    lengths = (STEPS, frozenset(range(EVERY, STEPS + 1, EVERY)))
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(worker, 'train', heads.train),
        mock.patch.object(search_worker, '_lengths', return_value=lengths),
        np.errstate(all='ignore'),
    ):
        nothing: Callable[..., None] = lambda *_: None  # noqa: E731
        SearchWorker(
            SweepFolder(pathlib.Path(folder)), '', study, record=nothing, announce=nothing
        ).run()
    return heads.events


def share(found: list[tuple[int, float]], wanted: float, budget: int) -> float:
    """The share of the budget after which a head has a wanted accuracy; 1 for never."""
    return min((steps / budget for steps, accuracy in found if accuracy >= wanted), default=1.0)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=pathlib.Path, required=True)
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--trials', type=int, default=30)
    arguments = parser.parse_args()
    budget = arguments.trials * STEPS
    print(f'| task | random, val % | {" | ".join(list(METHODS)[1:])} |', flush=True)
    print('| --- | --- |' + ' --- |' * (len(METHODS) - 1))
    every: dict[str, list[float]] = {name: [] for name in METHODS}
    finals: dict[str, list[float]] = {name: [] for name in METHODS}
    for title, task in tasks(arguments.data):
        shares: dict[str, list[float]] = {name: [] for name in METHODS}
        scores = []
        for seed in range(arguments.seeds):
            found = {name: events(task, budget, seed, m) for name, m in METHODS.items()}
            wanted = max(accuracy for _, accuracy in found['random'])
            scores.append(wanted)
            for name, one in found.items():
                shares[name].append(share(one, wanted, budget))
                finals[name].append(max(accuracy for _, accuracy in one) - wanted)
        cells = [f'{np.median(shares[name]):.2f}' for name in list(METHODS)[1:]]
        print(f'| {title} | {100 * np.mean(scores):.1f} | {" | ".join(cells)} |', flush=True)
        for name, values in shares.items():
            every[name] += values
    for text, rows in (('median of all', every), ('difference at the end, points', finals)):
        cells = [
            f'{np.median(rows[name]):.2f}' if rows is every else f'{100 * np.mean(rows[name]):+.2f}'
            for name in list(METHODS)[1:]
        ]
        print(f'| {text} | | {" | ".join(cells)} |', flush=True)
    reached = [
        f'{np.mean(np.array(every[name]) <= 0.4):.0%}' for name in list(METHODS)[1:]
    ]  # of all searches
    print(f'| searches with at most 0.40 | | {" | ".join(reached)} |')


if __name__ == '__main__':
    main()
