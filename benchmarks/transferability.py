"""What scores of transferability cost, and what they say about real networks.

    python -m benchmarks.transferability [--pairs=5] [--count=10000] [--width=2048] [--classes=100]
    python -m benchmarks.transferability --others
    python -m benchmarks.transferability --data=../shared/data

The first times LogME against two plain NumPy forms of its papers' algorithms, on the same cores,
in turns after a warm-up, outputs compared first: You et al. 2021 (one decomposition, then for each
class the iteration with the weights in the features' coordinates) and You et al. 2022 (the
iteration in the coordinates of the decomposition). Both stop where the ratio of variances moves by
less than a thousandth. Printed are medians, the median of the pairs' ratios and their range, of
seconds on the wall and of the processor, which other programs on the machine disturb less. With
`--others` it times one call of each of the other scores.

With `--data` it scores candidates (stages of a ResNet-18 with ImageNet weights, the letters
network, random weights) on photographs of clothing, compared with the test accuracy of a logistic
regression on the same features.
"""

import argparse
import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import scipy.stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tljax
from tljax.data import decode
from tljax.data.folder import Folder
from tljax.features import transferability
from tljax.models import stages
from tljax.types import Examples, Params, Stats

MOVED = 1e-3
ROWS = 50  # images that a network sees at a time
RESNET = 'weights/resnet18-ktb-small-f9db5f80.pth'
OF_FEATURES: dict[str, Callable[..., float]] = {
    'LogME': transferability.logme,
    'N-LEEP': transferability.nleep,
    'H-score': transferability.h_score,
    'H-score, shrunk': transferability.shrunk_h_score,
    'TransRate': transferability.transrate,
    'GBC': transferability.gbc,
    'SFDA': transferability.sfda,
    'k-NN': transferability.knn_accuracy,
    'linear probe': transferability.linear_probe_accuracy,
}


def features(count: int, width: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rectified features with a falling spectrum, as networks have, and labels, float32."""
    rng = np.random.default_rng(0)
    labels = np.concatenate(
        [np.arange(num_classes), rng.integers(0, num_classes, count - num_classes)]
    )
    hidden = rng.normal(size=(count, width)) + rng.normal(size=(num_classes, width))[labels]
    mixing = rng.normal(size=(width, width)) * np.exp(-4 * np.arange(width) / width)[:, None]
    return np.maximum(hidden @ mixing, 0).astype(np.float32), labels


def logme_2021(x: np.ndarray, labels: np.ndarray) -> float:
    """Algorithm 1 of the paper, with its order of matrix products (section 4.3)."""
    x = x.astype(np.float64)
    count, width = x.shape
    v, squares, _ = np.linalg.svd(x.T @ x)
    evidences = []
    for k in range(labels.max() + 1):
        y = (labels == k).astype(np.float64)
        projected = v.T @ (x.T @ y)
        alpha = beta = 1.0
        while True:
            diagonal = alpha + beta * squares
            gamma = (beta * squares / diagonal).sum()
            m = v @ (beta * projected / diagonal)
            residual, norm, old = ((x @ m - y) ** 2).sum(), m @ m, alpha / beta
            alpha, beta = gamma / norm, (count - gamma) / residual
            if abs(alpha / beta - old) <= MOVED * old:
                break
        evidences.append(
            width / 2 * np.log(alpha)
            + count / 2 * np.log(beta / (2 * np.pi))
            - (beta * residual + alpha * norm + np.log(alpha + beta * squares).sum()) / 2
        )
    return float(np.mean(evidences)) / count


def logme_2022(x: np.ndarray, labels: np.ndarray) -> float:
    """The fixed point of the ratio of variances, class by class."""
    x = x.astype(np.float64)
    count, width = x.shape
    _, squares, rows = np.linalg.svd(x.T @ x)
    u = x @ rows.T / np.sqrt(squares)
    evidences = []
    for k in range(labels.max() + 1):
        y = (labels == k).astype(np.float64)
        fitted = (u.T @ y) ** 2
        beyond, ratio = y.sum() - fitted.sum(), 1.0
        while True:
            gamma = (squares / (squares + ratio)).sum()
            norm = (squares * fitted / (squares + ratio) ** 2).sum()
            residual = (fitted / (1 + squares / ratio) ** 2).sum() + beyond
            alpha, beta, old = gamma / norm, (count - gamma) / residual, ratio
            ratio = alpha / beta
            if abs(ratio - old) <= MOVED * old:
                break
        evidences.append(
            width / 2 * np.log(alpha)
            + count / 2 * np.log(beta / (2 * np.pi))
            - (beta * residual + alpha * norm + np.log(alpha + beta * squares).sum()) / 2
        )
    return float(np.mean(evidences)) / count


def seconds_of(call: Callable[[], object]) -> tuple[float, float]:
    """On the wall, and of the processor."""
    started = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started[0], time.process_time() - started[1]


def logme(pairs: int, x: np.ndarray, labels: np.ndarray) -> None:
    """Ours against the plain forms."""
    forms = {'ours': transferability.logme, 'plain, 2021': logme_2021, 'plain, 2022': logme_2022}
    values = {name: form(x, labels) for name, form in forms.items()}
    for name, value in values.items():
        print(f'LogME, {name}: {value:.9f}')
        assert abs(value - values['ours']) < 1e-6 * abs(value)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for _ in range(pairs):
        for name, form in forms.items():
            seconds[name].append(seconds_of(lambda form=form: form(x, labels)))
    print(
        '\n| LogME | seconds | over ours (all pairs) | of the processor | over ours (all pairs) |'
    )
    print('| --- ' * 5 + '|')
    for name, results in seconds.items():
        print(f'| {name} ', end='')
        for clock in (0, 1):
            times = [pair[clock] for pair in results]
            ours = [pair[clock] for pair in seconds['ours']]
            ratios = sorted(a / b for a, b in zip(times, ours, strict=True))
            print(
                f'| {statistics.median(times):.2f} | {statistics.median(ratios):.1f} '
                f'({ratios[0]:.1f} to {ratios[-1]:.1f}) ',
                end='',
            )
        print('|', flush=True)


def others(x: np.ndarray, labels: np.ndarray) -> None:
    """One call of each."""
    calls: dict[str, Callable[[], float]] = {
        name: lambda score=score: score(x, labels) for name, score in OF_FEATURES.items()
    }
    calls['Frechet distance'] = lambda: transferability.frechet_distance(x, x[::-1] + 1)
    calls['proxy A-distance'] = lambda: transferability.proxy_a_distance(x[::2], x[1::2])
    print('\n| score | seconds | of the processor |\n| --- | --- | --- |')
    for name, call in calls.items():
        if name != 'N-LEEP':  # minutes: its mixture has five Gaussians a class
            wall, processor = seconds_of(call)
            print(f'| {name} | {wall:.1f} | {processor:.1f} |', flush=True)


def outputs(network: tljax.Network, examples: Examples) -> dict[str, np.ndarray]:
    """Pooled features [N, F] of every stage but the head, in one pass."""
    shown, names = network.model.images, network.model.names[:-1]

    @jax.jit
    def run(params: Params, stats: Stats, images: jax.Array) -> dict[str, jax.Array]:
        x, results = stages.normalise(shown, images), {}
        for stage, following in zip(names, network.model.names[1:], strict=True):
            x, _ = stages.run(network.model, params, stats, x, start=stage, stop=following)
            results[stage] = x.mean((1, 2)) if x.ndim == 4 else x
        return results

    parts = []
    for start in range(0, len(examples), ROWS):
        rows = range(start, min(start + ROWS, len(examples)))
        images = np.stack([decode.resize_square(examples.load(i), shown) for i in rows])
        parts.append(jax.device_get(run(network.params, network.stats, images)))
    return {stage: np.concatenate([part[stage] for part in parts]) for stage in names}


def candidates(data: pathlib.Path) -> dict[str, tuple[tljax.Network, list[str]]]:
    """Networks, and the stages that are looked at."""
    imagenet = tljax.load(str(data / RESNET))
    return {
        'ImageNet': (imagenet, ['stage1', 'stage2', 'stage3', 'stage4']),
        'letters': (tljax.load('embedded:glyphs'), ['stage3']),
        'random': (random_like(imagenet), ['stage4']),
    }


def random_like(network: tljax.Network) -> tljax.Network:
    """The same architecture with values drawn anew."""
    params, stats = stages.init(network.model, jax.random.key(0))
    return dataclasses.replace(network, params=params, stats=stats)


def real(data: pathlib.Path) -> None:
    """The table of candidates, and Kendall's tau of every score with the accuracy."""
    splits = Folder(path=str(data / 'clothing10')).splits()
    train, test = splits['train'], splits['test']
    rows: dict[str, dict[str, float]] = {}
    for name, (network, names) in candidates(data).items():
        seen, held_out = outputs(network, train), outputs(network, test)
        for stage in names:
            x, labels = seen[stage].astype(np.float64), train.labels
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
            accuracy = probe.fit(x, labels).score(held_out[stage], test.labels)
            row = {'test accuracy': 100 * float(accuracy)}
            row |= {score: call(x, labels) for score, call in OF_FEATURES.items()}
            rows[f'{name}, {stage}'] = row
    print('| candidate | ' + ' | '.join(next(iter(rows.values()))) + ' |')
    print('| --- ' * (2 + len(OF_FEATURES)) + '|')
    for name, row in rows.items():
        print(f'| {name} | ' + ' | '.join(f'{value:.3g}' for value in row.values()) + ' |')
    accuracies = [row['test accuracy'] for row in rows.values()]
    taus = [
        np.asarray(scipy.stats.kendalltau([row[score] for row in rows.values()], accuracies))[0]
        for score in OF_FEATURES
    ]
    print("| Kendall's tau | | " + ' | '.join(f'{tau:.2f}' for tau in taus) + ' |')


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--count', type=int, default=10_000)
    parser.add_argument('--width', type=int, default=2048)
    parser.add_argument('--classes', type=int, default=100)
    parser.add_argument('--others', action='store_true', help='the other scores instead')
    parser.add_argument('--data', type=pathlib.Path, help='real weights and photographs')
    arguments = parser.parse_args()
    if arguments.data:
        real(arguments.data)
        return
    x, labels = features(arguments.count, arguments.width, arguments.classes)
    if arguments.others:
        others(x, labels)
    else:
        logme(arguments.pairs, x, labels)


if __name__ == '__main__':
    main()
