"""Ways of fine-tuning, each as phases of rules.

They are dataclasses rather than functions because the rules need the names of the model's leaves,
which are known only once the model is; and so that the command line reaches their fields:
`--config.strategy.stage=stage2`.

A strategy's learning rates are multiples of the optimizer's, so that strategies that want
different ones can be compared under one optimizer.
"""

import dataclasses
import re
from collections.abc import Sequence

from tljax import tree
from tljax.strategies.solvers import LBFGS
from tljax.types import ADAPTER, InputError, Params, Phase, Rates, Rule, Solver, Strategy

FREEZE = Rule(pattern='**', train=False)


class _Transfer:
    """What the strategies that start from pretrained weights share."""

    __slots__ = ()

    @property
    def pretrained(self) -> bool:
        """Starts from the backbone's weights."""
        return True

    def problems(self) -> list[str]:
        """What `validate` reports: numbers that are not more than 0."""
        values = {name: getattr(self, name) for name in getattr(self, '__dataclass_fields__', ())}
        return [
            f'{name} is {value}, wanted more than 0'
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0
        ]


@dataclasses.dataclass(slots=True, kw_only=True)
class FineTune(_Transfer):
    """Everything trains, from the pretrained weights.

    `backbone_scale` multiplies the learning rate below the head, whose weights are new.
    Source: Girshick et al. 2014, section 2.3, with 1 / 10.
    """

    learning_rate_scale: float = 1.0
    backbone_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        head = Rule(pattern=_head(params), learning_rate_scale=self.learning_rate_scale)
        scale = self.learning_rate_scale * self.backbone_scale
        return (Phase(rules=(head, Rule(pattern='**', learning_rate_scale=scale))),)


@dataclasses.dataclass(slots=True, kw_only=True)
class FromScratch(_Transfer):
    """Everything trains, from random weights: the baseline of every transfer."""

    learning_rate_scale: float = 1.0

    @property
    def pretrained(self) -> bool:
        """Starts from random weights, whatever the backbone names."""
        return False

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=(Rule(pattern='**', learning_rate_scale=self.learning_rate_scale),)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class LinearProbe(_Transfer):
    """The head alone trains, on the frozen network's features.

    Source: Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes".
    """

    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=_only((), params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class SolvedProbe(_Transfer):
    """The head alone, solved to convergence on the frozen network's features, without a rate.

    A run is made of steps: one at the rate 0 ends it.
    Source: Kornblith et al. 2019, "Do better ImageNet models transfer better?", section 3.2.
    """

    solver: Solver = dataclasses.field(default_factory=LBFGS)

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        solved = Phase(rules=_only((), params), solver=self.solver)
        return solved, Phase(rules=_only((), params, 0.0), steps=1)


@dataclasses.dataclass(slots=True, kw_only=True)
class FreezeBelow(_Transfer):
    """The stages below `stage` are frozen; it and all above train.

    Source: Yosinski et al. 2014, "How transferable are features in deep neural networks?".
    """

    stage: str
    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`.

        Raises:
            InputError: the model has no such stage.
        """
        return (Phase(rules=_from(self.stage, params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class Surgical(_Transfer):
    """The named stages and the head train; all others are frozen, above them as below.

    Source: Lee et al. 2023, "Surgical fine-tuning improves adaptation to distribution shifts",
    which tunes one block of a network that knows the classes; here the head is new, and trains.
    """

    stages: tuple[str, ...]
    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`.

        Raises:
            InputError: the model has no such stage.
        """
        for stage in self.stages:
            _index(stage, params, 'one of stages')
        chosen = [stage for stage in self.stages if stage != _head(params)]
        return (Phase(rules=_only(chosen, params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class BiasOnly(_Transfer):
    """Every bias and the head train.

    Source: Ben Zaken et al. 2022, "BitFit"; Cai et al. 2020, "TinyTL".
    """

    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=_only(['**/bias'], params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class NormOnly(_Transfer):
    """Scale and bias of every normalisation layer, and the head, train.

    Source: Frankle et al. 2021, "Training BatchNorm and only BatchNorm", there on random weights;
    Mudrakarta et al. 2019, "K for the price of 1".
    """

    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`.

        Raises:
            InputError: the model has no normalisation layer.
        """
        layers = norm_layers(params)
        if not layers:
            raise InputError('the model has no normalisation layer to train')
        return (Phase(rules=_only(layers, params, self.learning_rate_scale)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class AdaptersOnly(_Transfer):
    """What the experiment's adapters added, and the head, train; the pretrained leaves are frozen.

    `adapter_scale` multiplies the learning rate of what was added.
    Source: Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP", section 2; the
    adapters' own papers are with them.
    """

    learning_rate_scale: float = 1.0
    adapter_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`.

        Raises:
            InputError: nothing was added.
        """
        if not any(ADAPTER in path.split('/') for path in tree.flatten(params)):
            raise InputError('there is no adapter to train: config.adapters names them')
        head = Rule(pattern=_head(params), learning_rate_scale=self.learning_rate_scale)
        scale = self.learning_rate_scale * self.adapter_scale
        added = Rule(pattern=f'**/{ADAPTER}', learning_rate_scale=scale)
        return (Phase(rules=(head, added, FREEZE)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class LayerwiseDecay(_Transfer):
    """Everything trains, each stage at `rate` times the learning rate of the one above it.

    Source: Clark et al. 2020, "ELECTRA", section 3.1; Bao et al. 2022, "BEiT", for images. The
    stages are the layers: a block of a ViT, a resolution of a ResNet.
    """

    rate: float = 0.75
    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        last = len(params) - 1
        scales = [self.learning_rate_scale * self.rate ** (last - i) for i in range(len(params))]
        return (Phase(rules=_scaled(params, scales)),)


@dataclasses.dataclass(slots=True, kw_only=True)
class Discriminative(_Transfer):
    """Everything trains, at rates that grow geometrically from the first stage to the head.

    Source: Howard & Ruder 2018, "Universal language model fine-tuning", section 3.2.
    """

    lowest: float = 0.01
    highest: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        return (Phase(rules=_scaled(params, _geometric(self.lowest, self.highest, len(params)))),)


@dataclasses.dataclass(slots=True, kw_only=True)
class HeadFirst(_Transfer):
    """The head alone for `head_epochs`, then everything at half the rate, less in lower stages.

    Source: Howard & Gugger 2020, "fastai", its `fine_tune`: rates from `rate / 2 / divisor` in the
    first stage to `rate / 2` in the head.
    """

    head_epochs: float = 1.0
    divisor: float = 100.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        scales = _geometric(0.5 / self.divisor, 0.5, len(params))
        first = Phase(rules=_only((), params), epochs=self.head_epochs)
        return first, Phase(rules=_scaled(params, scales))


@dataclasses.dataclass(slots=True, kw_only=True)
class LPFT(_Transfer):
    """The head solved to convergence on the frozen features, then everything from there.

    Source: Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform
    out-of-distribution".
    """

    learning_rate_scale: float = 0.1
    solver: Solver = dataclasses.field(default_factory=LBFGS)

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        everything = (Rule(pattern='**', learning_rate_scale=self.learning_rate_scale),)
        return Phase(rules=_only((), params), solver=self.solver), Phase(rules=everything)


@dataclasses.dataclass(slots=True, kw_only=True)
class GradualUnfreeze(_Transfer):
    """The head first, then one stage more every phase, from the top down to `lowest`.

    A phase that has seen `patience` evaluations without a better one ends, and goes back to its
    best. The stages go by `epochs_per_stage`; the experiment's epochs do not count.
    Source: Howard & Ruder 2018, "Universal language model fine-tuning", section 3.3.
    """

    epochs_per_stage: float = 1.0
    lowest: str | None = None  # the last stage to unfreeze; None for the first of all
    patience: int | None = None
    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`.

        Raises:
            InputError: the model has no stage `lowest`.
        """
        lowest = 0 if self.lowest is None else _index(self.lowest, params, 'lowest')
        return tuple(
            Phase(
                rules=_from(stage, params, self.learning_rate_scale),
                epochs=self.epochs_per_stage,
                patience=self.patience,
            )
            for stage in reversed(_stages(params)[lowest:])
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class AutoRGN(_Transfer):
    """Everything trains, each stage at a rate that follows its relative gradient norm.

    Source: Lee et al. 2023, "Surgical fine-tuning improves adaptation to distribution shifts",
    section 4: the norm of the gradient over the norm of the parameters, as a share of the largest
    among the stages. They take it once an epoch; here it is a running mean over steps.
    """

    learning_rate_scale: float = 1.0

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """See `types.Strategy`."""
        rules = (Rule(pattern='**', learning_rate_scale=self.learning_rate_scale),)
        return (Phase(rules=rules, rates=Rates.GRADIENT),)


def norm_layers(params: Params) -> list[str]:
    """The paths of the normalisation layers, of any kind: what has a `scale` and a `bias`."""
    paths = tree.flatten(params)
    homes = [path.removesuffix('/scale') for path in paths if path.endswith('/scale')]
    return [home for home in homes if f'{home}/bias' in paths]


def name_of(strategy: Strategy) -> str:
    """`FreezeBelow(stage='stage2')` as `freeze below stage2`."""
    words = re.sub(r'(?<=[a-z])([A-Z])', r' \1', type(strategy).__name__)
    words = ' '.join(w if w.isupper() else w.lower() for w in words.split())
    names = getattr(strategy, '__dataclass_fields__', {})
    values = [getattr(strategy, name) for name in names]
    parts = [value if isinstance(value, tuple) else (value,) for value in values]
    return ' '.join([words, *(word for part in parts for word in part if isinstance(word, str))])


def _stages(params: Params) -> list[str]:
    """The stages' names in forward order.

    Raises:
        InputError: they are in another one, as JAX leaves them.
    """
    stages = list(params)
    if 'head' in stages[:-1]:
        raise InputError(f'the stages are {stages}, wanted in forward order: `model.ordered`')
    return stages


def _head(params: Params) -> str:
    return _stages(params)[-1]


def _index(stage: str, params: Params, field: str = 'stage') -> int:
    stages = _stages(params)
    if stage not in stages:
        raise InputError(f'config.strategy: {field} is {stage!r}, wanted one of {stages}')
    return stages.index(stage)


def _from(stage: str, params: Params, scale: float = 1.0) -> tuple[Rule, ...]:
    """A stage and all above it train."""
    below = _stages(params)[: _index(stage, params)]
    frozen = tuple(Rule(pattern=name, train=False) for name in below)
    return (*frozen, Rule(pattern='**', learning_rate_scale=scale))


def _only(patterns: Sequence[str], params: Params, scale: float = 1.0) -> tuple[Rule, ...]:
    """The head and what the patterns cover train."""
    chosen = [_head(params), *patterns]
    return (*(Rule(pattern=p, learning_rate_scale=scale) for p in chosen), FREEZE)


def _scaled(params: Params, scales: Sequence[float]) -> tuple[Rule, ...]:
    """Every stage trains, at its own rate."""
    pairs = zip(_stages(params), scales, strict=True)
    return tuple(Rule(pattern=stage, learning_rate_scale=scale) for stage, scale in pairs)


def _geometric(lowest: float, highest: float, count: int) -> list[float]:
    ratio = (highest / lowest) ** (1 / max(count - 1, 1))
    return [highest / ratio ** (count - 1 - i) for i in range(count)]
