"""Measures the table of docs/strategies.md: the quickstart's digits under every strategy.

    python -m scripts.compare_strategies --out=docs/strategies.json --seeds=3

Runs configs/quickstart.py (10 labelled images per class) with each strategy and norm policy, the
same number of epochs for all, and prints test accuracies in percent: their mean over seeds, and
half the width of its 95 % interval. The seed picks the labelled images, the initial values and the
order. Runs that are in the file are not repeated; a run takes about 10 s on 2 CPU cores.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile
from typing import Any

from configs import quickstart
from scripts.accuracy_by_labels import interval
from tljax.strategies.strategies import (
    LPFT,
    AutoRGN,
    BiasOnly,
    Discriminative,
    FineTune,
    FreezeBelow,
    FromScratch,
    GradualUnfreeze,
    HeadFirst,
    LayerwiseDecay,
    LinearProbe,
    NormOnly,
    Surgical,
)
from tljax.training.run import train
from tljax.types import Norm

ROWS: dict[str, dict[str, Any]] = {
    'FromScratch()': {'strategy': FromScratch()},
    'LinearProbe()': {'strategy': LinearProbe()},
    'FineTune()': {'strategy': FineTune()},
    'FineTune(backbone_scale=0.1)': {'strategy': FineTune(backbone_scale=0.1)},
    "FreezeBelow(stage='stage2')": {'strategy': FreezeBelow(stage='stage2')},
    "FreezeBelow(stage='stage3')": {'strategy': FreezeBelow(stage='stage3')},
    "Surgical(stages=('stage1',))": {'strategy': Surgical(stages=('stage1',))},
    "Surgical(stages=('stage3',))": {'strategy': Surgical(stages=('stage3',))},
    'BiasOnly()': {'strategy': BiasOnly()},
    'NormOnly()': {'strategy': NormOnly()},
    'LayerwiseDecay(rate=0.75)': {'strategy': LayerwiseDecay(rate=0.75)},
    'Discriminative()': {'strategy': Discriminative()},
    'HeadFirst(head_epochs=6)': {'strategy': HeadFirst(head_epochs=6.0), 'epochs': 54.0},
    'LPFT()': {'strategy': LPFT()},
    'GradualUnfreeze(epochs_per_stage=12)': {'strategy': GradualUnfreeze(epochs_per_stage=12.0)},
    'AutoRGN()': {'strategy': AutoRGN()},
    # At the full rate networks without the batch's statistics diverge.
    **{
        f'FineTune(learning_rate_scale=0.1), norm={norm.name}': {
            'strategy': FineTune(learning_rate_scale=0.1),
            'norm': norm,
        }
        for norm in Norm
    },
}


def accuracy(changes: dict[str, Any], seed: int) -> float:
    """The test accuracy of one run."""
    base = dataclasses.replace(quickstart.get_config(), baselines=(), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        one = dataclasses.replace(base, **changes)
        return train(one, pathlib.Path(folder), show_model=False)['test']['accuracy']


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--seeds', type=int, default=3)
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for seed in range(arguments.seeds):
        for name, changes in ROWS.items():
            if str(seed) not in results.setdefault(name, {}):
                results[name][str(seed)] = accuracy(changes, seed)
                arguments.out.write_text(json.dumps(results, indent=2) + '\n')
    print('| strategy | test accuracy, % |\n| --- | --- |')
    for name in ROWS:
        mean, half = interval(list(results[name].values()))
        print(f'| `{name}` | {100 * mean:.1f} ± {100 * half:.1f} |')


if __name__ == '__main__':
    main()
