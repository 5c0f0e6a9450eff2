"""The cost of loading a ResNet-50 compared with reading its file: time and memory.

    python -m benchmarks.loading [--pairs=9]

Writes a file of random weights under torchvision's names, then reads its bytes and loads it into a
running model by turns; the page cache holds it. Memory is measured in a process of its own: the
peak of what is resident, pages of the mapped file among it, less what was before and less the
model's arrays. Prints a Markdown table.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import safetensors.numpy

import tljax
from tljax import tree
from tljax.models import port, stages
from tljax.models.backbones.resnet import ResNet


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--pairs', type=int, default=9)
    parser.add_argument('--memory_of', type=pathlib.Path, help='prints the bytes for one file')
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(_bytes_above_model(arguments.memory_of))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / 'resnet50.safetensors'
        write(path)
        first, pairs = _times(path, arguments.pairs)
        command = [sys.executable, '-m', 'benchmarks.loading', f'--memory_of={path}']
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        extra = int(done.stdout)
        size = path.stat().st_size
    ratios = sorted(load / read for read, load in pairs)
    reads, loads = (sorted(column) for column in zip(*pairs, strict=True))
    middle = len(pairs) // 2
    print('| | reading the file | loading it | ratio (all pairs) |\n| --- | --- | --- | --- |')
    print(
        f'| again | {1e3 * reads[middle]:.0f} ms | {1e3 * loads[middle]:.0f} ms '
        f'| {ratios[middle]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |'
    )
    print(f'| first in a process | | {1e3 * first:.0f} ms | {first / reads[middle]:.2f} |')
    print(f'\nMemory above the model: {extra / size:.2f} of the size of the file.')


def write(path: pathlib.Path) -> None:
    """A ResNet-50 under torchvision's names."""
    params, stats = stages.shapes(stages.build(ResNet(), 1000))
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    rng = np.random.default_rng(0)
    values = {name: rng.random(leaf.shape, np.float32) for name, leaf in leaves.items()}
    foreign = port.to_foreign(values, ResNet().port_tables()['torchvision'])
    safetensors.numpy.save_file({k: np.asarray(v, order='C') for k, v in foreign.items()}, path)


def _load(path: pathlib.Path | str) -> tljax.Network:
    network = tljax.load(path)
    jax.block_until_ready((network.params, network.stats))
    return network


def _times(path: pathlib.Path, pairs: int) -> tuple[float, list[tuple[float, float]]]:
    """Seconds of the first load, and of (reading, loading) in turns."""
    started = time.perf_counter()
    _load(path)
    first = time.perf_counter() - started
    results = []
    for _ in range(pairs):
        started = time.perf_counter()
        content = path.read_bytes()
        middle = time.perf_counter()
        del content
        again = time.perf_counter()
        _load(path)
        results.append((middle - started, time.perf_counter() - again))
    return first, results


def _bytes_above_model(path: pathlib.Path) -> int:
    """The peak memory of loading, minus the memory before it and that of the model."""
    _load('embedded:glyphs')  # what is imported and set up once
    stages.shapes(stages.build(ResNet(), 1000))
    before = _status_bytes('VmRSS')
    network = _load(path)
    model = tree.size_bytes((network.params, network.stats))
    return _status_bytes('VmHWM') - before - model


def _status_bytes(field: str) -> int:
    """Of this program alone; `ru_maxrss` is at least what its parent held when it was started."""
    (line,) = (
        line
        for line in pathlib.Path('/proc/self/status').read_text().splitlines()
        if line.startswith(field)
    )
    return int(line.split()[1]) * 1024


if __name__ == '__main__':
    main()
