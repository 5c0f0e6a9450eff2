"""A network as a sequence of named stages, and a pure function that runs a slice of them."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from tljax import tree
from tljax.devices import Gather
from tljax.metrics.tasks.classes import Classes
from tljax.models import data_dependence, layers, recurrent, shared_programs, views
from tljax.models.layers import Pooling
from tljax.models.recurrent import CARRIED, concat_pool
from tljax.models.stochastic_norm import STREAM, StochNorm
from tljax.types import (
    Adapter,
    AnyPreprocessing,
    Backbone,
    Dtype,
    Head,
    InputError,
    Params,
    Preprocessing,
    Stats,
    Task,
    TextPreprocessing,
    images_of,
)

HEAD = 'head'
# Leaves of heads whose last axis has an element for each output.
HEAD_OUTPUTS = (
    f'params/{HEAD}/linear/bias',
    f'params/{HEAD}/projection/kernel',
    f'params/{HEAD}/linear/kernel',
)
GATHERED = 'gathered'  # the name of gathered parameters for `jax.checkpoint`
BEFORE = 'before'  # the variable that is the input of the stage before
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's conversion of RGB to gray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Stages in forward order, the head last, and the preprocessing of their input.

    Parameters can include leaves that `adapters` added.

    Attributes:
        stages: by their names.
        preprocessing: of the input.
        num_classes: K, the number of classes or of predicted numbers.
        adapters: that added leaves.
        task: what the outputs mean.
    """

    stages: Mapping[str, nn.Module]
    preprocessing: AnyPreprocessing
    num_classes: int
    adapters: tuple[Adapter, ...] = ()
    task: Task = dataclasses.field(default_factory=Classes)

    @property
    def images(self) -> Preprocessing:
        """See `types.images_of`."""
        return images_of(self.preprocessing)

    @property
    def names(self) -> tuple[str, ...]:
        """The stages' names in forward order."""
        return tuple(self.stages)

    @property
    def outputs(self) -> int:
        """O, the number of outputs."""
        return self.task.outputs(self.num_classes)

    def targets(self, labels: jax.Array) -> jax.Array:
        """The targets of the loss from the labels of a batch."""
        return self.task.targets(labels, self.num_classes)


def build(
    backbone: Backbone,
    num_classes: int,
    *,
    cut_after: str | None = None,
    head: Head | None = None,
    preprocessing: AnyPreprocessing | None = None,
    task: Task | None = None,
) -> Model:
    """The backbone's stages and a head for `num_classes`.

    Args:
        backbone: the family and its hyperparameters.
        num_classes: K.
        cut_after: the last stage to keep; the head follows it. None keeps all.
        head: the new head; None for the family's own.
        preprocessing: of the weights, if it differs from the family's.
        task: what the outputs mean; None for classes.

    Raises:
        InputError: `cut_after` names no stage, or the vocabulary does not fit the embedding.
    """
    task = task or Classes()
    stages = backbone.stages()
    if isinstance(preprocessing, TextPreprocessing):
        recurrent.check(stages, preprocessing)
    if cut_after is not None:
        if cut_after not in stages:
            raise InputError(f'cut_after is {cut_after!r}, wanted one of {list(stages)}')
        last = list(stages).index(cut_after)
        stages = dict(itertools.islice(stages.items(), last + 1))
    outputs = task.outputs(num_classes)
    stages[HEAD] = head.module(outputs) if head else backbone.head(outputs)
    return Model(
        stages=stages,
        preprocessing=preprocessing or backbone.preprocessing(),
        num_classes=num_classes,
        task=task,
    )


def normalise(preprocessing: AnyPreprocessing, images: jax.Array) -> jax.Array:
    """The first stage's input from rows of a batch, on the device.

    Images are cropped to their centre, and their channels are normalised. Texts stay as they are.

    Args:
        preprocessing: for images size, mean and standard deviation.
        images: [B, H, W, C] in [0, 255], any dtype; with one channel wanted, RGB becomes gray. Or
            texts, the numbers of their tokens [B, T].

    Returns:
        [B, size_px, size_px, C] float32, or [B, T].

    Raises:
        InputError: the images are smaller than `size_px`, or have other channels.
    """
    if isinstance(preprocessing, TextPreprocessing):
        return images
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


def plain(adapters: Sequence[Adapter], params: Params) -> Params:
    """The parameters of some stages with the leaves of adapters merged, as the stages need them."""
    for adapter in adapters:
        params = adapter.merged(params)
    return params


def with_tied(model: Model, params: Params, name: str, own: Params) -> Params:
    """The parameters of a stage, with those of other stages that it uses too.

    A stage names these by its attribute `tied`, `{leaf: path}`. They belong to the other stage, and
    are trained or frozen with it.

    Args:
        model: the stages.
        params: of all stages.
        name: of the stage.
        own: its own parameters, with adapters merged.
    """
    paths = getattr(model.stages[name], 'tied', {})
    if not paths:
        return own
    merged = {first: plain(model.adapters, {first: params[first]}) for first in _owners(paths)}
    leaves = tree.flatten({first: merged[first][first] for first in merged})
    return own | {leaf: leaves[path] for leaf, path in paths.items()}


def _owners(paths: Mapping[str, str]) -> set[str]:
    return {path.split('/')[0] for path in paths.values()}


def run(
    model: Model,
    params: Params,
    stats: Stats,
    x: jax.Array,
    *,
    start: str | None = None,
    stop: str | None = None,
    trainable: Collection[str] = (),
    updates_statistics: Collection[str] | None = None,
    dropout_key: jax.Array | None = None,
    dtype: Dtype = Dtype.FLOAT32,
    remat: Collection[str] = (),
    stochastic_norm: StochNorm | None = None,
    gather: Gather | None = None,
) -> tuple[jax.Array, Stats]:
    """Applies the stages from `start` up to, but not including, `stop` to `x`.

    Args:
        model: the stages.
        params: their parameters (others are ignored), with adapters' leaves added or merged.
        stats: their running statistics.
        x: the input of `start`: normalised images [B, H, W, 3], tokens [B, T] or the previous
            stage's output.
        start: the first stage to run; None is the network's first.
        stop: the stage to stop before; None runs to the logits.
        trainable: stages with trainable leaves.
        updates_statistics: stages whose BatchNorm uses and updates batch statistics; None for the
            trainable ones.
        dropout_key: turns on dropout in trainable stages.
        dtype: of the computation; BatchNorm's own arithmetic is always float32.
        remat: stages whose activations are recomputed in the backward pass.
        stochastic_norm: replaces BatchNorm where statistics are updated; draws with `dropout_key`.
        gather: see `devices.Gather`; None if every device has all parameters.

    Returns:
        The last stage's output, float32 if it is the logits, and `stats` with the updates.
    """
    updates_statistics = trainable if updates_statistics is None else updates_statistics
    names = model.names
    first = names.index(start) if start else 0
    last = names.index(stop) if stop else len(names)
    before = None  # the input of the stage before, with `gather`
    for index in range(first, last):
        name = names[index]
        rngs = {}
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, index)
        if name in trainable and key is not None:
            rngs['dropout'] = key
        if stochastic_norm and name in updates_statistics and key is not None:
            rngs[STREAM] = jax.random.fold_in(key, 0)
        apply = functools.partial(
            model.stages[name].apply,
            deterministic='dropout' not in rngs,
            use_running_average=name not in updates_statistics,
            rngs=rngs,
            mutable=['batch_stats'],
        )
        if stochastic_norm and STREAM in rngs:
            apply = stochastic_norm.around(apply)
        if gather:
            apply = _gathering(apply, gather)
        if name in remat:
            apply = data_dependence.recomputed(apply)
        with jax.named_scope(name):  # names the stage in profiles
            stage_params = plain(model.adapters, {name: params[name]})[name]
            stage_params = with_tied(model, params, name, stage_params)
            variables, x = _cast(stage_params, stats.get(name, {}), x, dtype)
            if gather:
                variables[BEFORE], before = before, x
            x, updated = apply(variables, x)
        if name in stats and (name in updates_statistics or CARRIED in stats[name]):
            stats = {**stats, name: updated['batch_stats']}
    return _at_least_float32(x) if last == len(names) else x, stats


def _gathering(
    apply: Callable[[Any, jax.Array], Any], gather: Gather
) -> Callable[[Any, jax.Array], Any]:
    """`apply(variables, x)` that gathers its parameters first, and again in the backward pass.

    The gathered parameters are therefore not in memory between both passes. They are gathered while
    the stage before is computed, and not earlier.
    """

    def gathered(variables: Any, x: jax.Array) -> Any:
        variables = dict(variables)
        params = gather(variables['params'], variables.pop(BEFORE))
        return apply({**variables, 'params': checkpoint_name(params, GATHERED)}, x)

    policy = jax.checkpoint_policies.save_anything_except_these_names(GATHERED)
    return jax.checkpoint(gathered, policy=policy)


def _cast(
    params: Params, stats: Stats, x: jax.Array, dtype: Dtype
) -> tuple[dict[str, Any], jax.Array]:
    """A stage's variables and input, cast to the dtype that it computes in.

    BatchNorm keeps float32 parameters and casts its result itself. It is a layer with running
    statistics or, once folded (`batch_norm_folding`), with only a bias.
    """
    variables: dict[str, Any] = {'params': params, 'batch_stats': stats}
    tokens = jnp.issubdtype(x.dtype, jnp.integer)
    if dtype is Dtype.FLOAT32:
        return variables, x if tokens else _at_least_float32(x)
    names: dict[str, set[str]] = {}
    for path in tree.flatten(params):
        layer, _, name = path.rpartition('/')
        names.setdefault(layer, set()).add(name)
    kept = {path.rpartition('/')[0] for path in tree.flatten(stats)}
    kept |= {layer for layer, leaves in names.items() if leaves == {'bias'}}
    variables['params'] = tree.map_paths(
        lambda path, leaf: leaf if path.rpartition('/')[0] in kept else leaf.astype(dtype.value),
        params,
    )
    return variables, x if tokens else x.astype(dtype.value)


def _at_least_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def classify(
    model: Model,
    params: Params,
    stats: Stats,
    images: jax.Array,
    *,
    gather: Gather | None = None,
) -> jax.Array:
    """Outputs [B, O] of views [B, V, H, W, C] in [0, 255], averaged by `views.average`.

    `gather` is that of `run`.
    """
    x = normalise(model.preprocessing, images.reshape(-1, *images.shape[2:]))
    logits, _ = run(model, params, stats, x, gather=gather)
    several = logits.reshape(*images.shape[:2], *logits.shape[1:])
    return views.average(several, model.task)


def pooled(model: Model, x: jax.Array, pooling: Pooling = Pooling.AVERAGE) -> jax.Array:
    """The output of a stage as vectors [B, F]; see `layers.pool`, and for text `concat_pool`."""
    text = isinstance(model.preprocessing, TextPreprocessing)
    return concat_pool(x) if text else layers.pool(x, pooling)


def outputs_of_head(shapes: Mapping[str, Sequence[int]]) -> int | None:
    """O of a head, by the shapes of a network's leaves, `{path: shape}`; None without a head."""
    ends = [shapes[path][-1] for path in HEAD_OUTPUTS if len(shapes.get(path, ()))]
    return int(ends[0]) if ends else None


def shapes(model: Model) -> tuple[Params, Stats]:
    """The shapes of parameters and statistics, without computing them."""
    return jax.eval_shape(lambda: _init(model, jax.random.key(0)))


def init(model: Model, key: jax.Array, *, skip: Collection[str] = ()) -> tuple[Params, Stats]:
    """Random parameters and fresh statistics of all stages except those to skip.

    A stage's values depend only on the key and its position, not on which stages are drawn.
    """
    # It runs once, and on CPU optimising the program takes three times as long as compiling it.
    on_cpu = jax.default_backend() == 'cpu'
    options = {'xla_backend_optimization_level': 0} if on_cpu else {}

    @functools.partial(jax.jit, compiler_options=options)
    def draw(key: jax.Array) -> tuple[Params, Stats]:
        params, stats = _init(model, key)
        return _without(params, skip), _without(stats, skip)

    # Adapters have no part in it.
    needed = 'init', dict(model.stages), model.preprocessing.first_input(1), set(skip)
    return shared_programs.lasting(needed, lambda: draw)(key)


def start(model: Model, params: Params, stats: Stats, key: jax.Array) -> tuple[Params, Stats]:
    """The given values of some stages, completed by random values for the others.

    Args:
        model: the stages.
        params: of the given stages.
        stats: of the same stages.
        key: for the random values.
    """
    if set(model.names) > params.keys():
        drawn = init(model, key, skip=params.keys())
        params, stats = {**params, **drawn[0]}, {**stats, **drawn[1]}
    return ordered(model, params), ordered(model, stats)


def ordered(model: Model, stages: Mapping[str, Any]) -> dict[str, Any]:
    """The given stages' values in forward order; JAX sorts the keys of what it returns."""
    return {name: stages[name] for name in model.names if name in stages}


def _init(model: Model, key: jax.Array) -> tuple[Params, Stats]:
    x: Any = model.preprocessing.first_input(1)
    params: Params = {}
    stats: Stats = {}
    for index, (name, stage) in enumerate(model.stages.items()):
        x, variables = stage.init_with_output(
            jax.random.fold_in(key, index),
            jnp.zeros(x.shape, x.dtype),  # compiled away, because only its shape is used
            deterministic=True,
            use_running_average=True,
        )
        tied = getattr(stage, 'tied', {})
        params[name] = {n: leaf for n, leaf in variables['params'].items() if n not in tied}
        if 'batch_stats' in variables:
            stats[name] = variables['batch_stats']
    return params, stats


def _without(stages: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: leaves for name, leaves in stages.items() if name not in names}


def describe(model: Model, params: Params | None = None) -> list[tuple[str, tuple[int, ...], int]]:
    """For each stage: its name, its output's shape for one image, its number of parameters.

    Args:
        model: the stages.
        params: the parameters to count; None for the stages' own.
    """
    initial, stats = shapes(model)
    params = initial if params is None else params
    x: Any = model.preprocessing.first_input(1)
    rows = []
    for name, following in zip(model.names, [*model.names[1:], None], strict=True):

        def stage(p, s, x, name=name, following=following):
            return run(model, p, s, x, start=name, stop=following)[0]

        x = jax.eval_shape(stage, params, stats, x)
        total = sum(leaf.size for leaf in tree.flatten(params[name]).values())
        rows.append((name, x.shape[1:], total))
    return rows
