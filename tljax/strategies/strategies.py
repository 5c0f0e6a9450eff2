"""Fine-tuning strategies, each as phases of rules.

They are dataclasses because their rules need the names of the model's leaves, which exist only
after the model is built, and because the command line sets their fields. Their learning rates are
multiples of the optimizer's, so that strategies can be compared under one optimizer.
"""

import dataclasses
import re

from tljax.models import adapters
from tljax.strategies import stage_rules
from tljax.strategies.solvers import LBFGS
from tljax.types import ADAPTER, InputError, Params, Phase, Rates, Rule, Solver, Strategy


class _Transfer:
    """The common part of strategies that start from pretrained weights.

    Attributes:
        learning_rate_scale: multiplies the optimizer's learning rate for all trained parameters.
    """

    __slots__ = ()

    @property
    def pretrained(self) -> bool:
        """Starts from the backbone's weights."""
        return True

    def problems(self) -> list[str]:
        """Messages for `validate` about numbers that are not above 0."""
        values = {name: getattr(self, name) for name in getattr(self, '__dataclass_fields__', ())}
        return [
            f'{name} is {value}, wanted more than 0'
            for name, value in values.items()
            if isinstance(value, int | float) and not value > 0
        ]


@dataclasses.dataclass(slots=True, kw_only=True)
class FineTune(_Transfer):
    """Trains every parameter, from the pretrained weights.

    `backbone_scale` multiplies the learning rate of all stages except the new head.
    Source: Girshick et al. 2014, section 2.3, with 1 / 10.

    Attributes:
        backbone_scale: multiplies the learning rate of all stages but the new head.
    """

    learning_rate_scale: float = 1.0
    backbone_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        head = Rule(pattern=stage_rules.head(params), learning_rate_scale=self.learning_rate_scale)
        rest = stage_rules.everything(self.learning_rate_scale * self.backbone_scale)
        return (Phase(rules=(head, *rest)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class FromScratch(_Transfer):
    """Trains every parameter from random weights: the baseline of every transfer."""

    learning_rate_scale: float = 1.0

    @property
    def pretrained(self) -> bool:
        """Starts from random weights even if the backbone names pretrained ones."""
        return False

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=stage_rules.everything(self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class LinearProbe(_Transfer):
    """Trains only the head, on the features of the frozen network.

    Source: Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes".
    """

    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=stage_rules.only((), params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class SolvedProbe(_Transfer):
    """Solves the head to convergence on the frozen network's features, without a learning rate.

    A run needs at least one step, so a step with learning rate 0 ends it.
    Source: Kornblith et al. 2019, "Do better ImageNet models transfer better?", section 3.2.

    Attributes:
        solver: fits the head to the frozen features.
    """

    solver: Solver = dataclasses.field(default_factory=LBFGS)

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        solved = Phase(rules=stage_rules.only((), params), solver=self.solver)
        return solved, Phase(rules=stage_rules.only((), params, 0.0), steps=1)


@dataclasses.dataclass(slots=True, kw_only=True)
class FreezeBelow(_Transfer):
    """Freezes the stages below `stage`; trains it and all stages above.

    Attributes:
        stage: the lowest trained stage.

    Source: Yosinski et al. 2014, "How transferable are features in deep neural networks?".
    """

    stage: str
    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        rules = stage_rules.stage_and_above(self.stage, params, self.learning_rate_scale)
        return (Phase(rules=rules),)


@dataclasses.dataclass(slots=True, kw_only=True)
class Surgical(_Transfer):
    """Trains the named stages and the head; freezes all other stages, above and below.

    Attributes:
        stages: the trained stages; the head is trained too.

    Source: Lee et al. 2023, "Surgical fine-tuning improves adaptation to distribution shifts",
    which tunes one block of a network with the right classes; here the head is new and trained too.
    """

    stages: tuple[str, ...]
    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        for stage in self.stages:
            stage_rules.index(stage, params, 'one of stages')
        return (Phase(rules=stage_rules.only(self.stages, params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class BiasOnly(_Transfer):
    """Trains every bias and the head.

    Source: Ben Zaken et al. 2022, "BitFit"; Cai et al. 2020, "TinyTL".
    """

    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=stage_rules.only(['**/bias'], params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class NormOnly(_Transfer):
    """Trains the scale and bias of every normalisation layer, and the head.

    Source: Frankle et al. 2021, "Training BatchNorm and only BatchNorm", which uses random weights;
    Mudrakarta et al. 2019, "K for the price of 1".
    """

    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        layers = stage_rules.norm_layers(params)
        if not layers:
            raise InputError('the model has no normalisation layer to train')
        return (Phase(rules=stage_rules.only(layers, params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class AdaptersOnly(_Transfer):
    """Trains the experiment's adapters and the head; freezes the pretrained leaves.

    `adapter_scale` multiplies the learning rate of the adapters.
    Source: Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP", section 2; the
    adapters' own papers are with them.

    Attributes:
        adapter_scale: multiplies the learning rate of the adapters.
    """

    learning_rate_scale: float = 1.0
    adapter_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        if not adapters.split(params)[1]:
            raise InputError('there is no adapter to train: config.adapters names them')
        head = Rule(pattern=stage_rules.head(params), learning_rate_scale=self.learning_rate_scale)
        scale = self.learning_rate_scale * self.adapter_scale
        added = Rule(pattern=f'**/{ADAPTER}', learning_rate_scale=scale)
        return (Phase(rules=(head, added, stage_rules.FREEZE)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class LayerwiseDecay(_Transfer):
    """Trains every parameter, each stage at `rate` times the learning rate of the next one.

    Attributes:
        rate: the learning rate of a stage, divided by that of the stage above it.

    Source: Clark et al. 2020, "ELECTRA", section 3.1; Bao et al. 2022, "BEiT", for images. The
    stages are the layers: a block of a ViT, a resolution of a ResNet.
    """

    rate: float = 0.75
    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        last = len(params) - 1
        scales = [self.learning_rate_scale * self.rate ** (last - i) for i in range(len(params))]
        return (Phase(rules=stage_rules.scaled(params, scales)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class Discriminative(_Transfer):
    """Trains every parameter, at rates that grow geometrically from the first stage to the head.

    Attributes:
        lowest: multiplies the learning rate of the first stage.
        highest: multiplies the learning rate of the head.

    Source: Howard & Ruder 2018, "Universal language model fine-tuning", section 3.2.
    """

    lowest: float = 0.01
    highest: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        scales = stage_rules.geometric(self.lowest, self.highest, len(params))
        return (Phase(rules=stage_rules.scaled(params, scales)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class HeadFirst(_Transfer):
    """Trains the head for `head_epochs`, then all stages at half the rate, less in lower stages.

    Attributes:
        head_epochs: epochs in which the head alone is trained.
        divisor: the learning rate of the head, divided by that of the first stage.

    Source: Howard & Gugger 2020, "fastai", its `fine_tune`: rates from `rate / 2 / divisor` in the
    first stage to `rate / 2` in the head.
    """

    head_epochs: float = 1.0
    divisor: float = 100.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        scales = stage_rules.geometric(0.5 / self.divisor, 0.5, len(params))
        first = Phase(rules=stage_rules.only((), params), epochs=self.head_epochs)
        return first, Phase(rules=stage_rules.scaled(params, scales))


@dataclasses.dataclass(slots=True, kw_only=True)
class LPFT(_Transfer):
    """Solves the head to convergence on the frozen features, then trains every parameter.

    Attributes:
        solver: fits the head to the frozen features.

    Source: Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform
    out-of-distribution".
    """

    learning_rate_scale: float = 0.1
    solver: Solver = dataclasses.field(default_factory=LBFGS)

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        solved = Phase(rules=stage_rules.only((), params), solver=self.solver)
        return solved, Phase(rules=stage_rules.everything(self.learning_rate_scale))


@dataclasses.dataclass(slots=True, kw_only=True)
class GradualUnfreeze(_Transfer):
    """Trains the head first, then one more stage in every phase, down to `lowest`.

    A phase ends after `patience` evaluations without improvement and returns to its best values.
    Each phase takes `epochs_per_stage`; the experiment's `epochs` has no effect.
    Source: Howard & Ruder 2018, "Universal language model fine-tuning", section 3.3.

    Attributes:
        epochs_per_stage: epochs of each phase.
        lowest: the last stage to unfreeze; none for the first stage of the network.
        patience: evaluations without improvement after which a phase ends; none for no limit.
    """

    epochs_per_stage: float = 1.0
    lowest: str | None = None
    patience: int | None = None
    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        lowest = 0 if self.lowest is None else stage_rules.index(self.lowest, params, 'lowest')
        return tuple(
            Phase(
                rules=stage_rules.stage_and_above(stage, params, self.learning_rate_scale),
                epochs=self.epochs_per_stage,
                patience=self.patience,
            )
            for stage in reversed(stage_rules.stages(params)[lowest:])
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class AutoRGN(_Transfer):
    """Trains every parameter, each stage at a rate that follows its relative gradient norm.

    Source: Lee et al. 2023, "Surgical fine-tuning improves adaptation to distribution shifts",
    section 4: the norm of the gradient over the norm of the parameters, relative to the largest
    among the stages. The paper computes it once an epoch; here it is a running mean over steps.
    """

    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        rules = stage_rules.everything(self.learning_rate_scale)
        return (Phase(rules=rules, rates=Rates.GRADIENT),)


def name_of(strategy: Strategy) -> str:
    """`FreezeBelow(stage='stage2')` as `freeze below stage2`."""
    parts = re.sub(r'(?<=[a-z])([A-Z])', r' \1', type(strategy).__name__).split()
    name = ' '.join(part if part.isupper() else part.lower() for part in parts)
    values = [getattr(strategy, field) for field in getattr(strategy, '__dataclass_fields__', ())]
    items = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
    return ' '.join([name, *(item for item in items if isinstance(item, str))])
