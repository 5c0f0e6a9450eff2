"""The order of class names: natural, with digits compared as numbers."""

import re
from collections.abc import Iterable


def ordered(names: Iterable[str]) -> list[str]:
    """Names in natural order: integers first, by value, and `fold2` before `fold10`."""
    return sorted(names, key=_key)


def _key(name: str) -> tuple[int, int, list[str | int], str]:
    """A sort key; it ends with the name itself, because `1` and `01` are the same number."""
    if re.fullmatch('-?[0-9]+', name):
        return 0, int(name), [], name
    parts = re.split('([0-9]+)', name)  # text and numbers, alternating
    return 1, 0, [int(part) if place % 2 else part for place, part in enumerate(parts)], name
