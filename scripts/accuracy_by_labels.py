"""Measures the README's table and picture: test accuracy against labels per class.

    python -m scripts.accuracy_by_labels --out=docs/accuracy_by_labels

Runs configs/quickstart.py (transfer, from scratch, linear probe) with several numbers of labelled
digits per class and several seeds, each with the same number of training steps, and writes
OUT.json, OUT.md and OUT.png. The seed picks the labelled images, the initial values and the order.
Takes about 15 minutes on 2 CPU cores; runs that are in OUT.json are not repeated.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np

from configs import quickstart
from tljax.sample_transfer import WithoutSource
from tljax.strategies import strategies
from tljax.strategies.schedules import Cosine
from tljax.training.run import train
from tljax.types import Strategy

Results = dict[str, dict[str, dict[str, float]]]  # strategy, labels per class, seed: accuracy
TITLES = {
    'freeze below stage2': 'transfer (freeze below stage2)',
    'linear probe': 'linear probe',
    'from scratch': 'from scratch',
}
COLOURS = {'freeze below stage2': '#0b6e4f', 'linear probe': '#e08e0b', 'from scratch': '#8a8d91'}
# Two-sided 97.5 % points of Student's t with 1, 2, ... degrees of freedom.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def accuracy(strategy: Strategy, per_class: int, seed: int) -> float:
    """The test accuracy of one run."""
    base = quickstart.get_config()
    all_steps = base.epochs * _train_count(base.per_class or 0, base.validation_fraction)
    epochs = all_steps / _train_count(per_class, base.validation_fraction)
    experiment = dataclasses.replace(
        base,
        strategy=strategy,
        baselines=(),
        per_class=per_class,
        seed=seed,
        epochs=epochs,
        evaluate_every_epochs=epochs / 3,
        schedule=Cosine(warmup_epochs=epochs / 12),
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(experiment, pathlib.Path(folder), show_model=False)
    return result['test']['accuracy']


def _train_count(per_class: int, validation_fraction: float) -> int:
    """Training images per class once validation has been carved off (subsets.carve)."""
    return per_class - min(round(validation_fraction * per_class), per_class - 1)


def interval(values: list[float]) -> tuple[float, float]:
    """The mean and half the width of its 95 % interval over seeds (Student's t)."""
    n = len(values)
    half = STUDENT_T[n - 2] * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else 0.0
    return float(np.mean(values)), float(half)


def sizes_of(results: Results) -> list[int]:
    """The numbers of labels per class that were run."""
    return sorted({int(size) for runs in results.values() for size in runs})


def table(results: Results) -> str:
    """The accuracies as Markdown, in percent."""
    sizes = sizes_of(results)
    lines = [
        '| labels per class | ' + ' | '.join(map(str, sizes)) + ' |',
        '| --- |' + ' --- |' * len(sizes),
    ]
    for name, runs in results.items():
        cells = []
        for size in sizes:
            mean, half = interval(list(runs[str(size)].values()))
            cells.append(f'{100 * mean:.1f} ± {100 * half:.1f}')
        lines.append(f'| {TITLES[name]} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def draw(results: Results, path: pathlib.Path) -> None:
    """The accuracies as a picture."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), dpi=160)
    sizes = sizes_of(results)
    for name, runs in results.items():
        means, halves = zip(*(interval(list(runs[str(s)].values())) for s in sizes), strict=True)
        low, high = (100 * (np.array(means) + sign * np.array(halves)) for sign in (-1, 1))
        axes.fill_between(sizes, low, np.minimum(high, 100), color=COLOURS[name], alpha=0.15, lw=0)
        axes.plot(sizes, 100 * np.array(means), 'o-', color=COLOURS[name], label=TITLES[name])
    axes.set_xscale('log')
    axes.set_xticks(sizes, map(str, sizes))
    axes.minorticks_off()
    axes.set_xlabel('labelled digits per class')
    axes.set_ylabel('test accuracy (%)')
    axes.set_title('Handwritten digits, from a network that has only seen printed letters', size=10)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, loc='lower right')
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Runs what is missing, then writes the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--out', type=pathlib.Path, required=True, help='path without suffix')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--per_class', type=int, nargs='+', default=[2, 5, 10, 20, 50])
    arguments = parser.parse_args()
    base = quickstart.get_config()
    others = [one for one in reversed(base.baselines) if not isinstance(one, WithoutSource)]
    path = arguments.out.with_suffix('.json')
    results = json.loads(path.read_text()) if path.exists() else {}
    for strategy in (base.strategy, *others):
        runs = results.setdefault(strategies.name_of(strategy), {})
        for per_class in arguments.per_class:
            for seed in range(arguments.seeds):
                done = runs.setdefault(str(per_class), {})
                if str(seed) not in done:
                    done[str(seed)] = accuracy(strategy, per_class, seed)
                    path.write_text(json.dumps(results, indent=1) + '\n')
    arguments.out.with_suffix('.md').write_text(table(results))
    draw(results, arguments.out.with_suffix('.png'))
    print(table(results))


if __name__ == '__main__':
    main()
