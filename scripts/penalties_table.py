"""Measures the table of docs/penalties.md: test accuracy with each penalty and without one.

    python -m scripts.penalties_table --seeds=3

Runs configs/quickstart.py from 5 labelled digits per class for 120 steps, with several seeds. A
seed selects the labelled images, the initial values and the order. The gain of a row is relative to
the same seed without penalty.
"""

import argparse
import dataclasses
import pathlib
import tempfile
import time

import numpy as np

from configs import quickstart
from scripts.accuracy_by_labels import interval
from tljax.strategies.penalties import (
    BSS,
    DELTA,
    L2SP,
    CoTuning,
    FeatureDistillation,
    L2SPFisher,
    LogitDistillation,
)
from tljax.training.run import train
from tljax.types import Penalty

PENALTIES: dict[str, tuple[Penalty, ...]] = {
    'none': (),
    'L2SP()': (L2SP(),),
    'L2SPFisher()': (L2SPFisher(),),
    'DELTA()': (DELTA(),),
    'BSS()': (BSS(),),
    'FeatureDistillation()': (FeatureDistillation(),),
    'LogitDistillation()': (LogitDistillation(),),
    'CoTuning()': (CoTuning(),),
}


def measure(penalties: tuple[Penalty, ...], seed: int) -> tuple[float, float]:
    """The test accuracy of one run in percent, and its seconds."""
    experiment = dataclasses.replace(
        quickstart.get_config(),
        penalties=penalties,
        baselines=(),
        per_class=5,
        epochs=120.0,
        evaluate_every_epochs=40.0,
        seed=seed,
    )
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = train(experiment, pathlib.Path(folder), show_model=False)
    return 100 * result['test']['accuracy'], time.perf_counter() - begun


def main() -> None:
    """Prints the table, a row as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in PENALTIES}
    for seed in seeds:
        for name, penalties in PENALTIES.items():
            results[name].append(measure(penalties, seed))
    print('| penalty | test accuracy | gain | seconds a run |\n| --- | --- | --- | --- |')
    plain = np.array(results['none'])
    for name, values in results.items():
        accuracy, seconds = np.array(values).T
        (mean, half), (gain, spread) = (
            interval(list(x)) for x in (accuracy, accuracy - plain[:, 0])
        )
        cells = [
            f'{mean:.1f} ± {half:.1f}',
            f'{gain:+.1f} ± {spread:.1f}',
            f'{np.median(seconds):.0f}',
        ]
        print(f'| `{name}` | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
    main()
