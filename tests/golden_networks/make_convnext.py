"""The cases of ConvNeXt: V2 of timm and transformers, and stochastic depth."""

# pyright: reportMissingImports=false

from collections.abc import Iterator

import timm
import torchvision
import transformers

from tests.golden_networks import figures
from tests.golden_networks.make import Case

DEPTHS, WIDTHS = [1, 1, 2, 1], [8, 16, 24, 32]
FIELDS = {'class': 'tljax:ConvNeXt', 'depths': DEPTHS, 'widths': WIDTHS}


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each case, and the case."""
    v2 = timm.models.ConvNeXt(
        depths=DEPTHS,
        dims=WIDTHS,
        num_classes=figures.CLASSES,
        use_grn=True,
        ls_init_value=None,
        drop_path_rate=0.4,
    )
    fields = FIELDS | {'response_norm': True}
    yield (
        'v2-timm',
        Case(
            module=v2, backbone=fields | {'drop_path': 0.4}, naming='timm', size=50, sizes=(50, 64)
        ),
    )
    config = transformers.ConvNextV2Config(
        depths=DEPTHS, hidden_sizes=WIDTHS, num_labels=figures.CLASSES
    )
    yield (
        'v2-transformers',
        Case(
            module=transformers.ConvNextV2ForImageClassification(config),
            backbone=fields | {'pool_epsilon': 1e-12},
            naming='transformers_v2',
            size=50,
            outputs=lambda module, x: module(x).logits,
        ),
    )
    v1 = timm.models.ConvNeXt(
        depths=DEPTHS, dims=WIDTHS, num_classes=figures.CLASSES, drop_path_rate=0.3
    )
    yield (
        'timm',
        Case(module=v1, backbone=FIELDS | {'drop_path': 0.3}, naming='timm', size=50),
    )
    setting = torchvision.models.convnext.CNBlockConfig
    blocks = [
        setting(width, following, depth)
        for width, following, depth in zip(WIDTHS, [*WIDTHS[1:], None], DEPTHS, strict=True)
    ]
    yield (
        'torchvision',
        Case(
            module=torchvision.models.ConvNeXt(
                blocks, stochastic_depth_prob=0.3, num_classes=figures.CLASSES
            ),
            backbone=FIELDS | {'drop_path': 0.3},
            naming='torchvision',
            size=50,
        ),
    )
