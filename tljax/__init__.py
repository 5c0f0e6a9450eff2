"""tljax: transfer learning in JAX."""

from typing import TYPE_CHECKING, Any

from tljax import environment
from tljax.version import __version__

if TYPE_CHECKING:
    from tljax.weights.network import Network, load

__all__ = ['Network', '__version__', 'load']

environment.prepare()  # before anything below imports JAX


def __getattr__(name: str) -> Any:
    """`load` and `Network`, which import JAX, when they are asked for."""
    if name not in ('Network', 'load'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from tljax.weights import network

    return getattr(network, name)
