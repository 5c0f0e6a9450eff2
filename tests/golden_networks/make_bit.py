"""The cases of BiT: timm, transformers, and Google's names."""

# pyright: reportMissingImports=false

import functools
from collections.abc import Iterator

import timm
import transformers

from tests.golden_networks import figures
from tests.golden_networks.make import Case

DEPTHS, WIDTHS = [1, 2, 1, 1], [128, 128, 256, 256]
FIELDS = {'class': 'tljax:BiT', 'depths': DEPTHS, 'widths': WIDTHS}


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    conv = functools.partial(timm.layers.StdConv2d, eps=1e-8)
    network = timm.models.ResNetV2(
        layers=DEPTHS,
        channels=WIDTHS,
        stem_chs=32,
        stem_type='fixed',
        conv_layer=conv,
        num_classes=figures.CLASSES,
        drop_path_rate=0.3,
    )
    yield (
        'timm',
        Case(
            module=network,
            backbone=FIELDS | {'drop_path': 0.3},
            naming='timm',
            size=50,
            sizes=(50, 65),
        ),
    )
    config = transformers.BitConfig(
        embedding_size=32,
        hidden_sizes=WIDTHS,
        depths=DEPTHS,
        num_labels=figures.CLASSES,
    )
    yield (
        'transformers',
        Case(
            module=transformers.BitForImageClassification(config),
            backbone=FIELDS,
            naming='transformers',
            size=50,
            outputs=lambda module, x: module(x).logits,
        ),
    )
