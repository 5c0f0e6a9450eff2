"""Accuracy of ported networks on real images, compared with the published figures.

    python -m benchmarks.real_networks --data=../shared/data

Prints a Markdown table: logits against those of torch on the same images (largest difference over
the largest logit), and top-1 accuracy.
"""

import argparse
import csv
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from tljax.data import decode
from tljax.models import stages
from tljax.models.backbones.resnet import ResNet
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.types import Backbone, Params, Preprocessing, Stats
from tljax.weights import loading

BATCH_SIZE = 125


@dataclasses.dataclass(frozen=True)
class Case:
    """A file of weights, the images it is checked on, and the top-1 accuracy stated there (%)."""

    file: str
    backbone: Backbone
    images: str
    stated: float


CASES = (
    Case('cifar10_resnet20-12fca82f.th', ResNetSmall(depth=20), 'cifar10_lossless_trainimgs', 99.9),
    Case('cifar10_resnet20-12fca82f.th', ResNetSmall(depth=20), 'cifar10_jpg/test', 80.4),
    Case('cifar10_resnet56-4bfd9763.th', ResNetSmall(depth=56), 'cifar10_lossless_trainimgs', 100),
    Case('cifar10_resnet56-4bfd9763.th', ResNetSmall(depth=56), 'cifar10_jpg/test', 82.5),
    Case('resnet18-ktb-small-f9db5f80.pth', ResNet(depth=18), 'imagenet_check', 74.4),
)


def labelled_images(folder: pathlib.Path) -> list[tuple[pathlib.Path, int]]:
    """The images under a folder with their labels: by its labels.csv, else by class folders."""
    table = folder / 'labels.csv'
    if not table.exists():
        classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
        return [(path, classes.index(path.parent.name)) for path in files]
    with table.open(newline='') as file:
        rows = list(csv.DictReader(file))
    name, label = (next(key for key in rows[0] if key in keys) for keys in (FILE_KEYS, LABEL_KEYS))
    results = {path.name: path for path in folder.rglob('*') if path.is_file()}
    return [(results[pathlib.Path(row[name]).name], int(row[label])) for row in rows]


FILE_KEYS = ('file', 'filename', 'path', 'image')
LABEL_KEYS = ('index', 'label', 'class_index')


def batches(
    images: Sequence[tuple[pathlib.Path, int]], preprocessing: Preprocessing
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Canvases [B, H, W, 3] and labels [B]."""
    for start in range(0, len(images), BATCH_SIZE):
        part = images[start : start + BATCH_SIZE]
        resized = [decode.resize_square(decode.read_image(path), preprocessing) for path, _ in part]
        yield np.stack(resized), np.asarray([label for _, label in part])


def measure(case: Case, data: pathlib.Path) -> tuple[float, float, int]:
    """The difference of logits from torch's, the accuracy in percent, and the number of images."""
    loaded = loading.load(str(data / 'weights' / case.file), case.backbone)
    golden = np.load(data / 'golden' / f'{pathlib.Path(case.file).stem}.npz')
    model = stages.build(
        case.backbone, golden['logits'].shape[1], preprocessing=loaded.preprocessing
    )

    @jax.jit
    def run(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
        return stages.run(model, params, stats, stages.normalise(model.preprocessing, images))[0]

    def logits(images: np.ndarray) -> np.ndarray:
        return np.asarray(run(loaded.params, loaded.stats, images))

    error = np.abs(logits(golden['images_u8']) - golden['logits']).max()
    images = labelled_images(data / case.images)
    right = 0
    for resized, labels in batches(images, model.images):
        right += int((logits(resized).argmax(-1) == labels).sum())
    return float(error / np.abs(golden['logits']).max()), 100 * right / len(images), len(images)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--data', type=pathlib.Path, required=True)
    data = parser.parse_args().data
    print('| weights | images | count | logits differ by | top-1 here (%) | stated (%) |')
    print('| --- | --- | --- | --- | --- | --- |')
    for case in CASES:
        error, accuracy, count = measure(case, data)
        cells = [case.file, case.images, count, f'{error:.1e}', f'{accuracy:.2f}', case.stated]
        print('| ' + ' | '.join(map(str, cells)) + ' |')


if __name__ == '__main__':
    main()
