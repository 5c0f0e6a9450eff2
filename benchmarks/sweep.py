"""The time of a sweep compared with its cells one by one, each as a process of its own.

    python -m benchmarks.sweep probe [--alone=N] [--pairs=1]
    python -m benchmarks.sweep suffixes [--alone=N] [--pairs=1]
    python -m benchmarks.sweep probe --config=photographs --config.data.path=DIR
        --config.backbone.weights=FILE

`probe` has 32 cells: a linear probe with 4 learning rates, 2 weight decays and 4 seeds. `suffixes`
has 45: 3 cuts, 3 learning rates and 5 seeds. The network is the small ResNet of the quickstart on
handwritten digits, or with `--config=photographs` a ResNet-18 on a folder of images.

The sweep and the cells run by turns, on the disk caches (decoded images, features, compiled
programs) that a first, untimed turn has filled. With `--alone=N` only N of the cells, evenly
spread, run alone, and their mean stands for all. Prints the largest difference between results
first, then wall-clock and CPU seconds. CPU seconds do not depend on what else the machine does.

This file is also the config of both sweeps.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

import tljax
from tljax.records import predictions

PROCESSOR = pathlib.Path('/proc/cpuinfo')


def get_config(data: str = 'digits') -> tljax.Experiment:
    """The experiment that all cells change."""
    optimizer = tljax.SGD(learning_rate=0.03, momentum=0.9)
    schedule = tljax.Cosine(warmup_epochs=1)
    if data == 'photographs':
        return tljax.Experiment(
            backbone=tljax.ResNet(depth=18, weights='torchvision:resnet18-f37072fd'),
            data=tljax.Folder(path='DIR'),
            strategy=tljax.LinearProbe(),
            optimizer=optimizer,
            schedule=schedule,
        )
    return tljax.Experiment(
        backbone=tljax.ResNetSmall(depth=20, weights='embedded:glyphs'),
        data=tljax.Digits(),
        per_class=20,
        validation_fraction=0.2,
        batch_size=20,
        strategy=tljax.LinearProbe(),
        optimizer=optimizer,
        schedule=schedule,
    )


def sweep() -> dict[str, tljax.Product]:
    """Both sweeps."""
    cuts = [tljax.FreezeBelow(stage=name) for name in ('stage2', 'stage3')]
    return {
        'probe': tljax.Product(
            tljax.Axis('optimizer.learning_rate', [0.3, 0.1, 0.03, 0.01]),
            tljax.Axis('optimizer.weight_decay', [0.0, 1e-3]),
            tljax.Seeds(4),
        ),
        'suffixes': tljax.Product(
            tljax.Axis('strategy', [*cuts, tljax.FineTune(backbone_scale=0.1)]),
            tljax.Axis('optimizer.learning_rate', [0.1, 0.03, 0.01]),
            tljax.Seeds(5),
        ),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('sweep', choices=sweep().keys())
    parser.add_argument('--alone', type=int, help='the number of cells that run alone')
    parser.add_argument('--pairs', type=int, default=1)
    parser.add_argument('--config', default='digits')
    arguments, fields = parser.parse_known_args()
    command = [sys.executable, '-m', 'tljax', 'sweep', f'--sweep={arguments.sweep}']
    command += [f'--config={pathlib.Path(__file__)}:{arguments.config}', *fields]
    with tempfile.TemporaryDirectory() as folder:
        measure(command, pathlib.Path(folder), arguments.alone, arguments.pairs)


def measure(command: Sequence[str], root: pathlib.Path, alone: int | None, pairs: int) -> None:
    """Runs the sweep and the cells by turns, and prints the results."""
    lines = subprocess.run(
        [*command, f'--workdir={root / "commands"}', '--print_commands'],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    cells = [json.loads(line) for line in lines]
    chosen = cells[:: max(1, len(cells) // (alone or len(cells)))][:alone]
    ratios = []
    for turn in range(pairs + 1):
        together, single = root / f'{turn}/sweep', root / f'{turn}/alone'
        swept = seconds_of([*command, f'--workdir={together}'])
        each = [seconds_of(command_of(cell, single)) for cell in chosen]
        mean = np.mean(each, 0) * len(cells)
        if turn == 0:
            difference = max(largest_difference(together / 'cells', single, c) for c in chosen)
            print(f'{len(cells)} cells, {len(chosen)} of them run alone, on {processor()}')
            print(f'largest difference of a logit: {difference:.1e}\n')
            print('| | sweep | cells one by one | ratio |\n| --- | --- | --- | --- |', flush=True)
            continue
        ratios.append(mean / swept)
        for name, one, other in zip(('wall-clock', 'CPU'), swept, mean, strict=True):
            print(f'| {name} | {one:.0f} s | {other:.0f} s | {other / one:.1f} |', flush=True)
    print(f'\nmedian ratios, wall-clock and CPU: {np.round(np.median(ratios, 0), 1)}')


def command_of(cell: dict, folder: pathlib.Path) -> list[str]:
    """The command that runs a cell in another folder."""
    argv = [one for one in cell['argv'][1:] if not one.startswith('--workdir')]
    return [sys.executable, *argv, f'--workdir={folder / cell["cell"]}']


def seconds_of(command: Sequence[str]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


def largest_difference(together: pathlib.Path, single: pathlib.Path, cell: dict) -> float:
    """Between the test logits of a cell in the sweep and alone, relative to the largest one."""
    both = [
        predictions.read(folder / cell['cell'] / 'predictions.npz').splits['test'].logits
        for folder in (together, single)
    ]
    return float(np.abs(both[0] - both[1]).max() / np.abs(both[1]).max())


def processor() -> str:
    """The name of the processor, and the number of its cores."""
    names = [line for line in PROCESSOR.read_text().splitlines() if line.startswith('model name')]
    return f'{len(names)} cores of {names[0].partition(": ")[2]}' if names else 'this machine'


if __name__ == '__main__':
    main()
