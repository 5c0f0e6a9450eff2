"""Versions of the installed packages, and requirements that they do not fulfil."""

import platform
import re
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

ROOT = 'tljax'
# Printed in this order; other packages that tljax needs are in the JSON form only.
MAIN = (
    ROOT, 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'scipy', 'pillow',
    'simplejpeg', 'scikit-learn', 'safetensors', 'tensorboardX', 'tensorflow-datasets', 'numba',
    'huggingface_hub', 'matplotlib', 'optuna', 'ray', 'submitit', 'torch', 'tensorflow',
)  # fmt: skip
ACCELERATOR = re.compile(r'(jax|libtpu|nvidia-(cudnn|nccl|cuda-runtime))')


def versions() -> dict[str, str]:
    """The version of Python and of each installed package that matters, by name."""
    names = [*MAIN, *sorted(accelerators())]
    known = {name: version for name in names if (version := installed(name)) is not None}
    return {'python': platform.python_version(), **known}


def installed(name: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def accelerators() -> set[str]:
    """The installed packages that let JAX use a GPU or TPU, apart from JAX itself."""
    names = {str(one.name) for one in metadata.distributions() if one.name}
    return {name for name in names if ACCELERATOR.match(name)} - {'jax', 'jaxlib'}


def conflicts(root: str = ROOT) -> list[str]:
    """A line for each requirement that is not fulfilled, of a package and of all it needs.

    Requirements of extras are not considered, because an extra need not be installed.
    """
    lines, todo, seen = [], [root], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for wanted in _requirements(name):
            version = installed(wanted.name)
            if version is None:
                lines.append(f'{name} needs {wanted.name}, which is not installed')
            elif not wanted.specifier.contains(version, prereleases=True):
                needs = f'{wanted.name} {wanted.specifier}'
                lines.append(f'{name} needs {needs}, and {version} is installed')
            if version is not None:
                todo.append(_normalised(wanted.name))
    return sorted(lines)


def _requirements(name: str) -> Iterator[Requirement]:
    """What an installed package needs on this platform without its extras."""
    for wanted in map(Requirement, metadata.requires(name) or ()):
        if wanted.marker is None or wanted.marker.evaluate({'extra': ''}):
            yield wanted


def _normalised(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()
