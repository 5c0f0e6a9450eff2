"""tljax: transfer learning in JAX.

`__init__.pyi` lists the public names. Each is loaded when first used, so that `import tljax`
imports neither JAX nor any other module of the package.
"""

import lazy_loader

from tljax import environment

environment.prepare()  # before a public name imports JAX

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
