"""Strategies: which parameters train, when, and by which update rule."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import optax

from tljax.types.arrays import Params


@dataclasses.dataclass(slots=True, kw_only=True)
class Rule:
    """What happens to the leaves under one path: frozen, or trained with scaled rates.

    `pattern` is matched segment by segment from the top: `*` within a segment is a wildcard,
    `**` is any number of segments, and everything below a match is included. `stage1` covers
    `stage1/block1/conv1/kernel` and not `stage10/...`; `**/bias` covers every bias.

    Attributes:
        pattern: of the paths of parameters.
        train: whether they are trained.
        learning_rate_scale: multiplies their learning rate.
        weight_decay_scale: multiplies their weight decay.
    """

    pattern: str
    train: bool = True
    learning_rate_scale: float = 1.0
    weight_decay_scale: float = 1.0


@runtime_checkable
class Schedule(Protocol):
    """A learning-rate schedule, as a multiplier of the optimizer's learning rate."""

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """A function of the step within the phase (0 is the first) to a factor >= 0."""
        ...


class Rates(enum.Enum):
    """What scales a phase's learning rates in addition to its rules."""

    FIXED = 'fixed'
    GRADIENT = 'gradient'  # each stage's gradient norm divided by its parameter norm


@runtime_checkable
class Solver(Protocol):
    """Minimises an objective over the trainable parameters, without steps on batches."""

    def __call__(
        self, objective: Callable[[Params, Any], jax.Array], start: Params, data: Any
    ) -> 'Solution':
        """The parameters [a tree like `start`] that minimise `objective(params, data)`.

        `data` is a tree of arrays. It is passed as an argument and not compiled in as a constant,
        because it can be as large as the features of all images.
        """
        ...


class Solution(NamedTuple):
    """A solver's result."""

    params: Params
    value: jax.Array  # [] the objective at `params`, including the solver's own penalties
    gradient_norm: jax.Array  # []
    iterations: jax.Array  # [] int32


@dataclasses.dataclass(slots=True, kw_only=True)
class Phase:
    """A part of training with one table of rules; the first rule that matches a leaf decides.

    `epochs` and `schedule` default to the experiment's; `steps` can replace `epochs`. With
    `patience` the phase ends after that many evaluations on validation without a new best, and
    restores the values of its best evaluation. With a `solver` the phase has no steps: the
    trainable leaves, all in the head, are fitted to the unaugmented training images.

    Attributes:
        rules: in order; the first that matches a parameter decides.
        epochs: of the phase; none for the experiment's.
        steps: of the phase, instead of `epochs`.
        schedule: of the learning rate; none for the experiment's.
        rates: whether rates of stages are fixed or follow their gradients.
        patience: evaluations without improvement after which the phase ends; none for no limit.
        solver: fits the head instead of steps; none for steps.
    """

    rules: tuple[Rule, ...]
    epochs: float | None = None
    steps: int | None = None
    schedule: Schedule | None = None
    rates: Rates = Rates.FIXED
    patience: int | None = None
    solver: Solver | None = None

    def problems(self) -> list[str]:
        """Messages about invalid fields."""
        problems = []
        if self.epochs is not None and self.steps is not None:
            problems.append(
                f'epochs is {self.epochs} and steps is {self.steps}, wanted one of them'
            )
        for name in ('epochs', 'steps', 'patience'):
            value = getattr(self, name)
            if value is not None and not value > 0:
                problems.append(f'{name} is {value}, wanted more than 0')
        return problems


@runtime_checkable
class Strategy(Protocol):
    """A way of fine-tuning: which parameters train, and when."""

    @property
    def pretrained(self) -> bool:
        """Whether training starts from the backbone's weights instead of random ones."""
        ...

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """The phases for these parameters (or their shapes), the stages in forward order.

        JAX sorts the keys of a dict that it returns; `stages.ordered` restores the order.

        Raises:
            InputError: the model lacks what the strategy trains, or its stages are out of order.
        """
        ...


class Norm(enum.Enum):
    """How normalisation layers are treated, in addition to the strategy's rules.

    Statistics are BatchNorm's running mean and variance. Scale and bias are those of every kind
    of normalisation layer. No policy trains leaves that the rules freeze.

        AUTO             statistics are updated in stages with trainable leaves and fixed in the
                         others; scale and bias follow the rules
        FROZEN           statistics are fixed everywhere; scale and bias are frozen
        AFFINE_ONLY      statistics are fixed everywhere; scale and bias follow the rules
        STATISTICS_ONLY  statistics are updated everywhere; scale and bias are frozen
        LIVE             statistics are updated everywhere, also in frozen stages; scale and bias
                         follow the rules
    """

    AUTO = 'auto'
    FROZEN = 'frozen'
    AFFINE_ONLY = 'affine_only'
    STATISTICS_ONLY = 'statistics_only'
    LIVE = 'live'


@runtime_checkable
class Optimizer(Protocol):
    """An update rule; weight decay is scaled per group of leaves.

    `transform` uses the learning rate that it gets. It must not read the attribute
    `learning_rate`, because runs with different learning rates share a compiled program.
    """

    learning_rate: float

    def transform(
        self, learning_rate: optax.Schedule, weight_decay_scale: float
    ) -> optax.GradientTransformation:
        """The optax transformation for one group of leaves."""
        ...
