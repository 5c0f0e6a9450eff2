"""tljax: transfer learning in JAX."""

from tljax import runtime
from tljax.version import __version__

__all__ = ['__version__']

runtime.prepare()  # before anything below imports JAX
