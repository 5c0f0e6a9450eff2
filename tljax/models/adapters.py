"""Adapters: a few extra leaves per pretrained layer, trained instead of the layer's own leaves.

What an adapter adds to a layer lies at `LAYER/adapter/NAME/...`, starts without an effect, and
merges exactly into the layer's own leaves. A list of adapters is merged in order: a `ScaleShift`
after a `LoRA` scales the kernel that the `LoRA` changed. The head is new and gets no adapter.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax import tree
from tljax.models.stages import HEAD
from tljax.types import ADAPTER, Adapter, Array, InputError, Params

Leaves = Mapping[str, Any]  # leaves by name: a layer's own, or those an adapter added to it


@dataclasses.dataclass(slots=True, kw_only=True)
class LoRA:
    """A low-rank change of kernels: `alpha / rank` times the product of `down` and `up`.

    A kernel is treated as a matrix [h w C / groups, outputs]. For a convolution the change equals
    a convolution of the same window with `rank` outputs followed by a 1x1 convolution; groups
    share `down`. `up` starts at 0. `layers` are patterns of the layers to adapt.

    Attributes:
        rank: of the change.
        alpha: scale of the change, which is multiplied by `alpha / rank`.
        layers: patterns of the layers to adapt.

    Source: Hu et al. 2022, "LoRA: low-rank adaptation of large language models", equation 3; for
    convolutions Yeh et al. 2024, "Navigating text-to-image customization: from LyCORIS
    fine-tuning to model evaluation". `down` is drawn from N(0, 1 / inputs); Hu et al. say Gaussian
    without a variance.
    """

    rank: int = 8
    alpha: float = 16.0
    layers: tuple[str, ...] = ('**',)

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = _pattern_problems(self.layers)
        if self.rank < 1:
            problems.append(f'rank is {self.rank}, wanted more than 0')
        if not 0 < self.alpha < math.inf:
            problems.append(f'alpha is {self.alpha}, wanted more than 0, and finite')
        return problems

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """See `types.Adapter`."""
        added = {}
        wanted = 'a kernel of 2 or 4 axes'
        for layer, leaves in _chosen(params, self.layers, _has_kernel, wanted).items():
            *inputs, outputs = leaves['kernel'].shape
            prefix = f'{layer}/{ADAPTER}/lora'
            down = _normal(key, prefix, (*inputs, self.rank))
            added[f'{prefix}/down'] = down / np.float32(math.sqrt(math.prod(inputs)))
            added[f'{prefix}/up'] = np.zeros((self.rank, outputs), np.float32)
        return added

    def merged(self, params: Params) -> Params:
        """See `types.Adapter`."""

        def change(leaves: Leaves, added: Leaves) -> Leaves:
            # The default matmul precision of GPUs and TPUs would lose digits of the kernel.
            product = jnp.tensordot(added['down'], added['up'], 1, precision='highest')
            return {'kernel': leaves['kernel'] + self.alpha / self.rank * product}

        return _merged(params, 'lora', self.layers, change)


@dataclasses.dataclass(slots=True, kw_only=True)
class ScaleShift:
    """Scales and shifts each output channel of a layer: `(1 + gain) y + shift`.

    For layers with a bias, including normalisation layers; both merge into the layer. A
    convolution without a bias is left out, because the normalisation behind it is adapted. Both
    start at 0, so weight decay pulls towards the pretrained network. `layers` are patterns of the
    layers to adapt.

    Attributes:
        layers: patterns of the layers to adapt.

    Source: Lian et al. 2022, "Scaling & shifting your features", where the scale, here
    `1 + gain`, starts near 1 at random.
    """

    layers: tuple[str, ...] = ('**',)

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return _pattern_problems(self.layers)

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """See `types.Adapter`."""
        layers = _chosen(params, self.layers, _has_bias, 'a bias and a kernel or scale')
        return {
            f'{layer}/{ADAPTER}/scale_shift/{name}': np.zeros(leaves['bias'].shape, np.float32)
            for layer, leaves in layers.items()
            for name in ('gain', 'shift')
        }

    def merged(self, params: Params) -> Params:
        """See `types.Adapter`."""

        def change(leaves: Leaves, added: Leaves) -> Leaves:
            name = 'kernel' if 'kernel' in leaves else 'scale'
            scale = 1 + added['gain']
            row = scale.reshape((1,) * (leaves[name].ndim - 1) + (-1,))
            return {name: leaves[name] * row, 'bias': leaves['bias'] * scale + added['shift']}

        return _merged(params, 'scale_shift', self.layers, change)


@dataclasses.dataclass(slots=True, kw_only=True)
class ResidualAdapter:
    """A 1x1 convolution parallel to each larger one, with its stride and groups; outputs add up.

    It merges into the centre of the larger kernel, so that kernel must be square with an odd side:
    3x3, 5x5, 7x7, ... pixels. (If the padding is not half the window, it still reads the window's
    centre.) It starts at 0. `layers` are patterns of the layers to adapt.

    Attributes:
        layers: patterns of the layers to adapt.

    Source: Rebuffi et al. 2018, "Efficient parametrization of multi-domain deep neural networks",
    the parallel adapters of the 3x3 convolutions of a ResNet.
    """

    layers: tuple[str, ...] = ('**',)

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return _pattern_problems(self.layers)

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """See `types.Adapter`."""
        wanted = 'a kernel whose window is square, of an odd side above 1'
        layers = _chosen(params, self.layers, _has_centre, wanted)
        return {
            f'{layer}/{ADAPTER}/residual/kernel': np.zeros(leaves['kernel'].shape[2:], np.float32)
            for layer, leaves in layers.items()
        }

    def merged(self, params: Params) -> Params:
        """See `types.Adapter`."""

        def change(leaves: Leaves, added: Leaves) -> Leaves:
            centre = leaves['kernel'].shape[0] // 2
            kernel = jnp.asarray(leaves['kernel'])
            return {'kernel': kernel.at[centre, centre].add(added['kernel'])}

        return _merged(params, 'residual', self.layers, change)


def extended(adapters: Sequence[Adapter], params: Params, key: jax.Array) -> Params:
    """The parameters with the leaves that all adapters add.

    Args:
        adapters: in the order in which they are merged.
        params: of all stages, or their shapes; their order is kept.
        key: for random initial values; a leaf depends only on it and on its path.

    Raises:
        InputError: no layer fits an adapter, or two adapters add the same leaf.
    """
    if not adapters:
        return params
    leaves = tree.flatten(params)
    for adapter in adapters:
        added = adapter.add(params, key)
        twice = sorted(added.keys() & leaves.keys())
        if twice:
            raise InputError(
                f'{adapter}: {_few(twice)} exist already; adapters of one kind must have `layers` '
                'that do not overlap'
            )
        leaves |= added
    return tree.unflatten(leaves)


def split(params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    """`{path: leaf}` of the stages' own parameters, and of the leaves that adapters added."""
    own: dict[str, Any] = {}
    added: dict[str, Any] = {}
    for path, leaf in tree.flatten(params).items():
        (added if ADAPTER in path.split('/') else own)[path] = leaf
    return own, added


def check_trained(trained: Sequence[Params]) -> None:
    """Checks that every added leaf trains.

    Args:
        trained: a bool per leaf, for each phase.

    Raises:
        InputError: an added leaf trains in no phase.
    """
    phases = [tree.flatten(phase) for phase in trained]
    idle = [path for path in split(trained[0])[1] if not any(phase[path] for phase in phases)]
    if idle:
        raise InputError(
            f'config.adapters: {_few(idle)} train in no phase of the strategy; use a strategy that '
            f'trains **/{ADAPTER} (AdaptersOnly), or remove these `layers` from the adapters'
        )


def _merged(
    params: Params,
    name: str,
    patterns: Sequence[str],
    change: Callable[[Leaves, Leaves], Leaves],
) -> Params:
    """Replaces layers by `change(own leaves, added leaves)` and removes the added leaves."""
    leaves = tree.flatten(params)
    added: dict[str, dict[str, str]] = {}
    for path in leaves:
        layer, marked, leaf = path.partition(f'/{ADAPTER}/{name}/')
        if marked and _covered(layer, patterns):
            added.setdefault(layer, {})[leaf] = path
    if not added:
        return params
    for layer, paths in added.items():
        layer_leaves = {
            n: leaves[p] for n in ('kernel', 'scale', 'bias') if (p := f'{layer}/{n}') in leaves
        }
        changed = change(layer_leaves, {leaf: leaves.pop(path) for leaf, path in paths.items()})
        leaves |= {f'{layer}/{leaf}': value for leaf, value in changed.items()}
    return tree.unflatten(leaves)


def _chosen(
    params: Params, patterns: Sequence[str], fits: Callable[[Leaves], bool], wanted: str
) -> dict[str, Leaves]:
    """The layers below the head that match a pattern and that fit, with their own leaves.

    Raises:
        InputError: a pattern matches no fitting layer.
    """
    layers: dict[str, dict[str, Any]] = {}
    for path, leaf in split(params)[0].items():
        if not tree.matches(HEAD, path):
            layer, _, name = path.rpartition('/')
            layers.setdefault(layer, {})[name] = leaf
    fitting = {layer: leaves for layer, leaves in layers.items() if fits(leaves)}
    idle = [pattern for pattern in patterns if not any(_covered(f, [pattern]) for f in fitting)]
    if idle:
        raise InputError(
            f'adapter layers {idle} match no layer with {wanted}; '
            + (f'layers with one are {_few(list(fitting))}' if fitting else 'the model has none')
        )
    return {layer: leaves for layer, leaves in fitting.items() if _covered(layer, patterns)}


def _covered(layer: str, patterns: Sequence[str]) -> bool:
    return any(tree.matches(pattern, layer) for pattern in patterns)


def _has_kernel(leaves: Leaves) -> bool:
    return 'kernel' in leaves and len(leaves['kernel'].shape) in (2, 4)


def _has_bias(leaves: Leaves) -> bool:
    return 'bias' in leaves and ('kernel' in leaves or 'scale' in leaves)


def _has_centre(leaves: Leaves) -> bool:
    shape = leaves['kernel'].shape if 'kernel' in leaves else ()
    return len(shape) == 4 and shape[0] == shape[1] and shape[0] % 2 == 1 and shape[0] > 1


def _normal(key: jax.Array, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal values that depend only on the key and the path.

    Drawn with NumPy, because JAX would compile a program for every shape.
    """
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    rng = np.random.default_rng([*seed, zlib.crc32(path.encode())])
    return rng.standard_normal(shape, np.float32)


def _pattern_problems(layers: tuple[str, ...]) -> list[str]:
    return [] if layers else ['layers is (), wanted one or more patterns']


def _few(paths: Sequence[str]) -> str:
    more = f', … ({len(paths) - 3} more)' if len(paths) > 3 else ''
    return ', '.join(paths[:3]) + more
