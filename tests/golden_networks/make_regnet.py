"""The cases of RegNet: Y and X of torchvision, timm and transformers."""

# pyright: reportMissingImports=false

from collections.abc import Iterator

import timm
import torchvision
import transformers
from torchvision.models.regnet import BlockParams

from tests.golden_networks import figures
from tests.golden_networks.make import Case

DEPTHS, WIDTHS, GROUP_WIDTH = [1, 2, 1, 1], [16, 24, 32, 40], 8


def fields(squeeze_excitation: bool, **others: float) -> dict[str, object]:
    """The backbone to be recognised."""
    return {
        'class': 'tljax:RegNet',
        'depths': DEPTHS,
        'widths': WIDTHS,
        'group_width': GROUP_WIDTH,
        'squeeze_excitation': squeeze_excitation,
        **others,
    }


def of_torchvision(ratio: float | None) -> torchvision.models.RegNet:
    """Blocks of given sizes, which the constructor would derive from a slope."""
    params = BlockParams(DEPTHS, WIDTHS, [GROUP_WIDTH] * 4, [1.0] * 4, [2] * 4, ratio)
    return torchvision.models.RegNet(params, num_classes=figures.CLASSES)


def of_timm(ratio: float) -> timm.models.RegNet:
    """The nearest network of timm: its sizes follow from a slope."""
    config = timm.models.regnet.RegNetCfg(
        depth=5, w0=16, wa=8.0, wm=1.5, group_size=GROUP_WIDTH, se_ratio=ratio
    )
    return timm.models.RegNet(config, num_classes=figures.CLASSES, drop_path_rate=0.3)


def of_transformers(kind: str) -> transformers.RegNetForImageClassification:
    """With random weights."""
    config = transformers.RegNetConfig(
        embedding_size=32,
        hidden_sizes=WIDTHS,
        depths=DEPTHS,
        groups_width=GROUP_WIDTH,
        layer_type=kind,
        num_labels=figures.CLASSES,
    )
    return transformers.RegNetForImageClassification(config)


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    network = of_timm(0.25)
    stages = [network.s1, network.s2, network.s3, network.s4]
    sizes = {
        'depths': [len(list(stage.children())) for stage in stages],
        'widths': [stage.b1.conv2.conv.out_channels for stage in stages],
        'drop_path': 0.3,
    }
    yield (
        'y-timm',
        Case(module=network, backbone=fields(True) | sizes, naming='timm', size=50, sizes=(50, 65)),
    )
    for kind, ratio in (('y', 0.25), ('x', None)):
        backbone = fields(kind == 'y')
        yield (
            f'{kind}-torchvision',
            Case(module=of_torchvision(ratio), backbone=backbone, naming='torchvision', size=50),
        )
        yield (
            f'{kind}-transformers',
            Case(
                module=of_transformers(kind),
                backbone=backbone,
                naming='transformers',
                size=50,
                outputs=lambda module, x: module(x).logits,
            ),
        )
