"""Few leaves beside those of pretrained layers, to train in their place; they merge exactly.

Each adapter is another way to write the leaves of a layer: what it adds lies at
`LAYER/adapter/NAME/...` and starts so that nothing changes. A list of them is merged in order, so
that a `ScaleShift` behind a `LoRA` scales what that one changed. The head is new in any case, and
has none.
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

Leaves = Mapping[str, Any]  # of one layer, or of what one adapter added to it, by name


@dataclasses.dataclass(slots=True, kw_only=True)
class LoRA:
    """Kernels change by `alpha / rank` times a product of two thin matrices, `down` and `up`.

    A kernel counts as a matrix of its window and inputs [h w C / groups] by its outputs, so that a
    convolution changes by one of its own window with `rank` outputs and a 1x1 one behind it;
    groups share `down`. `up` starts at 0. `layers` are patterns of the layers to adapt.

    Source: Hu et al. 2022, "LoRA: low-rank adaptation of large language models", equation 3; for
    convolutions Yeh et al. 2024, "Navigating text-to-image customization: from LyCORIS
    fine-tuning to model evaluation". `down` is drawn from N(0, 1 / inputs); the first
    says Gaussian, without a width.
    """

    rank: int = 8
    alpha: float = 16.0
    layers: tuple[str, ...] = ('**',)

    def problems(self) -> list[str]:
        """What `validate` reports."""
        found = _pattern_problems(self.layers)
        if self.rank < 1:
            found.append(f'rank is {self.rank}, wanted more than 0')
        if not 0 < self.alpha < math.inf:
            found.append(f'alpha is {self.alpha}, wanted more than 0, and finite')
        return found

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """See `types.Adapter`."""
        added = {}
        wanted = 'a kernel of 2 or 4 axes'
        for layer, own in _chosen(params, self.layers, _has_kernel, wanted).items():
            *inputs, outputs = own['kernel'].shape
            home = f'{layer}/{ADAPTER}/lora'
            down = _normal(key, home, (*inputs, self.rank))
            added[f'{home}/down'] = down / np.float32(math.sqrt(math.prod(inputs)))
            added[f'{home}/up'] = np.zeros((self.rank, outputs), np.float32)
        return added

    def merged(self, params: Params) -> Params:
        """See `types.Adapter`."""

        def change(own: Leaves, added: Leaves) -> Leaves:
            # A GPU's and a TPU's own precision of products would lose the digits of the kernel.
            product = jnp.tensordot(added['down'], added['up'], 1, precision='highest')
            return {'kernel': own['kernel'] + self.alpha / self.rank * product}

        return _merged(params, 'lora', self.layers, change)


@dataclasses.dataclass(slots=True, kw_only=True)
class ScaleShift:
    """What a layer puts out is scaled and shifted per channel: `(1 + gain) y + shift`.

    For layers with a bias, normalisation layers included, into which both merge. A convolution
    without one leaves it to the normalisation behind it. Both start at 0, so that weight decay
    pulls to the pretrained network. `layers` are patterns of the layers to adapt.

    Source: Lian et al. 2022, "Scaling & shifting your features", where the scale, here
    `1 + gain`, starts near 1 at random.
    """

    layers: tuple[str, ...] = ('**',)

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _pattern_problems(self.layers)

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """See `types.Adapter`."""
        chosen = _chosen(params, self.layers, _has_bias, 'a bias and a kernel or scale')
        return {
            f'{layer}/{ADAPTER}/scale_shift/{name}': np.zeros(own['bias'].shape, np.float32)
            for layer, own in chosen.items()
            for name in ('gain', 'shift')
        }

    def merged(self, params: Params) -> Params:
        """See `types.Adapter`."""

        def change(own: Leaves, added: Leaves) -> Leaves:
            name = 'kernel' if 'kernel' in own else 'scale'
            scale = 1 + added['gain']
            row = scale.reshape((1,) * (own[name].ndim - 1) + (-1,))
            return {name: own[name] * row, 'bias': own['bias'] * scale + added['shift']}

        return _merged(params, 'scale_shift', self.layers, change)


@dataclasses.dataclass(slots=True, kw_only=True)
class ResidualAdapter:
    """A 1x1 convolution beside each larger one, with its stride and groups, added to its output.

    It is the centre of the larger one's window, and merges there: for windows with one, of 3x3,
    5x5, 7x7, ... pixels. (Where the larger one is padded otherwise than by half its window, it
    reads the window's centre all the same.) It starts at 0. `layers` are patterns of the layers to
    adapt.

    Source: Rebuffi et al. 2018, "Efficient parametrization of multi-domain deep neural networks",
    its parallel adapters, there beside the 3x3 convolutions of a ResNet.
    """

    layers: tuple[str, ...] = ('**',)

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _pattern_problems(self.layers)

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """See `types.Adapter`."""
        wanted = 'a kernel whose window is square, of an odd side above 1'
        chosen = _chosen(params, self.layers, _has_centre, wanted)
        return {
            f'{layer}/{ADAPTER}/residual/kernel': np.zeros(own['kernel'].shape[2:], np.float32)
            for layer, own in chosen.items()
        }

    def merged(self, params: Params) -> Params:
        """See `types.Adapter`."""

        def change(own: Leaves, added: Leaves) -> Leaves:
            centre = own['kernel'].shape[0] // 2
            kernel = jnp.asarray(own['kernel'])
            return {'kernel': kernel.at[centre, centre].add(added['kernel'])}

        return _merged(params, 'residual', self.layers, change)


def extended(adapters: Sequence[Adapter], params: Params, key: jax.Array) -> Params:
    """The parameters with the leaves that every adapter adds.

    Args:
        adapters: in the order in which they are merged.
        params: of all stages, or their shapes; they keep their order.
        key: of what is drawn; a leaf depends on it and on its path alone.

    Raises:
        InputError: an adapter has nothing to adapt, or two add the same leaf.
    """
    if not adapters:
        return params
    leaves = tree.flatten(params)
    for adapter in adapters:
        added = adapter.add(params, key)
        twice = sorted(added.keys() & leaves.keys())
        if twice:
            raise InputError(
                f'{adapter}: {_few(twice)} are there already, wanted `layers` of one kind of '
                'adapter that have none in common'
            )
        leaves |= added
    return tree.unflatten(leaves)


def split(params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    """`{path: leaf}` of the stages' own parameters, and of what adapters added."""
    own: dict[str, Any] = {}
    added: dict[str, Any] = {}
    for path, leaf in tree.flatten(params).items():
        (added if ADAPTER in path.split('/') else own)[path] = leaf
    return own, added


def check_trained(trained: Sequence[Params]) -> None:
    """Refuses adapters that a strategy leaves as they are.

    Args:
        trained: a bool per leaf, for each phase.

    Raises:
        InputError: a leaf that was added trains in no phase.
    """
    phases = [tree.flatten(phase) for phase in trained]
    idle = [path for path in split(trained[0])[1] if not any(phase[path] for phase in phases)]
    if idle:
        raise InputError(
            f'config.adapters: {_few(idle)} train in no phase of the strategy, wanted one that '
            f'trains **/{ADAPTER} (AdaptersOnly), or adapters without these `layers`'
        )


def _merged(
    params: Params,
    name: str,
    patterns: Sequence[str],
    change: Callable[[Leaves, Leaves], Leaves],
) -> Params:
    """Layers as `change(own leaves, added leaves)` makes them, without what was added."""
    leaves = tree.flatten(params)
    found: dict[str, dict[str, str]] = {}
    for path in leaves:
        layer, marked, leaf = path.partition(f'/{ADAPTER}/{name}/')
        if marked and _covered(layer, patterns):
            found.setdefault(layer, {})[leaf] = path
    if not found:
        return params
    for layer, paths in found.items():
        own = {n: leaves[p] for n in ('kernel', 'scale', 'bias') if (p := f'{layer}/{n}') in leaves}
        changed = change(own, {leaf: leaves.pop(path) for leaf, path in paths.items()})
        leaves |= {f'{layer}/{leaf}': value for leaf, value in changed.items()}
    return tree.unflatten(leaves)


def _chosen(
    params: Params, patterns: Sequence[str], fits: Callable[[Leaves], bool], wanted: str
) -> dict[str, Leaves]:
    """The layers below the head that patterns cover and that fit, with their own leaves.

    Raises:
        InputError: a pattern covers none.
    """
    layers: dict[str, dict[str, Any]] = {}
    for path, leaf in split(params)[0].items():
        if not tree.matches(HEAD, path):
            layer, _, name = path.rpartition('/')
            layers.setdefault(layer, {})[name] = leaf
    fitting = {layer: own for layer, own in layers.items() if fits(own)}
    idle = [pattern for pattern in patterns if not any(_covered(f, [pattern]) for f in fitting)]
    if idle:
        raise InputError(
            f'adapter layers {idle} cover no layer with {wanted}; '
            + (f'such are {_few(list(fitting))}' if fitting else 'the model has none')
        )
    return {layer: own for layer, own in fitting.items() if _covered(layer, patterns)}


def _covered(layer: str, patterns: Sequence[str]) -> bool:
    return any(tree.matches(pattern, layer) for pattern in patterns)


def _has_kernel(own: Leaves) -> bool:
    return 'kernel' in own and len(own['kernel'].shape) in (2, 4)


def _has_bias(own: Leaves) -> bool:
    return 'bias' in own and ('kernel' in own or 'scale' in own)


def _has_centre(own: Leaves) -> bool:
    shape = own['kernel'].shape if 'kernel' in own else ()
    return len(shape) == 4 and shape[0] == shape[1] and shape[0] % 2 == 1 and shape[0] > 1


def _normal(key: jax.Array, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal values that depend on the key and the path, drawn on the host.

    JAX would compile a program for every shape.
    """
    words = np.asarray(jax.random.key_data(key)).ravel().tolist()
    rng = np.random.default_rng([*words, zlib.crc32(path.encode())])
    return rng.standard_normal(shape, np.float32)


def _pattern_problems(layers: tuple[str, ...]) -> list[str]:
    return [] if layers else ['layers is (), wanted one or more patterns']


def _few(paths: Sequence[str]) -> str:
    more = f', … ({len(paths) - 3} more)' if len(paths) > 3 else ''
    return ', '.join(paths[:3]) + more
