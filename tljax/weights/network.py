"""A pretrained network to use in Python: `tljax.load`."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tljax.config.experiment import PRETRAINED
from tljax.data import image_inputs
from tljax.models import preprocessing, stages
from tljax.models.stages import Model
from tljax.models.views import Centre, check
from tljax.records import console
from tljax.types import Backbone, Head, InputError, Params, Preprocessing, Stats, Views
from tljax.weights import image_options, loading
from tljax.weights.adapt import adapt
from tljax.weights.loading import Weights
from tljax.weights.pretrained import Origin, Pretrained

FAR = 10  # times the largest value of a normalised image: these are pixels as they were
BATCH_SIZE = 32  # images, or views of them, that `predict` has on the device at a time


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Network:
    """A network with its values, to be applied; what it is made of is there to be used alone.

    Attributes:
        model: its stages.
        params: its parameters, on the device.
        stats: its running statistics.
        backbone: the family and its hyperparameters.
        origin: where the weights came from.
        class_names: in the order of the logits, where they are known.
        multi_label: whether an image has a set of them; `predict` then asks for each alone.
        temperature: that `predict` divides the logits by; None if none was fitted.
        notes: what was replaced or adapted when it was loaded.
    """

    model: Model
    params: Params
    stats: Stats
    backbone: Backbone
    origin: Origin
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]
    multi_label: bool = False
    temperature: float | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """What it expects of an image."""
        return self.model.preprocessing

    def probabilities(self, logits: jax.Array, *, calibrated: bool = True) -> jax.Array:
        """Logits [B, K] to probabilities, divided by `temperature` first if there is one."""
        if calibrated and self.temperature is not None:
            logits = logits / self.temperature
        return stages.probabilities(logits, multi_label=self.multi_label)

    def __repr__(self) -> str:
        """One line: family, stages, parameters, classes, input and origin."""
        size, channels = self.preprocessing.size_px, len(self.preprocessing.mean)
        count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(self.params))
        return (
            f'Network({type(self.backbone).__name__}, stages {" ".join(self.model.names)}, '
            f'{count:,} parameters, {self.model.num_classes:,} classes, '
            f'images {size} x {size} x {channels}, weights {self.origin.source!r})'
        )

    def preprocess(self, images: Any) -> jax.Array:
        """Images as `logits` and `features` take them: resized, cut and normalised.

        Args:
            images: an array [h, w, C] uint8, a PIL image or the path of an image file; or a
                sequence of these, of any sizes, or an array [B, h, w, C] uint8.

        Returns:
            [B, size_px, size_px, C] float32; one image is a batch of one.

        Raises:
            InputError: another type, shape or dtype, or a file that is no readable image.
        """
        canvases = list(image_inputs.decoded(images, self.preprocessing))
        if not canvases:
            shape = (0, *(self.preprocessing.size_px,) * 2, len(self.preprocessing.mean))
            return jnp.zeros(shape, jnp.float32)
        return stages.normalise(self.preprocessing, jnp.asarray(image_inputs.batch(canvases)))

    def logits(self, x: Any) -> jax.Array:
        """Logits of normalised images.

        Args:
            x: [B, H, W, C] float32, as `preprocess` makes them.

        Returns:
            [B, K].

        Raises:
            InputError: integers, another shape, or values far beyond those of normalised images.
        """
        return self._run(self.params, self.stats, self._normalised(x), None)

    def features(self, x: Any, stage: str | None = None) -> jax.Array:
        """The output of a stage for normalised images.

        Args:
            x: [B, H, W, C] float32, as `preprocess` makes them.
            stage: one of `model.names`; None for the last before the head.

        Returns:
            Maps [B, h, w, F], tokens [B, T, F] or vectors [B, F], as the stage has them.

        Raises:
            InputError: there is no such stage, or `x` is refused as in `logits`.
        """
        names = self.model.names
        stage = names[-2] if stage is None else stage
        if stage not in names:
            raise InputError(f'stage is {stage!r}, wanted one of {list(names)}')
        following = [*names[1:], None][names.index(stage)]
        return self._run(self.params, self.stats, self._normalised(x), following)

    def predict(
        self, images: Any, views: Views | None = None, *, calibrated: bool = True
    ) -> np.ndarray:
        """The probability of every class, for images of any size.

        They are decoded as in training, and resized, cut and normalised as `preprocessing` says.
        Probabilities sum to 1, but for a network that was trained on images with several labels.

        Args:
            images: as `preprocess` takes them: arrays, PIL images or paths, one or several.
            views: of each image, whose probabilities are averaged; None for its centre.
            calibrated: whether the logits are divided by `temperature`, if there is one.

        Returns:
            [B, K] float32; one image is a batch of one.

        Raises:
            InputError: another type, shape or dtype, a file that is no readable image, or views
                that do not fit `preprocessing`.
        """
        views = views or Centre()
        check(views, self.preprocessing)
        canvases = image_inputs.decoded(images, self.preprocessing)
        found = [np.zeros((0, self.model.num_classes), np.float32)]
        rows = max(1, BATCH_SIZE // views.count)
        while part := list(itertools.islice(canvases, rows)):
            shown = views(jnp.asarray(image_inputs.batch(part)), self.preprocessing.size_px)
            found.append(np.asarray(self._predict(self.params, self.stats, shown, calibrated)))
        return np.concatenate(found)

    def _normalised(self, x: Any) -> jax.Array:
        """`x` as float32, if it can be a batch of normalised images."""
        channels = len(self.preprocessing.mean)
        advice = f'wanted normalised [B, H, W, {channels}] float32: use network.preprocess(images)'
        try:
            array = x if isinstance(x, np.ndarray) else jnp.asarray(x)
        except (TypeError, ValueError) as error:
            raise InputError(f'x is of type {type(x).__name__}, {advice}') from error
        fits = array.ndim == 4 and array.shape[-1] == channels
        if not (fits and jnp.issubdtype(array.dtype, jnp.floating)):
            raise InputError(f'x is {list(array.shape)} {array.dtype}, {advice}')
        if array.size and not isinstance(array, Tracer):
            largest = float(abs(array).max())
            if largest > FAR * _largest(self.preprocessing):
                raise InputError(f'x has values up to {largest:.6g}, {advice}')
        return jnp.asarray(array, jnp.float32)

    @functools.cached_property
    def _run(self):
        @functools.partial(jax.jit, static_argnums=3)
        def run(params: Params, stats: Stats, x: jax.Array, stop: str | None) -> jax.Array:
            return stages.run(self.model, params, stats, x, stop=stop)[0]

        return run

    @functools.cached_property
    def _predict(self):
        @functools.partial(jax.jit, static_argnums=3)
        def predict(params: Params, stats: Stats, shown: jax.Array, calibrated: bool) -> jax.Array:
            logits = stages.classify(self.model, params, stats, shown, multi_label=self.multi_label)
            return self.probabilities(logits, calibrated=calibrated)

        return predict


def _largest(preprocessing: Preprocessing) -> float:
    """The largest absolute value of a normalised image."""
    pairs = zip(preprocessing.mean, preprocessing.std, strict=True)
    return max(max(mean, 1 - mean) / std for mean, std in pairs)


def load(
    weights: Weights,
    num_classes: int | None = None,
    *,
    head: Head | str | None = None,
    backbone: Backbone | None = None,
    channels: int | None = None,
    size_px: int | None = None,
    preprocessing: Preprocessing | None = None,
    seed: int = 0,
    allow_nonfinite: bool = False,
) -> Network:
    """A pretrained network, recognised by its entries and brought to a task.

    Args:
        weights: a path, `torchvision:<name>`, `hf:<repo>`, an https address, `embedded:<name>`, a
            run's folder, or a state dict in memory `{name: array}`; see `weights`.
        num_classes: K; another one than the weights' own replaces their head by a new one. None
            keeps it.
        head: a new head (see `heads`), or `'pretrained'` for the weights' own. None: as
            `num_classes` says.
        backbone: the architecture; None to recognise it.
        channels: of the images; other ones than the weights' own adapt the first convolution.
        size_px: of the images that the network reads; None for the weights' own.
        preprocessing: in the place of the weights' own and of the two above.
        seed: of a new head's values.
        allow_nonfinite: whether the weights may hold NaN or infinite values, to look at them.

    Returns:
        The network, its values on the default device.

    Raises:
        InputError: the weights cannot be had, recognised, or fitted.
    """
    pretrained = loading.load(weights, backbone, allow_nonfinite=allow_nonfinite)
    classes = pretrained.num_classes
    if isinstance(head, str) and head != PRETRAINED:
        raise InputError(f'head is {head!r}, wanted {PRETRAINED!r}, None or an object of heads')
    keep_head = head == PRETRAINED or (head is None and num_classes in (None, classes))
    num_classes = num_classes or classes
    if num_classes is None:
        raise InputError(f'weights {pretrained.origin.source!r} have no head: give num_classes')
    architecture = pretrained.architecture
    if not keep_head:
        architecture = dataclasses.replace(architecture, head=head)
    shown = preprocessing or _preprocessing(pretrained, channels, size_px)
    model = architecture.build(num_classes, shown)
    adapted = adapt(pretrained, model, keep_head=keep_head)
    notes = (*pretrained.assumed, *adapted.notes)
    if preprocessing is None and not pretrained.origin.preprocessing_is_stated:
        notes = (*notes, image_options.assumed(pretrained.preprocessing))
    for note in notes:
        console.console.print(note, markup=False)
    values = stages.start(model, adapted.params, adapted.stats, jax.random.key(seed))
    # Stage by stage, so that not all of a mapped file is held twice at once.
    params, stats = (
        {
            name: jax.block_until_ready(jax.device_put(jax.tree.map(_owned, stage)))
            for name, stage in part.items()
        }
        for part in values
    )
    return Network(
        model=model,
        params=params,
        stats=stats,
        backbone=architecture.backbone,
        origin=pretrained.origin,
        class_names=pretrained.origin.class_names if keep_head else None,
        multi_label=pretrained.origin.multi_label and keep_head,
        temperature=pretrained.origin.temperature if keep_head else None,
        notes=notes,
    )


def _owned(leaf: Any) -> Any:
    """A leaf that is no view of the file or of the caller's array, which may change.

    On CPU, `jax.device_put` makes a view of an aligned, contiguous array, even with
    `may_alias=False`. Leaves in another order of axes are rearranged by it, and so copied.
    """
    contiguous = isinstance(leaf, np.ndarray) and leaf.flags.c_contiguous
    return leaf.copy() if contiguous else leaf


def _preprocessing(
    pretrained: Pretrained, channels: int | None, size_px: int | None
) -> Preprocessing:
    found = pretrained.preprocessing
    if size_px is not None:
        found = preprocessing.with_size(found, size_px)
    return found if channels is None else preprocessing.with_channels(found, channels)
