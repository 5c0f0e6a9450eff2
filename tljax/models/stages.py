"""A network as a sequence of named stages, and the pure function that runs a slice of them."""

import dataclasses
import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax import tree
from tljax.models import data_dependence, views
from tljax.models.stochastic_norm import STREAM, StochNorm
from tljax.types import Adapter, Backbone, Dtype, Head, InputError, Params, Preprocessing, Stats

HEAD = 'head'
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow turns RGB to gray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Stages in forward order, the head last, and what they expect of an image.

    Parameters may hold what `adapters` added to the stages' own.
    """

    stages: Mapping[str, nn.Module]
    preprocessing: Preprocessing
    num_classes: int
    adapters: tuple[Adapter, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The stages' names in forward order."""
        return tuple(self.stages)


def build(
    backbone: Backbone,
    num_classes: int,
    *,
    cut_after: str | None = None,
    head: Head | None = None,
    preprocessing: Preprocessing | None = None,
) -> Model:
    """The backbone's stages and a head for `num_classes`.

    Args:
        backbone: the family and its hyperparameters.
        num_classes: K.
        cut_after: the last stage to keep; the head follows it. None keeps all.
        head: what follows; None for the family's own.
        preprocessing: what the weights want, where that differs from the family's.

    Raises:
        InputError: `cut_after` names no stage.
    """
    stages = backbone.stages()
    if cut_after is not None:
        if cut_after not in stages:
            raise InputError(f'cut_after is {cut_after!r}, wanted one of {list(stages)}')
        last = list(stages).index(cut_after)
        stages = dict(itertools.islice(stages.items(), last + 1))
    stages[HEAD] = head.module(num_classes) if head else backbone.head(num_classes)
    return Model(
        stages=stages,
        preprocessing=preprocessing or backbone.preprocessing(),
        num_classes=num_classes,
    )


def normalise(preprocessing: Preprocessing, images: jax.Array) -> jax.Array:
    """Cuts the centre out of images and scales their channels, on the device.

    Args:
        preprocessing: size, mean and standard deviation.
        images: [B, H, W, C] in [0, 255], any dtype; RGB becomes gray where one channel is wanted.

    Returns:
        [B, size_px, size_px, C] float32.

    Raises:
        InputError: the images are smaller than that, or have other channels.
    """
    size, channels = preprocessing.size_px, len(preprocessing.mean)
    if channels == 1 and images.shape[-1] == len(LUMA):
        images = jnp.einsum('bhwc,c->bhw', images, jnp.asarray(LUMA, jnp.float32))[..., None]
    if images.shape[-1] != channels:
        raise InputError(f'images have {images.shape[-1]} channels, wanted {channels}')
    if size > min(images.shape[1:3]):
        raise InputError(f'images are {images.shape[1]} x {images.shape[2]} px, wanted {size} px')
    images = views.centre(images, size).astype(jnp.float32)
    mean = jnp.asarray(preprocessing.mean, jnp.float32).reshape(1, 1, 1, -1)
    std = jnp.asarray(preprocessing.std, jnp.float32).reshape(1, 1, 1, -1)
    return (images / 255.0 - mean) / std


def probabilities(logits: jax.Array, *, multi_label: bool) -> jax.Array:
    """Logits [B, K] as probabilities: which class an image is of, or for each whether it has it."""
    return jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits)


def plain(adapters: Sequence[Adapter], params: Params) -> Params:
    """Parameters of whole stages as the stages take them: what adapters added is merged."""
    for adapter in adapters:
        params = adapter.merged(params)
    return params


def run(
    model: Model,
    params: Params,
    stats: Stats,
    x: jax.Array,
    *,
    start: str | None = None,
    stop: str | None = None,
    live: Collection[str] = (),
    moving: Collection[str] | None = None,
    dropout_key: jax.Array | None = None,
    dtype: Dtype = Dtype.FLOAT32,
    remat: Collection[str] = (),
    stochastic_norm: StochNorm | None = None,
) -> tuple[jax.Array, Stats]:
    """Folds the stages from `start` up to, not including, `stop` over `x`.

    Args:
        model: the stages.
        params: their parameters (more are ignored), with what adapters added or merged already.
        stats: their running statistics.
        x: the input of `start`: normalised images [B, H, W, 3], or what the stage before gave.
        start: the first stage to run; None is the network's first.
        stop: the stage to stop before; None runs to the logits.
        live: stages that train.
        moving: stages whose BatchNorm uses and updates batch statistics; None for the live ones.
        dropout_key: turns on dropout in live stages.
        dtype: what is computed in; BatchNorm's own arithmetic is float32 in any case.
        remat: stages whose activations are computed again in the backward pass, not kept.
        stochastic_norm: what BatchNorm does in moving stages; its draws follow `dropout_key`.

    Returns:
        The last stage's output, float32 if it is the logits, and `stats` with what was updated.
    """
    moving = live if moving is None else moving
    names = model.names
    first = names.index(start) if start else 0
    last = names.index(stop) if stop else len(names)
    for index in range(first, last):
        name = names[index]
        rngs = {}
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, index)
        if name in live and key is not None:
            rngs['dropout'] = key
        if stochastic_norm and name in moving and key is not None:
            rngs[STREAM] = jax.random.fold_in(key, 0)
        apply = functools.partial(
            model.stages[name].apply,
            deterministic='dropout' not in rngs,
            use_running_average=name not in moving,
            rngs=rngs,
            mutable=['batch_stats'],
        )
        if stochastic_norm and STREAM in rngs:
            apply = stochastic_norm.around(apply)
        if name in remat:
            apply = data_dependence.recomputed(apply)
        with jax.named_scope(name):  # so that a profile says where the time goes
            own = plain(model.adapters, {name: params[name]})[name]
            x, updated = apply(*_cast(own, stats.get(name, {}), x, dtype))
        if name in moving and name in stats:
            stats = {**stats, name: updated['batch_stats']}
    return _at_least_float32(x) if last == len(names) else x, stats


def _cast(params: Params, stats: Stats, x: jax.Array, dtype: Dtype) -> tuple[Any, jax.Array]:
    """A stage's variables and its input, in what it computes in.

    BatchNorm keeps float32 parameters and casts its result itself. It is a layer with running
    statistics, or with a bias alone once it is folded (`fold.py`).
    """
    variables = {'params': params, 'batch_stats': stats}
    if dtype is Dtype.FLOAT32:
        return variables, _at_least_float32(x)
    names: dict[str, set[str]] = {}
    for path in tree.flatten(params):
        layer, _, name = path.rpartition('/')
        names.setdefault(layer, set()).add(name)
    kept = {path.rpartition('/')[0] for path in tree.flatten(stats)}
    kept |= {layer for layer, own in names.items() if own == {'bias'}}
    variables['params'] = tree.map_paths(
        lambda path, leaf: leaf if path.rpartition('/')[0] in kept else leaf.astype(dtype.value),
        params,
    )
    return variables, x.astype(dtype.value)


def _at_least_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def classify(
    model: Model, params: Params, stats: Stats, shown: jax.Array, *, multi_label: bool = False
) -> jax.Array:
    """Logits [B, K] of views [B, V, H, W, C] in [0, 255]; of several, see `views.average`."""
    x = normalise(model.preprocessing, shown.reshape(-1, *shown.shape[2:]))
    logits, _ = run(model, params, stats, x)
    return views.average(logits.reshape(*shown.shape[:2], -1), multi_label=multi_label)


def shapes(model: Model) -> tuple[Params, Stats]:
    """The parameters' and statistics' shapes, without computing anything."""
    return jax.eval_shape(lambda: _init(model, jax.random.key(0)))


def init(model: Model, key: jax.Array, *, given: Collection[str] = ()) -> tuple[Params, Stats]:
    """Random parameters and fresh statistics of all stages but those `given` from elsewhere.

    A stage's values depend on the key and its position only, not on what else is drawn.
    """
    # It runs once: on CPU, optimising it took three times as long as compiling it plainly.
    on_cpu = jax.default_backend() == 'cpu'
    options = {'xla_backend_optimization_level': 0} if on_cpu else {}

    @functools.partial(jax.jit, compiler_options=options)
    def draw(key: jax.Array) -> tuple[Params, Stats]:
        params, stats = _init(model, key)
        return _without(params, given), _without(stats, given)

    return draw(key)


def start(model: Model, params: Params, stats: Stats, key: jax.Array) -> tuple[Params, Stats]:
    """Values of all stages: those that are given, as they are, and random ones for the others.

    Args:
        model: the stages.
        params: of the stages that are given.
        stats: of the same stages.
        key: of the random ones.
    """
    if set(model.names) > params.keys():
        drawn = init(model, key, given=params.keys())
        params, stats = {**params, **drawn[0]}, {**stats, **drawn[1]}
    return ordered(model, params), ordered(model, stats)


def ordered(model: Model, stages: Mapping[str, Any]) -> dict[str, Any]:
    """What there is of each stage, in forward order; JAX sorts the keys of what it returns."""
    return {name: stages[name] for name in model.names if name in stages}


def _init(model: Model, key: jax.Array) -> tuple[Params, Stats]:
    x: Any = _one_image(model)
    params: Params = {}
    stats: Stats = {}
    for index, (name, stage) in enumerate(model.stages.items()):
        x, variables = stage.init_with_output(
            jax.random.fold_in(key, index),
            jnp.zeros(x.shape, x.dtype),  # only its shape counts: compiled, nothing is run
            deterministic=True,
            use_running_average=True,
        )
        params[name] = variables['params']
        if 'batch_stats' in variables:
            stats[name] = variables['batch_stats']
    return params, stats


def _one_image(model: Model) -> jax.ShapeDtypeStruct:
    size = model.preprocessing.size_px
    return jax.ShapeDtypeStruct((1, size, size, len(model.preprocessing.mean)), jnp.float32)


def _without(stages: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: leaves for name, leaves in stages.items() if name not in names}


def describe(model: Model, params: Params | None = None) -> list[tuple[str, tuple[int, ...], int]]:
    """Per stage: its name, the shape of its output for one image, its number of parameters.

    Args:
        model: the stages.
        params: what is counted; None for the stages' own.
    """
    own, stats = shapes(model)
    params = own if params is None else params
    x: Any = _one_image(model)
    rows = []
    for name, following in zip(model.names, [*model.names[1:], None], strict=True):

        def stage(p, s, x, name=name, following=following):
            return run(model, p, s, x, start=name, stop=following)[0]

        x = jax.eval_shape(stage, params, stats, x)
        total = sum(leaf.size for leaf in tree.flatten(params[name]).values())
        rows.append((name, x.shape[1:], total))
    return rows
