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
from tljax.data import inputs
from tljax.models import preprocessing, stages
from tljax.models.stages import Model
from tljax.models.views import Centre, check
from tljax.records import console
from tljax.types import (
    AnyPreprocessing,
    Backbone,
    Head,
    InputError,
    Params,
    Preprocessing,
    Stats,
    Task,
    TextPreprocessing,
    Views,
    images_of,
)
from tljax.weights import description, image_options, loading
from tljax.weights.adapt import adapt
from tljax.weights.loading import Weights
from tljax.weights.pretrained import Origin, Pretrained

FAR = 10  # values beyond this multiple of the largest normalised value are raw pixels
BATCH_SIZE = 32  # images or views that `predict` puts on the device at a time


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Network:
    """A network with its parameters, ready to be applied.

    Attributes:
        model: the stages.
        params: the parameters, on the device.
        stats: the running statistics.
        backbone: the family and its hyperparameters.
        origin: the source of the weights.
        class_names: in the order of the logits; None if unknown.
        temperature: the divisor of the logits in `predict`; None if none was fitted.
        notes: a sentence for everything that loading replaced, adapted or assumed.
    """

    model: Model
    params: Params
    stats: Stats
    backbone: Backbone
    origin: Origin
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]
    temperature: float | None = None

    @property
    def preprocessing(self) -> AnyPreprocessing:
        """The preprocessing that the weights expect."""
        return self.model.preprocessing

    @property
    def task(self) -> Task:
        """What the logits mean, and thus what `predict` returns."""
        return self.model.task

    @property
    def multi_label(self) -> bool:
        """Whether an image has a set of labels; `predict` returns independent probabilities."""
        return self.task.multi_label

    def probabilities(self, logits: jax.Array, *, calibrated: bool = True) -> jax.Array:
        """The probabilities [B, K] from logits [B, K]; `calibrated` divides by `temperature`."""
        if calibrated and self.temperature is not None:
            logits = logits / self.temperature
        return self.task.predicted(logits)

    def __repr__(self) -> str:
        """One line: family, stages, parameters, classes, input and origin."""
        count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(self.params))
        return (
            f'Network({type(self.backbone).__name__}, stages {" ".join(self.model.names)}, '
            f'{count:,} parameters, {self.task.counted(self.model.num_classes)}, '
            f'{inputs.described(self.preprocessing)}, weights {self.origin.source!r})'
        )

    def _repr_html_(self) -> str:
        return description.html(self)

    def preprocess(self, images: Any) -> jax.Array:
        """Resizes, crops and normalises images for `logits` and `features`.

        Args:
            images: an array [h, w, C] uint8, a PIL image or the path of an image file; or a
                sequence of these, of any sizes, or an array [B, h, w, C] uint8. For a network of
                text a text, or a sequence of texts.

        Returns:
            [B, size_px, size_px, C] float32, or the numbers of tokens [B, most_tokens]; one image
            or text is a batch of one.

        Raises:
            InputError: an image has another type, shape or dtype, or a file cannot be read.
        """
        rows = list(inputs.decoded(images, self.preprocessing))
        if not rows:
            shape = self.preprocessing.first_input(0)
            return jnp.zeros(shape.shape, shape.dtype)
        return stages.normalise(self.preprocessing, jnp.asarray(inputs.batch(rows)))

    def logits(self, x: Any) -> jax.Array:
        """Logits of normalised images.

        Args:
            x: [B, H, W, C] float32, or of texts [B, T] int32: the result of `preprocess`.

        Returns:
            [B, K].

        Raises:
            InputError: `x` has integers, another shape, or values that are not normalised.
        """
        return self._run(self.params, self.stats, self._normalised(x), None)

    def features(self, x: Any, stage: str | None = None) -> jax.Array:
        """The output of a stage for normalised images.

        Args:
            x: [B, H, W, C] float32, the result of `preprocess`.
            stage: one of `model.names`; None for the last one below the head.

        Returns:
            Maps [B, h, w, F], tokens [B, T, F] or vectors [B, F], as the stage gives them.

        Raises:
            InputError: the stage does not exist, or `logits` would refuse `x`.
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
        """The probability of every class for images of any size.

        Images are decoded as in training and preprocessed as `preprocessing` states. The
        probabilities of an image sum to 1, except with `multi_label`.

        Args:
            images: one or several, as for `preprocess`.
            views: of each image; their probabilities are averaged. None for the centre.
            calibrated: whether the logits are divided by `temperature`, if there is one.

        Returns:
            [B, K] float32; one image is a batch of one. Numbers are in the units of the labels; if
            variances were trained, K standard deviations follow them.

        Raises:
            InputError: `preprocess` would refuse the images, or the views do not fit
                `preprocessing`.
        """
        views = views or Centre()
        check(views, self.preprocessing)
        decoded = inputs.decoded(images, self.preprocessing)
        outputs = jax.ShapeDtypeStruct((0, self.model.outputs), jnp.float32)
        parts = [np.zeros(jax.eval_shape(self.task.predicted, outputs).shape, np.float32)]
        rows = max(1, BATCH_SIZE // views.count)
        while chunk := list(itertools.islice(decoded, rows)):
            x = self.preprocessing.viewed(views, jnp.asarray(inputs.batch(chunk)))
            parts.append(np.asarray(self._predict(self.params, self.stats, x, calibrated)))
        return np.concatenate(parts)

    def _normalised(self, x: Any) -> jax.Array:
        """`x` as float32, after checking that it can be a batch of normalised images.

        Texts are checked to be numbers of tokens.
        """
        if isinstance(self.preprocessing, TextPreprocessing):
            return _tokens(x)
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
        def predict(params: Params, stats: Stats, x: jax.Array, calibrated: bool) -> jax.Array:
            logits = stages.classify(self.model, params, stats, x)
            return self.probabilities(logits, calibrated=calibrated)

        return predict


def _tokens(x: Any) -> jax.Array:
    """[B, T] int32."""
    array = jnp.asarray(x)
    if array.ndim != 2 or not jnp.issubdtype(array.dtype, jnp.integer):
        raise InputError(
            f'x is {list(array.shape)} {array.dtype}, wanted numbers of tokens [B, T]: use '
            'network.preprocess(texts)'
        )
    return array.astype(jnp.int32)


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
    preprocessing: AnyPreprocessing | None = None,
    seed: int = 0,
    allow_nonfinite: bool = False,
) -> Network:
    """Loads a pretrained network, which is recognised by its entries, for a task.

    Args:
        weights: a path, `torchvision:<name>`, `hf:<repo>`, an https address, `embedded:<name>`, a
            run's folder, or a state dict in memory `{name: array}`; see `loading`.
        num_classes: K; if it differs from the pretrained head's, the head is replaced. None keeps
            the head.
        head: a new head (see `heads`), or `'pretrained'` to keep the head. None lets `num_classes`
            decide.
        backbone: the architecture; None to recognise it.
        channels: of the images; the first convolution is adapted to them. None for the weights'.
        size_px: of the images that the network reads; None for the weights'.
        preprocessing: replaces the weights' preprocessing, `channels` and `size_px`.
        seed: for the values of a new head.
        allow_nonfinite: whether the weights may contain NaN or infinite values.

    Returns:
        The network with its parameters on the default device.

    Raises:
        InputError: the weights cannot be read, recognised or adapted.
    """
    pretrained = loading.load(weights, backbone, allow_nonfinite=allow_nonfinite)
    classes = pretrained.num_classes
    if isinstance(head, str) and head != PRETRAINED:
        raise InputError(
            f'head is {head!r}, wanted {PRETRAINED!r}, None or a head such as LinearHead()'
        )
    keep_head = head == PRETRAINED or (head is None and num_classes in (None, classes))
    num_classes = num_classes or classes
    if num_classes is None:
        raise InputError(f'weights {pretrained.origin.source!r} have no head: give num_classes')
    architecture = pretrained.architecture
    if not keep_head:
        architecture = dataclasses.replace(architecture, head=head)
    images = preprocessing or _preprocessing(pretrained, channels, size_px)
    model = architecture.build(num_classes, images, pretrained.origin.task if keep_head else None)
    adapted = adapt(pretrained, model, keep_head=keep_head)
    notes = (*pretrained.assumed, *adapted.notes)
    if preprocessing is None and not pretrained.origin.preprocessing_is_stated:
        notes = (*notes, _assumed(pretrained.preprocessing))
    for note in notes:
        console.console.print(note, markup=False)
    values = stages.start(model, adapted.params, adapted.stats, jax.random.key(seed))
    params, stats = map(_on_device, values)
    return Network(
        model=model,
        params=params,
        stats=stats,
        backbone=architecture.backbone,
        origin=pretrained.origin,
        class_names=pretrained.origin.class_names if keep_head else None,
        temperature=pretrained.origin.temperature if keep_head else None,
        notes=notes,
    )


def _assumed(usual: AnyPreprocessing) -> str:
    """The note on preprocessing that the weights do not state."""
    if isinstance(usual, TextPreprocessing):
        return 'The weights state no vocabulary, which only preprocessing= can give.'
    return image_options.assumed(usual)


def _on_device(values: dict[str, Any]) -> dict[str, Any]:
    """Copies of stages on the device; one at a time, so that a mapped file is not held twice."""
    return {
        name: jax.block_until_ready(jax.device_put(jax.tree.map(_copied, stage)))
        for name, stage in values.items()
    }


def _copied(leaf: Any) -> Any:
    """A copy of a leaf that `jax.device_put` would not copy.

    The file or the caller's array may change later. On CPU, `jax.device_put` makes a view of an
    aligned, contiguous array, even with `may_alias=False`. It rearranges leaves in another order of
    axes, and thus copies them.
    """
    contiguous = isinstance(leaf, np.ndarray) and leaf.flags.c_contiguous
    return leaf.copy() if contiguous else leaf


def _preprocessing(
    pretrained: Pretrained, channels: int | None, size_px: int | None
) -> AnyPreprocessing:
    if channels is None and size_px is None:
        return pretrained.preprocessing
    images = images_of(pretrained.preprocessing)
    if size_px is not None:
        images = preprocessing.with_size(images, size_px)
    return images if channels is None else preprocessing.with_channels(images, channels)
