"""What augmentation on the device costs, as ratios of times measured in pairs in one run.

    python -m benchmarks.augment
    python -m benchmarks.augment --torchvision=/path/to/python --no-step

Batches of 16 images, 256 px canvases to 224 px, or 224 px kept. Outputs are compared first, then
each pair is timed alternately after a warm-up; printed are the medians and the median of the pairs'
ratios. Pillow works image by image on a pool of as many threads as there are cores, torchvision
(v2, on uint8 tensors, in the Python given, which needs no tljax) likewise with its own threads.
"""

import argparse
import concurrent.futures
import functools
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance

from tljax import augment
from tljax.augment import matrices, resample

ROWS, CANVAS, SIDE = 16, 256, 224
DEFAULT = (augment.RandomResizedCrop(size_px=SIDE), augment.HorizontalFlip())
AFFINE = (augment.Affine(rotate_degrees=15, shear_degrees=10, scale_factor=1.2, shift_share=0.1),)
CHAIN = (
    augment.HorizontalFlip(), augment.VerticalFlip(), augment.QuarterTurn(), augment.Rotate(),
    augment.Shear(vertical_degrees=10.0), augment.Scale(), augment.Translate(),
    augment.Perspective(), augment.RandomCrop(size_px=SIDE, pad_px=16), augment.Elastic(),
)  # fmt: skip
# What Pillow and torchvision have too, one after the other there.
SHARED = (
    augment.RandomResizedCrop(size_px=SIDE), augment.HorizontalFlip(), augment.Rotate(),
    augment.Shear(), augment.Perspective(), augment.Brightness(), augment.Contrast(),
    augment.Saturation(),
)  # fmt: skip
TORCHVISION = """
import json, sys, time, torch
from torchvision.transforms import v2
bilinear = v2.InterpolationMode.BILINEAR
crop = v2.RandomResizedCrop(224, antialias=True)
policies = {
    'default': v2.Compose([crop, v2.RandomHorizontalFlip()]),
    'shared': v2.Compose([
        crop, v2.RandomHorizontalFlip(), v2.RandomRotation(15, bilinear),
        v2.RandomAffine(0, shear=15, interpolation=bilinear),
        v2.RandomPerspective(0.2, p=1.0, interpolation=bilinear),
        v2.ColorJitter(0.4, 0.4, 0.4)]),
}
images = torch.randint(0, 256, (16, 3, 256, 256), dtype=torch.uint8)
for line in sys.stdin:
    policy = policies[line.strip()]
    started = time.perf_counter()
    torch.stack([policy(image) for image in images])
    print(json.dumps(time.perf_counter() - started), flush=True)
"""


def images(side: int) -> jax.Array:
    """[16, side, side, 3] uint8, smooth as photographs are."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (ROWS, side // 8, side // 8, 3))
    large = jax.image.resize(coarse, (ROWS, side, side, 3), 'cubic').clip(0, 255)
    return jnp.asarray(large).astype(jnp.uint8)


def augmented(policy: Sequence[Any], side: int) -> Callable[[], Any]:
    """A call that augments a batch and waits for it."""
    batch, targets = images(side), jnp.eye(ROWS)
    keys = augment.example_keys(jax.random.key(0), 0, jnp.arange(ROWS, dtype=jnp.uint32))
    function = jax.jit(functools.partial(augment.apply, policy))
    return lambda: jax.block_until_ready(function(keys, batch, targets))


def train_step() -> Callable[[], Any]:
    """A call that trains ResNet-50 on a batch of 16 at 224 px and waits for it."""
    from tljax.metrics.losses import CrossEntropy
    from tljax.models import stages
    from tljax.models.backbones.resnet import ResNet
    from tljax.strategies import optimizers, partition
    from tljax.strategies.strategies import FineTune
    from tljax.training import states, step

    model = stages.build(ResNet(depth=50), 10)
    params, stats = stages.init(model, jax.random.key(0))
    rules = FineTune().phases(stages.ordered(model, params))[0].rules
    labels = partition.assign(params, rules)
    optimizer = partition.make(optimizers.SGD(), rules, labels, lambda _: 0.01)
    current = states.create(params, stats, optimizer, labels)
    batch = {
        'input': images(SIDE),
        'label': jnp.arange(ROWS, dtype=jnp.int32) % 10,
        'id': jnp.arange(ROWS, dtype=jnp.uint32),
        'mask': jnp.ones(ROWS, bool),
    }
    train = jax.jit(step.make_train_step(model, optimizer, labels, CrossEntropy()))
    return lambda: jax.block_until_ready(train(jax.random.key(0), current, batch))


def pillow(policy: Callable[[Image.Image, np.random.Generator], Image.Image]) -> Callable[[], Any]:
    """A call that runs a policy on 16 images with all cores."""
    pictures = [Image.fromarray(image) for image in np.asarray(images(CANVAS))]
    pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def one(item: tuple[int, Image.Image]) -> np.ndarray:
        return np.asarray(policy(item[1], np.random.default_rng(item[0])))

    return lambda: np.stack(list(pool.map(one, enumerate(pictures))))


def pillow_default(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Random resized crop, antialiased, and flip."""
    area, ratio = rng.uniform(0.08, 1) * CANVAS**2, np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
    wide, high = min((area * ratio) ** 0.5, CANVAS), min((area / ratio) ** 0.5, CANVAS)
    left, top = rng.uniform(0, CANVAS - wide), rng.uniform(0, CANVAS - high)
    box = (left, top, left + wide, top + high)
    image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def pillow_shared(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The operations of `SHARED`, one after the other."""
    bilinear, size = Image.Resampling.BILINEAR, (SIDE, SIDE)
    image = pillow_default(image, rng).rotate(rng.uniform(-15, 15), bilinear)
    shear = (1, np.tan(np.deg2rad(rng.uniform(-15, 15))), 0, 0, 1, 0)
    image = image.transform(size, Image.Transform.AFFINE, shear, bilinear)
    slant = (1, 0, 0, 0, 1, 0, *rng.uniform(-0.001, 0.001, 2))
    image = image.transform(size, Image.Transform.PERSPECTIVE, slant, bilinear)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(rng.uniform(0.6, 1.4))
    return image


def compare() -> None:
    """Ours and Pillow's results for the same crop and the same rotation."""
    image = np.asarray(images(CANVAS))[0]
    box = (20.0, 30.0, 220.0, 240.0)  # left, top, right, bottom
    high, wide = (box[3] - box[1]) / SIDE, (box[2] - box[0]) / SIDE
    corner = matrices.translation(box[1] + (high - 1) / 2, box[0] + (wide - 1) / 2)
    crop = matrices.product(corner, matrices.scaling(high, wide))
    turn = matrices.around_centre(matrices.rotation(12.0), CANVAS, CANVAS)
    theirs = Image.fromarray(image)
    cases = {
        'crop': (crop, SIDE, theirs.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)),
        'rotation': (turn, CANVAS, theirs.rotate(12.0, Image.Resampling.BILINEAR)),
    }
    for name, (matrix, side, wanted) in cases.items():
        places = resample.project(matrix, *resample.grid(side, side))
        outcome = np.asarray(resample.bilinear(jnp.asarray(image, jnp.float32), *places))
        inner = (slice(side // 5, -side // 5),) * 2  # outside, Pillow has black
        error = np.abs(outcome - np.asarray(wanted, np.float32))[inner].max()
        print(f'{name}: {error:.2f} grey levels from Pillow at most')
        assert error < 1.01


def pairs(name: str, ours: Callable[[], Any], other: Callable[[], Any], count: int) -> None:
    """Times two calls alternately and prints their medians and the median ratio."""
    for call in (ours, other):
        call()
        call()
    times = []
    for _ in range(count):
        times.append([_seconds(call) for call in (ours, other)])
    first, second = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(f'{name:<52} {first:8.1f} ms, {second:8.1f} ms: {ratio:6.3f}', flush=True)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    seconds = call()
    return seconds if isinstance(seconds, float) else time.perf_counter() - started


def torchvision(python: str) -> Callable[[str], Callable[[], float]]:
    """Calls that run a policy in another Python and return the seconds it took there."""
    child = subprocess.Popen(
        [python, '-c', TORCHVISION], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    requests, answers = child.stdin, child.stdout

    def call(name: str) -> float:
        print(name, file=requests, flush=True)
        return json.loads(answers.readline())

    return lambda name: functools.partial(call, name)


def main() -> None:
    """Prints a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--pairs', type=int, default=15)
    parser.add_argument('--torchvision', help='a Python that has torchvision')
    parser.add_argument('--no-step', action='store_true', help='without the training step')
    arguments = parser.parse_args()
    compare()
    default, shared = augmented(DEFAULT, CANVAS), augmented(SHARED, CANVAS)
    count = arguments.pairs
    pairs(
        'full geometric chain / one affine', augmented(CHAIN, SIDE), augmented(AFFINE, SIDE), count
    )
    pairs('default policy / Pillow, all cores', default, pillow(pillow_default), count)
    pairs('eight operations / Pillow, all cores', shared, pillow(pillow_shared), count)
    if arguments.torchvision:
        theirs = torchvision(arguments.torchvision)
        pairs('default policy / torchvision v2', default, theirs('default'), count)
        pairs('eight operations / torchvision v2', shared, theirs('shared'), count)
    if not arguments.no_step:
        pairs('default policy / ResNet-50 training step', default, train_step(), 3)


if __name__ == '__main__':
    main()
