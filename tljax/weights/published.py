"""Preprocessing, licence and classes of the files that torchvision publishes, by file name.

Sizes and interpolations are those of torchvision 0.29's weight entries (`IMAGENET1K_V1`, `..._V2`,
`..._SWAG_E2E_V1`, `..._SWAG_LINEAR_V1`). A name ends in the first eight digits of the SHA-256.
"""

import dataclasses
import difflib
import functools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tljax.records import console
from tljax.types import InputError, Interpolation, Preprocessing

URL = 'https://download.pytorch.org/models/{name}.pth'
IMAGENET_FILE = pathlib.Path(__file__).parents[1] / 'embedded' / 'imagenet1k.tsv'

TORCHVISION_LICENCE = 'BSD-3-Clause (torchvision); trained on ImageNet-1k'
SWAG_LICENCE = 'CC-BY-NC-4.0 (SWAG); fine-tuned on ImageNet-1k'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about a file that are not stored in it; None if unknown."""

    preprocessing: Preprocessing | None = None
    licence: str | None = None
    class_names: tuple[str, ...] | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # see `options`


# Files whose images are resized (bilinear) to this side and cropped to 224 px.
CROPPED_224 = {
    256: (
        'resnet18-f37072fd', 'resnet34-b627a593', 'resnet50-0676ba61', 'resnet101-63fe2227',
        'resnet152-394f9c45', 'resnext50_32x4d-7cdf4587', 'resnext101_32x8d-8ba56ff5',
        'wide_resnet50_2-95faca4d', 'wide_resnet101_2-32ee1156',
        'vgg11-8a719046', 'vgg11_bn-6002323d', 'vgg13-19584684', 'vgg13_bn-abd245e5',
        'vgg16-397923af', 'vgg16_bn-6c64b313', 'vgg19-dcbb9e9d', 'vgg19_bn-c79401a0',
        'vit_b_16-c867db91', 'vit_b_32-d86f8d99', 'vit_l_32-c7638314',
    ),
    242: ('vit_l_16-852ce7e3',),
    236: ('convnext_tiny-983f1562',),
    232: (
        'resnet50-11ad3fa6', 'resnet101-cd907fc2', 'resnet152-f82ba261',
        'resnext50_32x4d-1a0047aa', 'resnext101_32x8d-110c445d', 'resnext101_64x4d-173b62eb',
        'wide_resnet50_2-9ba9bcbe', 'wide_resnet101_2-d733dc28',
        'convnext_base-6075fbad', 'convnext_large-ea097f82',
    ),
    230: ('convnext_small-0c510722',),
}  # fmt: skip

# Files whose images have this side (bicubic) and are not cropped.
# Source: Singh et al. 2022, "Revisiting weakly supervised pre-training".
SWAG = {
    224: ('vit_b_16_lc_swag-4e70ced5', 'vit_l_16_lc_swag-4d563306', 'vit_h_14_lc_swag-c1eb923e'),
    384: ('vit_b_16_swag-9ac1b537',),
    512: ('vit_l_16_swag-4f3808c9',),
    518: ('vit_h_14_swag-80465313',),
}


def url(name: str) -> str:
    """The address of a file."""
    return URL.format(name=name)


def names() -> tuple[str, ...]:
    """The names of the known files, for `torchvision:<name>`."""
    return tuple(_cards())


def full_name(name: str) -> str:
    """The complete name of a file; a network's name stands for its current default file.

    Raises:
        InputError: the name is no known network and does not end in eight digits.
    """
    if re.search(r'-[0-9a-f]{8}$', name):
        return name
    matches = [known for known in names() if known.rpartition('-')[0] == name]
    if matches:  # the last one is the default
        console.console.print(f'torchvision:{name} is torchvision:{matches[-1]}', markup=False)
        return matches[-1]
    near = difflib.get_close_matches(name, names(), n=4, cutoff=0.4)
    raise InputError(
        f'weights torchvision:{name}: torchvision publishes no such file; '
        f'similar names: {", ".join(near) or "none"}'
    )


def card(name: str) -> Card:
    """The card of a file by its name without suffix; an empty card for an unknown name."""
    return _cards().get(name, Card())


@functools.cache
def _cards() -> dict[str, Card]:
    cards = {}
    for resize_px, group in CROPPED_224.items():
        preprocessing = Preprocessing(size_px=224, resize_px=resize_px)
        cards |= {name: _card(preprocessing, TORCHVISION_LICENCE) for name in group}
    for size_px, group in SWAG.items():
        preprocessing = Preprocessing(
            size_px=size_px, resize_px=size_px, interpolation=Interpolation.BICUBIC
        )
        cards |= {name: _card(preprocessing, SWAG_LICENCE) for name in group}
    return cards


def _card(preprocessing: Preprocessing, licence: str) -> Card:
    return Card(preprocessing=preprocessing, licence=licence, class_names=imagenet_classes())


@functools.cache
def imagenet_ids() -> tuple[str, ...]:
    """Their WordNet ids, which name the folders of ImageNet: `n01440764`."""
    return tuple(line.split('\t')[0] for line in IMAGENET_FILE.read_text().splitlines())


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 classes of ImageNet-1k (ILSVRC 2012) in the order of their WordNet ids.

    A name is the first lemma of its WordNet 3.0 synset; the few that two synsets share carry the
    id too.
    """
    rows = [line.split('\t') for line in IMAGENET_FILE.read_text().splitlines()]
    shared = [name for _, name in rows]
    return tuple(name if shared.count(name) == 1 else f'{name} ({key})' for key, name in rows)
