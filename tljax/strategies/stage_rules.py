"""Rules for the stages of a model, from which `strategies` compose their phases."""

from collections.abc import Sequence

from tljax import tree
from tljax.types import InputError, Params, Rule

FREEZE = Rule(pattern='**', train=False)


def norm_layers(params: Params) -> list[str]:
    """The paths of the normalisation layers of any kind: layers with a `scale` and a `bias`."""
    paths = tree.flatten(params)
    homes = [path.removesuffix('/scale') for path in paths if path.endswith('/scale')]
    return [home for home in homes if f'{home}/bias' in paths]


def stages(params: Params) -> list[str]:
    """The stages' names in forward order.

    Raises:
        InputError: they have another order, as after JAX's functions on trees.
    """
    names = list(params)
    if 'head' in names[:-1]:
        raise InputError(f'the stages are {names}, wanted in forward order: `model.ordered`')
    return names


def head(params: Params) -> str:
    """The name of the last stage."""
    return stages(params)[-1]


def index(stage: str, params: Params, field: str = 'stage') -> int:
    """The position of a stage.

    Args:
        stage: its name.
        params: of the model.
        field: the field of the strategy that the error names.

    Raises:
        InputError: the model has no such stage.
    """
    names = stages(params)
    if stage not in names:
        raise InputError(f'config.strategy: {field} is {stage!r}, wanted one of {names}')
    return names.index(stage)


def stage_and_above(stage: str, params: Params, scale: float = 1.0) -> tuple[Rule, ...]:
    """Rules that train a stage and all above it."""
    below = stages(params)[: index(stage, params)]
    frozen = tuple(Rule(pattern=name, train=False) for name in below)
    return (*frozen, Rule(pattern='**', learning_rate_scale=scale))


def only(patterns: Sequence[str], params: Params, scale: float = 1.0) -> tuple[Rule, ...]:
    """Rules that train the head and the leaves under the patterns."""
    chosen = [head(params), *patterns]
    return (*(Rule(pattern=p, learning_rate_scale=scale) for p in chosen), FREEZE)


def scaled(params: Params, scales: Sequence[float]) -> tuple[Rule, ...]:
    """Rules that train every stage at its own multiple of the learning rate."""
    pairs = zip(stages(params), scales, strict=True)
    return tuple(Rule(pattern=stage, learning_rate_scale=scale) for stage, scale in pairs)


def geometric(lowest: float, highest: float, count: int) -> list[float]:
    """`count` values from `lowest` to `highest`, each the same multiple of the one before."""
    ratio = (highest / lowest) ** (1 / max(count - 1, 1))
    return [highest / ratio ** (count - 1 - i) for i in range(count)]
