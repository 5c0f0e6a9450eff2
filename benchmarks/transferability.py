"""What scores of transferability cost, and what they say about real networks.

    python -m benchmarks.transferability [--pairs=5] [--count=10000] [--width=2048] [--classes=100]
    python -m benchmarks.transferability --data=../shared/data

The first times LogME against two plain NumPy forms of its papers' algorithms, on the same cores, in
turns after a warm-up, outputs compared first: You et al. 2021 (one decomposition, then for each class
the iteration with the weights in the features' coordinates) and You et al. 2022 (the iteration in the
coordinates of the decomposition). Both stop where the ratio of variances moves by less than a
thousandth. Printed are medians, the median of the pairs' ratios and their range, and the seconds of
the other scores.

The second scores candidates (stages of a ResNet-18 with ImageNet weights, the letters network, random
weights) on photographs of clothing, beside the test accuracy of a logistic regression on the same
features.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tljax
from tljax import transferability as scores
from tljax.data.folder import Folder
from tljax.types import Examples

MOVED = 1e-3
RESNET = 'weights/resnet18-ktb-small-f9db5f80.pth'
OF_FEATURES: dict[str, Callable[..., float]] = {
    'LogME': scores.logme,
    'N-LEEP': scores.nleep,
    'H-score': scores.h_score,
    'H-score, shrunk': scores.shrunk_h_score,
    'TransRate': scores.transrate,
    'GBC': scores.gbc,
    'SFDA': scores.sfda,
    'k-NN': scores.knn_accuracy,
    'linear probe': scores.linear_probe_accuracy,
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


def in_turns(calls: dict[str, Callable[[], object]], pairs: int) -> dict[str, list[float]]:
    """Seconds of every call, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(pairs):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def cost(pairs: int, count: int, width: int, num_classes: int) -> None:
    """LogME against the plain forms, and one call of the others."""
    x, labels = features(count, width, num_classes)
    forms = {'ours': scores.logme, 'plain, 2021': logme_2021, 'plain, 2022': logme_2022}
    values = {name: form(x, labels) for name, form in forms.items()}
    for name, value in values.items():
        print(f'LogME, {name}: {value:.9f}')
        assert abs(value - values['ours']) < 1e-6 * abs(value)
    seconds = in_turns(
        {name: lambda form=form: form(x, labels) for name, form in forms.items()}, pairs
    )
    print('\n| LogME | seconds | over ours (all pairs) |\n| --- | --- | --- |')
    for name, found in seconds.items():
        ratios = sorted(a / b for a, b in zip(found, seconds['ours'], strict=True))
        print(
            f'| {name} | {statistics.median(found):.2f} | {statistics.median(ratios):.1f} '
            f'({ratios[0]:.1f} to {ratios[-1]:.1f}) |',
            flush=True,
        )
    print('\n| score | seconds |\n| --- | --- |')
    calls = {name: lambda score=score: score(x, labels) for name, score in OF_FEATURES.items()}
    calls['Frechet distance'] = lambda: scores.frechet_distance(x, x[::-1] + 1)
    calls['proxy A-distance'] = lambda: scores.proxy_a_distance(x[::2], x[1::2])
    for name, call in calls.items():
        if name != 'N-LEEP':  # minutes: its mixture has 500 Gaussians
            print(f'| {name} | {in_turns({name: call}, 1)[name][0]:.1f} |', flush=True)


Outputs = dict[str, np.ndarray]


def outputs(network: tljax.Network, examples: Examples) -> Outputs:
    """Pooled features of every stage [N, F] and the softmax [N, Z], by name."""
    from tljax import preprocessing
    from tljax.data import decode

    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(examples), 32):
        rows = range(start, min(start + 32, len(examples)))
        shown = network.preprocessing
        images = np.stack([decode.to_canvas(examples.load(i), shown) for i in rows])
        x = preprocessing.normalise(shown, images)
        for stage in network.model.names:
            maps = np.asarray(network.features(x, stage))
            found.setdefault(stage, []).append(maps.mean((1, 2)) if maps.ndim == 4 else maps)
    return {stage: np.concatenate(parts) for stage, parts in found.items()}


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
    import dataclasses

    import jax

    from tljax import model as models

    params, stats = models.init(network.model, jax.random.key(0))
    return dataclasses.replace(network, params=params, stats=stats)


def real(data: pathlib.Path) -> None:
    """The table of candidates, and Kendall's tau of every score with the accuracy."""
    splits = Folder(path=str(data / 'clothing10')).splits()
    train, test = splits['train'], splits['test']
    rows: dict[str, dict[str, float]] = {}
    for name, (network, stages) in candidates(data).items():
        seen, held_out = outputs(network, train), outputs(network, test)
        for stage in stages:
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
    taus = [
        scipy.stats.kendalltau(
            *zip(*((r[s], r['test accuracy']) for r in rows.values()), strict=True)
        )
        for s in OF_FEATURES
    ]
    print("| Kendall's tau | | " + ' | '.join(f'{tau.statistic:.2f}' for tau in taus) + ' |')


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--count', type=int, default=10_000)
    parser.add_argument('--width', type=int, default=2048)
    parser.add_argument('--classes', type=int, default=100)
    parser.add_argument('--data', type=pathlib.Path, help='real weights and photographs')
    arguments = parser.parse_args()
    if arguments.data:
        real(arguments.data)
    else:
        cost(arguments.pairs, arguments.count, arguments.width, arguments.classes)


if __name__ == '__main__':
    main()
