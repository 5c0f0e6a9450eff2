"""Imports of packages that only some sweeps need."""

import importlib
from types import ModuleType

from tljax.sweep.space import SweepError


def load(module: str, extra: str) -> ModuleType:
    """Imports a package of an extra.

    Args:
        module: the name of the package.
        extra: the extra of tljax that has it.

    Raises:
        SweepError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise SweepError(
            f"{module} is not installed; it comes with: pip install 'tljax[{extra}]'"
        ) from None
