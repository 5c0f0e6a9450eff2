"""How fast images are read, from JPEG and from the cache, and what it costs a training run.

    python -m benchmarks.data [--images=DIR] [--pairs=5] [--steps=10] [--parts=jpeg,cache,...]

DIR holds JPEGs; by default the photographs of ../shared/data/imagenet_check, or where those are
absent some that are made here (500 x 375 px). Outputs are compared first. The two sides of a ratio
are measured in turns in this process, after a warm-up; each line gives the median of the pairs'
ratios and their range, in seconds on the wall and of the processor, which other programs on the
machine disturb less. Parts:

    jpeg      reading with all cores, to pixels and to batches of resized images (by the compiled
              resizing and by Pillow's), against the bare decoder with all cores on the same bytes
    cache     training of a ResNet-18 from the cache against the same on one batch that stays; the
              network sees 64 px, so that a step is short and the loader has more to do
    gather    images per second out of the cache, one thread, no step
    scan      files per second of the look before a run
    memory    resident size after each of ten epochs
"""

import argparse
import io
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from tljax.data import decode, decoded_images, files, pipeline
from tljax.data.files import ImageFile
from tljax.types import Examples, Preprocessing

CORES = len(os.sched_getaffinity(0))
SHARED = pathlib.Path(__file__).parents[2] / 'shared/data/imagenet_check/images'
PREPROCESSING = Preprocessing()
NEVER = 10**9  # images before the compiled resizing is used; 0 for at once


def images(folder: str | None, scratch: pathlib.Path) -> list[pathlib.Path]:
    """The JPEGs to read."""
    if folder is None and not SHARED.is_dir():
        rng = np.random.default_rng(0)
        for number in range(100):
            coarse = rng.integers(0, 256, (40, 50, 3), np.uint8)
            image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            image.save(scratch / f'{number}.jpg', quality=90)
    root = pathlib.Path(folder) if folder else SHARED if SHARED.is_dir() else scratch
    kinds = ('.jpg', '.jpeg')
    return sorted(path for path in root.rglob('*') if path.suffix.lower() in kinds)


def examples_of(paths: list[pathlib.Path]) -> Examples:
    """The files as a data set of ten classes."""
    encoded = [ImageFile(path) for path in paths]
    return Examples(
        load=decode.loader(encoded),
        labels=(np.arange(len(paths)) % 10).astype(np.int32),
        ids=np.arange(len(paths)),
        class_names=tuple('abcdefghij'),
        encoded=encoded,
    )


Seconds = tuple[list[float], list[float]]  # of the two sides, pair by pair


def in_turns(
    one: Callable[[], object], other: Callable[[], object], pairs: int
) -> tuple[Seconds, Seconds]:
    """Seconds of both in turns, after a warm-up of each: on the wall, and of the processor."""
    wall: Seconds = ([], [])
    processor: Seconds = ([], [])
    for pair in range(-1, pairs):
        for place, function in ((0, one), (1, other)):
            started = time.perf_counter(), time.process_time()
            function()
            if pair >= 0:
                wall[place].append(time.perf_counter() - started[0])
                processor[place].append(time.process_time() - started[1])
    return wall, processor


def show(name: str, ours: list[float], theirs: list[float], count: int) -> None:
    """One line: both speeds and the ratio of ours to theirs."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    speeds = [count / statistics.median(seconds) for seconds in (ours, theirs)]
    print(
        f'{name:<58} {speeds[0]:8.1f} against {speeds[1]:8.1f} images/s: '
        f'{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})'
    )


def jpeg(paths: list[pathlib.Path], pairs: int) -> None:
    """Reading, with and without the resizing, against the bare decoder on all cores."""
    contents = [path.read_bytes() for path in paths]
    steps = 3 * len(paths) // 25
    for path, content in list(zip(paths, contents, strict=True))[:20]:
        expected = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))
        np.testing.assert_array_equal(decode.decode(content, path), expected)
        resized = decode.load_resized(ImageFile(path), PREPROCESSING)
        for start in (0, NEVER):
            decode.COMPILED_FROM = start
            np.testing.assert_array_equal(resized, decode.resize_square(expected, PREPROCESSING))
    with ThreadPoolExecutor(CORES) as threads:

        def bare() -> None:
            for _ in threads.map(simplejpeg.decode_jpeg, contents):
                pass

        def read() -> None:
            for _ in threads.map(decode.read_image, paths):
                pass

        def batches() -> None:
            split = decoded_images.wrap({'': examples_of(paths)}, PREPROCESSING, 0)['']
            stream = pipeline.train_batches(
                split, PREPROCESSING, batch_size=25, steps=steps, seed=0, threads=2 * CORES
            )
            for _ in stream:
                pass

        share = steps * 25 / len(paths)
        cases = (
            ('pixels', read, 1.0, 0),
            ('batches', batches, share, 0),
            ('batches, by Pillow', batches, share, NEVER),
        )
        for name, function, times, start in cases:
            decode.COMPILED_FROM = start
            clocks = zip(
                ('on the wall', 'of the processor'), in_turns(function, bare, pairs), strict=True
            )
            for clock, (ours, theirs) in clocks:
                count, theirs = round(times * len(paths)), [times * x for x in theirs]
                show(f'jpeg: to {name} / bare decoder, {clock}', ours, theirs, count)


def cache(paths: list[pathlib.Path], pairs: int, steps: int) -> None:
    """Training steps on batches from the cache against the same batch again and again."""
    import jax

    from tljax.metrics.losses import CrossEntropy
    from tljax.models import stages
    from tljax.models.backbones.resnet import ResNet
    from tljax.strategies import optimizers, partition
    from tljax.strategies.strategies import FineTune
    from tljax.training import states, step

    small = Preprocessing(size_px=64)  # of resized images of the same size
    model = stages.build(ResNet(depth=18), 10, preprocessing=small)
    params, stats = stages.init(model, jax.random.key(0))
    rules = FineTune().phases(stages.ordered(model, params))[0].rules
    labels = partition.assign(params, rules)
    optimizer = partition.make(optimizers.SGD(), rules, labels, lambda _: 0.01)
    train = jax.jit(step.make_train_step(model, optimizer, labels, CrossEntropy()))
    current = states.create(params, stats, optimizer, labels)
    rows, key = 16, jax.random.key(0)

    def run(batches) -> None:
        nonlocal current
        for batch in batches:
            batch = {**batch, 'id': batch['id'].astype(np.uint32)}
            current, sums = train(key, current, batch)
            jax.block_until_ready(sums)

    split = decoded_images.wrap({'': examples_of(paths)}, PREPROCESSING, 20)['']
    options: dict[str, Any] = {'batch_size': rows, 'steps': steps, 'seed': 0, 'threads': 4}
    first = list(pipeline.train_batches(split, PREPROCESSING, **options))
    plain = decoded_images.wrap({'': examples_of(paths)}, PREPROCESSING, 0)['']
    for one, other in zip(
        first, pipeline.train_batches(plain, PREPROCESSING, **options), strict=True
    ):
        np.testing.assert_array_equal(one['input'], other['input'])
    resident = {name: jax.device_put(value) for name, value in first[0].items()}
    resident = {**resident, 'id': first[0]['id']}

    def cached() -> None:
        run(pipeline.train_batches(split, PREPROCESSING, **options))

    def stays() -> None:
        run([resident] * steps)

    wall, processor = in_turns(cached, stays, pairs)
    show('cache: training / one batch, on the wall', *wall, rows * steps)
    show('cache: training / one batch, of the processor', *processor, rows * steps)


def gather(paths: list[pathlib.Path], pairs: int) -> None:
    """Canvases out of the cache, copied as batching does."""
    split = decoded_images.wrap({'': examples_of(paths)}, PREPROCESSING, 20)['']
    out = np.empty((PREPROCESSING.resize_px, PREPROCESSING.resize_px, 3), np.uint8)

    def cached() -> None:
        for index in range(len(split)):
            out[:] = split.load(index)

    def decoded() -> None:
        for path in paths:
            out[:] = decode.load_resized(ImageFile(path), PREPROCESSING)

    show(
        'gather: from the cache / decoding, one thread',
        *in_turns(cached, decoded, pairs)[0],
        len(paths),
    )


def scan(paths: list[pathlib.Path]) -> None:
    """The look before a run."""
    files.check_files(paths)
    started = time.perf_counter()
    bad = files.check_files(paths * 10)
    seconds = time.perf_counter() - started
    print(f'scan: {len(paths) * 10 / seconds:,.0f} files/s, {len(bad)} bad')


def memory(paths: list[pathlib.Path]) -> None:
    """Resident size after each of ten epochs, by the cache and by decoding."""
    for name, gigabytes in (('cache', 20), ('decoding', 0)):
        split = decoded_images.wrap({'': examples_of(paths)}, PREPROCESSING, gigabytes)['']
        per_epoch = len(paths) // 32
        options: dict[str, Any] = {
            'batch_size': 32,
            'steps': per_epoch * 10,
            'seed': 0,
            'threads': 4,
        }
        sizes = []
        for number, _ in enumerate(pipeline.train_batches(split, PREPROCESSING, **options), 1):
            if number % per_epoch == 0:
                sizes.append(resident_megabytes())
        print(f'memory: {name:<9} private (and mapped) MB after each epoch: ', end='')
        print(', '.join(f'{private:.0f} ({mapped:.0f})' for private, mapped in sizes))


def resident_megabytes() -> tuple[float, float]:
    """Resident private memory and mapped files of the process, in MB; Linux only."""
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    values = dict(line.split(':', 1) for line in lines)
    private, mapped = (int(values[name].split()[0]) / 1000 for name in ('RssAnon', 'RssFile'))
    return private, mapped


def main() -> None:
    """Prints a line for each figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images')
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('--steps', type=int, default=10)
    parser.add_argument('--parts', default='jpeg,gather,scan,memory,cache')
    arguments = parser.parse_args()
    parts = arguments.parts.split(',')
    with tempfile.TemporaryDirectory() as scratch:
        os.environ['TLJAX_CACHE'] = scratch
        paths = images(arguments.images, pathlib.Path(scratch))
        print(f'{len(paths)} files of {paths[0].parent}, {CORES} cores')
        if 'jpeg' in parts:
            jpeg(paths, arguments.pairs)
        if 'gather' in parts:
            gather(paths, arguments.pairs)
        if 'scan' in parts:
            scan(paths)
        if 'memory' in parts:
            memory(paths)
        if 'cache' in parts:
            cache(paths, arguments.pairs, arguments.steps)


if __name__ == '__main__':
    main()
