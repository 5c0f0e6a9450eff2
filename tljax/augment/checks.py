"""Range checks of fields, for `problems()`."""

import math
from typing import Any


def share(one: Any, *names: str) -> list[str]:
    """Messages for fields outside [0, 1]."""
    values = {name: getattr(one, name) for name in names}
    return [f'{n} is {x}, wanted 0 <= x <= 1' for n, x in values.items() if not 0 <= x <= 1]


def at_least(least: float, one: Any, *names: str) -> list[str]:
    """Messages for fields below `least`, or infinite."""
    values = {name: getattr(one, name) for name in names}
    return [
        f'{name} is {x}, wanted {least} or more'
        for name, x in values.items()
        if not (x >= least and math.isfinite(x))
    ]


def more_than_0(one: Any, *names: str) -> list[str]:
    """Messages for fields that are 0 or less, or infinite."""
    values = {name: getattr(one, name) for name in names}
    return [
        f'{name} is {x}, wanted more than 0'
        for name, x in values.items()
        if not (x > 0 and math.isfinite(x))
    ]
