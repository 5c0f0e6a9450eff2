"""New heads for pretrained networks, as alternatives to the family's own linear layer."""

import dataclasses

import flax.linen as nn

from tljax.models import layers
from tljax.models.layers import Pooling


@dataclasses.dataclass(slots=True, kw_only=True)
class LinearHead:
    """Pooling, dropout, one linear layer.

    `kernel_std` is the standard deviation of the initial weights; 0 gives zeros.

    Attributes:
        pooling: how a feature map becomes a vector.
        dropout: rate before the linear layer.
        kernel_std: standard deviation of the initial weights; 0 for zeros.
    """

    pooling: Pooling = Pooling.AVERAGE
    dropout: float = 0.0
    kernel_std: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return _problems(self.dropout, self.kernel_std)

    def module(self, num_classes: int) -> nn.Module:
        """See `types.Head`."""
        return layers.ClassifierHead(
            num_classes, pooling=self.pooling, dropout=self.dropout, kernel_std=self.kernel_std
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class MLPHead:
    """Pooling, hidden layers with ReLU, one linear layer; dropout before each of them.

    `CONCATENATED` pooling, one hidden layer of 512 and dropout are the head of Howard & Gugger
    2020, "fastai: a layered API for deep learning", without its batch normalisation.

    Attributes:
        hidden: widths of the hidden layers.
        pooling: how a feature map becomes a vector.
        dropout: rate before each linear layer.
        kernel_std: standard deviation of the initial weights of the last layer; 0 for zeros.
    """

    hidden: tuple[int, ...] = (512,)
    pooling: Pooling = Pooling.AVERAGE
    dropout: float = 0.0
    kernel_std: float = 0.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = _problems(self.dropout, self.kernel_std)
        if not self.hidden or min(self.hidden) < 1:
            problems.append(f'hidden is {self.hidden}, wanted one or more values more than 0')
        return problems

    def module(self, num_classes: int) -> nn.Module:
        """See `types.Head`."""
        return layers.ClassifierHead(
            num_classes,
            pooling=self.pooling,
            hidden=self.hidden,
            dropout=self.dropout,
            kernel_std=self.kernel_std,
        )


def _problems(dropout: float, kernel_std: float) -> list[str]:
    problems = []
    if not 0 <= dropout < 1:
        problems.append(f'dropout is {dropout}, wanted 0 <= x < 1')
    if not kernel_std >= 0:
        problems.append(f'kernel_std is {kernel_std}, wanted 0 or more')
    return problems
