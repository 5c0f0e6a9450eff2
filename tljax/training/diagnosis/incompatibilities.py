"""Combinations of versions, flags and devices that are known to fail or to be slow."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tljax import environment

NVIDIA = pathlib.Path('/proc/driver/nvidia/version')  # exists if the driver is loaded
CUDA_PLUGINS = ('jax-cuda12-plugin', 'jax-cuda13-plugin')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Installation:
    """What the rules look at.

    Attributes:
        versions: of the installed packages, by name.
        platform: of the devices that JAX uses, such as `cpu`; None if JAX cannot be imported.
        xla_flags: the value of `XLA_FLAGS`.
        has_nvidia_driver: whether the machine has a GPU of NVIDIA.
        requested: the value of `JAX_PLATFORMS`; empty for no choice.
    """

    versions: Mapping[str, str]
    platform: str | None
    xla_flags: str = ''
    has_nvidia_driver: bool = False
    requested: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Incompatibility:
    """A rule that recognises a known incompatibility.

    Attributes:
        versions: for each package that the rule is about, the versions that are affected. The rule
            applies to no installation that lacks one of the packages.
        applies: a further condition.
        consequence: what happens, and what to do.
    """

    versions: Mapping[str, str]
    applies: Callable[[Installation], bool]
    consequence: str


def _other_convolutions(one: Installation) -> bool:
    """Whether the user's flags replace the one that tljax sets."""
    wanted = environment.CPU_CONVOLUTIONS
    return one.platform == 'cpu' and wanted not in one.xla_flags.split()


def _plugin_differs(one: Installation) -> bool:
    jaxlib = Version(one.versions['jaxlib']).release
    plugins = (one.versions[name] for name in CUDA_PLUGINS if name in one.versions)
    return any(Version(plugin).release != jaxlib for plugin in plugins)


def _unused_gpu(one: Installation) -> bool:
    return one.platform == 'cpu' and one.has_nvidia_driver and 'cpu' not in one.requested


RULES = (
    # Measured by `python -m benchmarks.xla_flag`.
    Incompatibility(
        versions={'jaxlib': '>=0.10.2,<0.13'},
        applies=_other_convolutions,
        consequence=f'XLA_FLAGS lacks {environment.CPU_CONVOLUTIONS}: on CPU the weight gradients '
        'of 1x1 convolutions take 7 to 10 times as long. Remove '
        '--xla_cpu_experimental_ynn_fusion_type from XLA_FLAGS, and import tljax before JAX',
    ),
    # Source: jaxlib, plugin_support.check_plugin_version.
    Incompatibility(
        versions={'jaxlib': '>=0'},
        applies=_plugin_differs,
        consequence='the CUDA plugin of JAX has another version than jaxlib, so JAX does not use '
        "the GPU: pip install -U 'tljax[gpu]'",
    ),
    Incompatibility(
        versions={'jaxlib': '>=0'},
        applies=_unused_gpu,
        consequence='this machine has a GPU of NVIDIA, and JAX computes on the CPU: '
        "pip install 'tljax[gpu]'",
    ),
    # Source: the requirements of jax2onnx 0.17.1. Its code does not import Orbax.
    Incompatibility(
        versions={'jax2onnx': '<=0.17.1', 'orbax-checkpoint': '<0.12.8'},
        applies=lambda one: True,
        consequence='pip install jax2onnx has replaced Orbax by an older version than tljax needs: '
        "pip install --no-deps jax2onnx, then pip install -U 'tljax[onnx]'",
    ),
)


def problems(one: Installation, rules: Sequence[Incompatibility] = RULES) -> list[str]:
    """The consequences of the rules that apply to an installation."""
    return [rule.consequence for rule in rules if _matches(rule, one) and rule.applies(one)]


def _matches(rule: Incompatibility, one: Installation) -> bool:
    return all(
        name in one.versions and SpecifierSet(wanted).contains(one.versions[name], prereleases=True)
        for name, wanted in rule.versions.items()
    )


def here(versions: Mapping[str, str], platform: str | None) -> Installation:
    """The installation of this process."""
    return Installation(
        versions=versions,
        platform=platform,
        xla_flags=os.environ.get('XLA_FLAGS', ''),
        has_nvidia_driver=NVIDIA.exists(),
        requested=os.environ.get('JAX_PLATFORMS', ''),
    )
