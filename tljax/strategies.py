"""Ways of fine-tuning, each as phases of rules.

They are dataclasses rather than functions because the rules need the names of the model's
stages, which are known only once the model is; and so that the command line reaches their
fields: `--config.strategy.stage=stage2`.

A strategy's learning rates are multiples of the optimizer's, so that strategies that want
different ones can be compared under one optimizer.
"""

import dataclasses
import re
from collections.abc import Sequence

from tljax.types import InputError, Phase, Rule, Strategy


@dataclasses.dataclass(slots=True, kw_only=True)
class FineTune:
    """Everything trains, from the pretrained weights.

    `backbone_scale` multiplies the learning rate below the head, whose weights are new.
    Source: Girshick et al. 2014, section 2.3, with 1 / 10.
    """

    learning_rate_scale: float = 1.0
    backbone_scale: float = 1.0

    @property
    def pretrained(self) -> bool:
        """Starts from the backbone's weights."""
        return True

    def phases(self, stages: Sequence[str]) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        scale = self.learning_rate_scale
        head = Rule(pattern=stages[-1], learning_rate_scale=scale)
        rest = Rule(pattern='**', learning_rate_scale=scale * self.backbone_scale)
        return (Phase(rules=(head, rest)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class FromScratch:
    """Everything trains, from random weights: the baseline of every transfer."""

    learning_rate_scale: float = 1.0

    @property
    def pretrained(self) -> bool:
        """Starts from random weights, whatever the backbone names."""
        return False

    def phases(self, stages: Sequence[str]) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=(Rule(pattern='**', learning_rate_scale=self.learning_rate_scale),)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class LinearProbe:
    """The head alone trains, on the frozen network's features.

    Source: Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes".
    """

    learning_rate_scale: float = 1.0

    @property
    def pretrained(self) -> bool:
        """Starts from the backbone's weights."""
        return True

    def phases(self, stages: Sequence[str]) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        head = Rule(pattern=stages[-1], learning_rate_scale=self.learning_rate_scale)
        return (Phase(rules=(head, Rule(pattern='**', train=False))),)


@dataclasses.dataclass(slots=True, kw_only=True)
class FreezeBelow:
    """The stages below `stage` are frozen; it and all above train.

    Source: Yosinski et al. 2014, "How transferable are features in deep neural networks?".
    """

    stage: str
    learning_rate_scale: float = 1.0

    @property
    def pretrained(self) -> bool:
        """Starts from the backbone's weights."""
        return True

    def phases(self, stages: Sequence[str]) -> tuple[Phase, ...]:
        """See `types.Strategy`.

        Raises:
            InputError: the model has no such stage.
        """
        if self.stage not in stages:
            raise InputError(f'stage is {self.stage!r}, wanted one of {list(stages)}')
        below = stages[: list(stages).index(self.stage)]
        frozen = tuple(Rule(pattern=name, train=False) for name in below)
        rest = Rule(pattern='**', learning_rate_scale=self.learning_rate_scale)
        return (Phase(rules=(*frozen, rest)),)


def name_of(strategy: Strategy) -> str:
    """`FreezeBelow(stage='stage2')` as `freeze below stage2`."""
    words = re.sub(r'(?<!^)([A-Z])', r' \1', type(strategy).__name__).lower()
    names = getattr(strategy, '__dataclass_fields__', {})
    values = [getattr(strategy, name) for name in names]
    return ' '.join([words, *(value for value in values if isinstance(value, str))])
