"""Measures the table of norm policies in docs/strategies.md, on photographs.

    python -m scripts.norm_policies --data=DIR --weights=FILE --out=docs/norm_policies.json

Trains configs/resnet18_96px.py at 64 px on a folder of images (DIR/{train,test}/<class>/*), 20
labelled images per class, 10 epochs, with every norm policy: a probe and full fine-tuning, in
batches of 16 and of 4. Prints test accuracies in percent: their mean over seeds, and half the width
of its 95 % interval. Runs that are in the file are not repeated.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile
from typing import Any

from configs import resnet18_96px
from scripts.accuracy_by_labels import interval
from tljax.augment import HorizontalFlip, RandomCrop
from tljax.data.folder import Folder
from tljax.models.backbones.resnet import ResNet
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import FineTune, LinearProbe
from tljax.training.run import train
from tljax.types import Norm, Preprocessing, Strategy

STRATEGIES: dict[str, Strategy] = {
    'LinearProbe()': LinearProbe(),
    'FineTune(backbone_scale=0.1)': FineTune(backbone_scale=0.1),
}
BATCHES = (16, 4)


def accuracy(arguments: argparse.Namespace, changes: dict[str, Any]) -> float:
    """The test accuracy of one run."""
    base = resnet18_96px.get_config()
    experiment = dataclasses.replace(
        base,
        backbone=ResNet(depth=18, weights=arguments.weights),
        data=Folder(path=arguments.data),
        preprocessing=Preprocessing(size_px=64, resize_px=72),
        augmentations=(RandomCrop(size_px=64), HorizontalFlip()),
        optimizer=SGD(learning_rate=0.02, momentum=0.9, weight_decay=1e-4),
        per_class=20,
        epochs=10.0,
        evaluate_every_epochs=10.0,
        **changes,
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(experiment, pathlib.Path(folder), show_model=False)
    return result['test']['accuracy']


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', required=True)
    parser.add_argument('--weights', required=True)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--seeds', type=int, default=2)
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for seed in range(arguments.seeds):
        for batch in BATCHES:
            for name, strategy in STRATEGIES.items():
                for norm in Norm:
                    key = f'{name} {norm.value} {batch}'
                    if str(seed) in results.setdefault(key, {}):
                        continue
                    changes = {'strategy': strategy, 'norm': norm, 'batch_size': batch}
                    results[key][str(seed)] = accuracy(arguments, {**changes, 'seed': seed})
                    arguments.out.write_text(json.dumps(results, indent=2) + '\n')
    columns = [(name, batch) for name in STRATEGIES for batch in BATCHES]
    print(
        '| `norm` | ' + ' | '.join(f'`{name}`, {batch} a batch' for name, batch in columns) + ' |'
    )
    print('| --- ' * (1 + len(columns)) + '|')
    for norm in Norm:
        means = [interval(list(results[f'{n} {norm.value} {b}'].values())) for n, b in columns]
        cells = ' | '.join(f'{100 * mean:.1f} ± {100 * half:.1f}' for mean, half in means)
        print(f'| `{norm.value}` | {cells} |')


if __name__ == '__main__':
    main()
