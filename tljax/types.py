"""Axis letters, the types that every module shares, and the contract of each extension point.

Axis letters, used in every docstring:

    B batch    H height    W width    C channel    F feature    K class    N examples
    T token    V token of the vocabulary
    S class of the upstream task    Z class of a source of samples    O output of the head

An extension point is a small dataclass that a config constructs. Its fields are its
hyperparameters and its methods are pure functions. Any class with the methods below will do:
nothing inherits from these protocols and nothing is registered.
"""

import dataclasses
import enum
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

Array = jax.Array | np.ndarray
Params = dict[str, Any]  # {stage: {...: array}}; the top-level keys are the model's stages
UNKNOWN, PADDING = 'xxunk', 'xxpad'  # tokens of every vocabulary of text, as in fastai
FILLING = 'xxfake'  # fills fastai's vocabularies up to a multiple of 8
Range = tuple[float, float]  # values that become 0 and 255, in images deeper than 8 bits
Stats = dict[str, Any]  # the same for running statistics; stages without any are absent


class InputError(ValueError):
    """Invalid user input; the message says what, where, what was found and what was wanted."""


class MisfitError(InputError):
    """Leaves of a known family in a variant that it does not support; the message says which."""


class Batch(TypedDict):
    """One step's input. Evaluation pads the last batch; `mask` marks the real rows."""

    input: Array  # [B, ...], as `Preprocessing.row` states: images [B, H, W, 3] uint8, tokens, ...
    label: Array  # [B, ...], as `Task.label_shape` and `Task.label_dtype` state
    id: Array  # [B] int64 on the host; identifies the example in every order and subset
    mask: Array  # [B] bool
    source: NotRequired['Batch']  # rows of a source of samples, in addition to the target's


class Interpolation(enum.Enum):
    """Resampling filter, antialiased as in Pillow."""

    BILINEAR = 'bilinear'
    BICUBIC = 'bicubic'


def gray_range_problems(gray_range: Sequence[float]) -> list[str]:
    """The problems of a range of gray values, one message each."""
    if len(gray_range) == 2 and math.isfinite(sum(gray_range)) and gray_range[0] < gray_range[1]:
        return []
    return [f'gray_range is {gray_range}, wanted two finite numbers, the lower one first']


@dataclasses.dataclass(slots=True, kw_only=True)
class Preprocessing:
    """The preprocessing that a network's weights expect; it is stored with the weights.

    The short side is resized to `resize_px`, the central square of `size_px` is cut out, and
    channels (RGB, scaled to [0, 1]) become `(x - mean) / std`. `mean` and `std` have a value for
    each channel that the network reads; with one value, color images are converted to gray.

    Attributes:
        size_px: side of the image that the network reads.
        resize_px: the short side of an image before the square is cut out.
        interpolation: the filter of resizing.
        mean: of each channel, of values from 0 to 1.
        std: of each channel.
        scaled_decoding: whether large JPEGs are decoded at a smaller size: twice as fast, slightly
            inexact.
        gray_range: black and white of images with more than 8 bits; none if unknown.
    """

    size_px: int = 224
    resize_px: int = 256
    interpolation: Interpolation = Interpolation.BILINEAR
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    scaled_decoding: bool = False
    gray_range: tuple[float, ...] | None = None
    inputs: ClassVar[str] = 'images'

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = []
        if self.size_px < 1:
            problems.append(f'size_px is {self.size_px}, wanted more than 0')
        elif self.size_px > self.resize_px:
            problems.append(
                f'size_px is {self.size_px}, wanted at most resize_px, {self.resize_px}'
            )
        if not self.mean:
            problems.append('mean is (), wanted a value for each channel')
        if len(self.std) != len(self.mean) or min(self.std, default=0) <= 0:
            problems.append(f'std is {self.std}, wanted {len(self.mean)} values more than 0')
        if self.gray_range is not None:
            problems += gray_range_problems(self.gray_range)
        return problems

    def row(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a row of a batch: an image [resize_px, resize_px, 3] uint8."""
        return jax.ShapeDtypeStruct((self.resize_px, self.resize_px, 3), jnp.uint8)

    def first_input(self, rows: int) -> jax.ShapeDtypeStruct:
        """The shape and dtype of the first stage's input: normalised images [B, H, W, C]."""
        shape = (rows, self.size_px, self.size_px, len(self.mean))
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def viewed(self, views: 'Views', rows: jax.Array) -> jax.Array:
        """The views [B, V, size_px, size_px, C] of the images of a batch."""
        return views(rows, self.size_px)


@dataclasses.dataclass(slots=True, kw_only=True)
class TextPreprocessing:
    """How a network's weights expect their text; it is stored with the weights.

    A text becomes tokens by the rules of `data.text_tokens`, and token i of `vocabulary` becomes
    the number i. Rows are padded at their end with the number of `PADDING`. Without a vocabulary
    it is built from the training split.

    Attributes:
        vocabulary: the token of each number; () if none is known yet.
        most_tokens: tokens in a row; of a longer text the beginning is read.
        backward: whether a network reads the tokens from the last to the first.
    """

    vocabulary: tuple[str, ...] = ()
    most_tokens: int = 512
    backward: bool = False
    inputs: ClassVar[str] = 'texts'

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = []
        if self.most_tokens < 1:
            problems.append(f'most_tokens is {self.most_tokens}, wanted more than 0')
        tokens = [one for one in self.vocabulary if one != FILLING]
        if len(set(tokens)) < len(tokens):
            problems.append('vocabulary has a token twice')
        lacking = [one for one in (UNKNOWN, PADDING) if one not in self.vocabulary]
        if self.vocabulary and lacking:
            problems.append(f'vocabulary lacks {" and ".join(lacking)}')
        return problems

    @property
    def padding(self) -> int:
        """The number of the padding token."""
        return self.vocabulary.index(PADDING)

    def row(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a row of a batch: numbers of tokens [most_tokens] int32."""
        return jax.ShapeDtypeStruct((self.most_tokens,), jnp.int32)

    def first_input(self, rows: int) -> jax.ShapeDtypeStruct:
        """The shape and dtype of the first stage's input: numbers of tokens [B, T]."""
        return jax.ShapeDtypeStruct((rows, self.most_tokens), jnp.int32)

    def viewed(self, views: 'Views', rows: jax.Array) -> jax.Array:
        """The rows [B, 1, T] themselves, because a text has one view."""
        return rows[:, None]


# What a network's weights expect of their input; both have the methods that training needs.
AnyPreprocessing = Preprocessing | TextPreprocessing


def images_of(preprocessing: AnyPreprocessing) -> Preprocessing:
    """The preprocessing of images, for what works with images only.

    Raises:
        InputError: it is that of a network that reads text.
    """
    if isinstance(preprocessing, Preprocessing):
        return preprocessing
    raise InputError('the network reads text, and this works with images only')


class Dtype(enum.Enum):
    """The dtype that a network computes in; parameters, statistics and losses stay float32."""

    FLOAT32 = 'float32'
    BFLOAT16 = 'bfloat16'


class Sharding(enum.Enum):
    """How the state of training is placed on the devices; it affects only rounding."""

    REPLICATED = 'replicated'  # every device holds all of it
    FSDP = 'fsdp'  # every device holds a part, and a stage's parameters are gathered when it runs


@dataclasses.dataclass(slots=True, kw_only=True)
class MeshShape:
    """The devices of a run as a table; a batch is split over all of them.

    Attributes:
        data: rows of the table; each row holds the complete state. None: as many as there are.
        model: devices in a row, which the state is split over; None: all devices of a row with
            `Sharding.FSDP`, 1 with `Sharding.REPLICATED`.
    """

    data: int | None = None
    model: int | None = None

    def problems(self) -> list[str]:
        """See `config.validation`."""
        lengths = {'data': self.data, 'model': self.model}
        return [
            f'{name} is {length}, wanted more than 0'
            for name, length in lengths.items()
            if length is not None and length < 1
        ]


class Balance(enum.Enum):
    """How class imbalance is handled."""

    NONE = 'none'
    SAMPLE = 'sample'  # samples all classes equally often, repeating rare examples; one label only
    WEIGH = 'weigh'  # weights the loss by inverse frequency; with several labels, the positives'


class CachePrefix(enum.Enum):
    """Whether the outputs of the frozen stages are computed once and cached."""

    AUTO = 'auto'  # if it saves work: images repeat without augmentation, and memory suffices
    ALWAYS = 'always'  # also for augmented views, which other runs can share; an error if it cannot
    NEVER = 'never'


class OnNonfinite(enum.Enum):
    """What happens at a training step whose loss, gradient or update is not finite."""

    STOP = 'stop'  # the run ends and names the step; nothing is saved after it
    SKIP = 'skip'  # the step changes nothing and is counted; several in a row end the run


class BadFiles(enum.Enum):
    """What happens to a file that cannot be read as an image."""

    ERROR = 'error'  # the run does not start; the message names all of them
    SKIP = 'skip'  # they are left out, counted, and listed in the workdir


@dataclasses.dataclass(slots=True, kw_only=True)
class Findings:
    """Files that a source skipped, and notes; printed at the start of a run and kept in its folder.

    Attributes:
        policy: what happens to unreadable files.
        notes: messages for the user.
        bad: `{file: problem}`.
        deep: files deeper than 8 bits.
        gray_range: computes the black and white of the deep files from the training split.
    """

    policy: BadFiles = BadFiles.ERROR
    notes: list[str] = dataclasses.field(default_factory=list)
    bad: dict[str, str] = dataclasses.field(default_factory=dict)
    deep: set[str] = dataclasses.field(default_factory=set)
    gray_range: Callable[[], Range] | None = None


@runtime_checkable
class Encoded(Protocol):
    """An encoded image: a file, or a record of a larger one; `str()` names it."""

    def read(self) -> bytes:
        """The encoded bytes."""
        ...

    def stamp(self) -> str:
        """Its location and version without reading it; changes when the bytes do."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """One split of a data set, with random access.

    `load(i)` returns image i as [h, w, 3] uint8, of any size, or text i as a string. `ids` are the
    same in every subset and order, so random draws can depend on the example. `encoded` holds the
    same images or texts as stored; None if they are in memory. `task` states what the labels are;
    None for classes [N], or sets of classes [N, K] (`metrics.tasks.choice.of` decides).
    """

    load: Callable[[int], Any]
    labels: np.ndarray  # [N, ...]: classes [N] int32, sets of classes [N, K] uint8 (multi-hot), ...
    ids: np.ndarray  # [N] int64
    class_names: tuple[str, ...]  # K of them; the names of the numbers if labels are numbers
    encoded: Sequence[Encoded] | None = None  # N of them
    findings: Findings | None = None  # shared by the splits of a source
    task: 'Task | None' = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> 'Examples':
        """The examples at `indices` [M], in that order."""
        load, encoded = self.load, self.encoded
        return dataclasses.replace(
            self,
            load=lambda i: load(int(indices[i])),
            labels=self.labels[indices],
            ids=self.ids[indices],
            encoded=None if encoded is None else [encoded[int(i)] for i in indices],
        )


@runtime_checkable
class DataSource(Protocol):
    """A data set."""

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` if the data set has them."""
        ...


@runtime_checkable
class Stage(Protocol):
    """One named stage of a network: a Flax module called as below."""

    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array: ...


@runtime_checkable
class Backbone(Protocol):
    """An architecture family: named stages, and their names in other libraries."""

    weights: str | None

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        ...

    def head(self, num_classes: int) -> nn.Module:
        """The family's own head: the layers after the last stage of the published network."""
        ...

    def port_tables(self) -> Mapping[str, Sequence[Any]]:
        """Tables (of `port_rules.PortRule`) from foreign names to ours, by the name of the library.

        Libraries with the same names have the same table.
        """
        ...

    def preprocessing(self) -> AnyPreprocessing:
        """The preprocessing of the family's published weights, unless the file overrides it."""
        ...


@runtime_checkable
class Recognisable(Backbone, Protocol):
    """A backbone that can be recognised from the entries of a state dict."""

    @classmethod
    def variants(cls) -> Sequence[Any]:
        """Members whose tables together can name the entries of any member."""
        ...

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> Any:
        """The member with leaves of these paths and shapes; None if there is none.

        Args:
            shapes: `{path: shape}`.
            naming: the table that named them; some libraries use other constants.

        Raises:
            MisfitError: the leaves are the family's, in a variant that it does not support.
        """
        ...


@runtime_checkable
class Head(Protocol):
    """A replacement for the family's own head, applied after the last stage of a backbone."""

    def module(self, num_classes: int) -> nn.Module:
        """A stage from [B, H, W, C] maps, [B, T, F] tokens or [B, F] vectors to [B, K] logits.

        Its last linear layer is called `linear`.
        """
        ...


@dataclasses.dataclass(slots=True, kw_only=True)
class Rule:
    """What happens to the leaves under one path: frozen, or trained with scaled rates.

    `pattern` is matched segment by segment from the top: `*` within a segment is a wildcard,
    `**` is any number of segments, and everything below a match is included. `stage1` covers
    `stage1/block1/conv1/kernel` and not `stage10/...`; `**/bias` covers every bias.

    Attributes:
        pattern: of the paths of parameters.
        train: whether they are trained.
        learning_rate_scale: multiplies their learning rate.
        weight_decay_scale: multiplies their weight decay.
    """

    pattern: str
    train: bool = True
    learning_rate_scale: float = 1.0
    weight_decay_scale: float = 1.0


@runtime_checkable
class Schedule(Protocol):
    """A learning-rate schedule, as a multiplier of the optimizer's learning rate."""

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """A function of the step within the phase (0 is the first) to a factor >= 0."""
        ...


class Rates(enum.Enum):
    """What scales a phase's learning rates in addition to its rules."""

    FIXED = 'fixed'
    GRADIENT = 'gradient'  # each stage's gradient norm divided by its parameter norm


@runtime_checkable
class Solver(Protocol):
    """Minimises an objective over the trainable parameters, without steps on batches."""

    def __call__(
        self, objective: Callable[[Params, Any], jax.Array], start: Params, data: Any
    ) -> 'Solution':
        """The parameters [a tree like `start`] that minimise `objective(params, data)`.

        `data` is a tree of arrays. It is passed as an argument and not compiled in as a constant,
        because it can be as large as the features of all images.
        """
        ...


class Solution(NamedTuple):
    """A solver's result."""

    params: Params
    value: jax.Array  # [] the objective at `params`, including the solver's own penalties
    gradient_norm: jax.Array  # []
    iterations: jax.Array  # [] int32


@dataclasses.dataclass(slots=True, kw_only=True)
class Phase:
    """A part of training with one table of rules; the first rule that matches a leaf decides.

    `epochs` and `schedule` default to the experiment's; `steps` can replace `epochs`. With
    `patience` the phase ends after that many evaluations on validation without a new best, and
    restores the values of its best evaluation. With a `solver` the phase has no steps: the
    trainable leaves, all in the head, are fitted to the unaugmented training images.

    Attributes:
        rules: in order; the first that matches a parameter decides.
        epochs: of the phase; none for the experiment's.
        steps: of the phase, instead of `epochs`.
        schedule: of the learning rate; none for the experiment's.
        rates: whether rates of stages are fixed or follow their gradients.
        patience: evaluations without improvement after which the phase ends; none for no limit.
        solver: fits the head instead of steps; none for steps.
    """

    rules: tuple[Rule, ...]
    epochs: float | None = None
    steps: int | None = None
    schedule: Schedule | None = None
    rates: Rates = Rates.FIXED
    patience: int | None = None
    solver: Solver | None = None

    def problems(self) -> list[str]:
        """Messages about invalid fields."""
        problems = []
        if self.epochs is not None and self.steps is not None:
            problems.append(
                f'epochs is {self.epochs} and steps is {self.steps}, wanted one of them'
            )
        for name in ('epochs', 'steps', 'patience'):
            value = getattr(self, name)
            if value is not None and not value > 0:
                problems.append(f'{name} is {value}, wanted more than 0')
        return problems


@runtime_checkable
class Strategy(Protocol):
    """A way of fine-tuning: which parameters train, and when."""

    @property
    def pretrained(self) -> bool:
        """Whether training starts from the backbone's weights instead of random ones."""
        ...

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """The phases for these parameters (or their shapes), the stages in forward order.

        JAX sorts the keys of a dict that it returns; `stages.ordered` restores the order.

        Raises:
            InputError: the model lacks what the strategy trains, or its stages are out of order.
        """
        ...


class Norm(enum.Enum):
    """How normalisation layers are treated, in addition to the strategy's rules.

    Statistics are BatchNorm's running mean and variance. Scale and bias are those of every kind
    of normalisation layer. No policy trains leaves that the rules freeze.

        AUTO             statistics are updated in stages with trainable leaves and fixed in the
                         others; scale and bias follow the rules
        FROZEN           statistics are fixed everywhere; scale and bias are frozen
        AFFINE_ONLY      statistics are fixed everywhere; scale and bias follow the rules
        STATISTICS_ONLY  statistics are updated everywhere; scale and bias are frozen
        LIVE             statistics are updated everywhere, also in frozen stages; scale and bias
                         follow the rules
    """

    AUTO = 'auto'
    FROZEN = 'frozen'
    AFFINE_ONLY = 'affine_only'
    STATISTICS_ONLY = 'statistics_only'
    LIVE = 'live'


ADAPTER = 'adapter'  # `LAYER/adapter/...` are the leaves that an adapter adds to a layer


@runtime_checkable
class Adapter(Protocol):
    """Extra leaves for pretrained layers, which merge into the layers' own leaves.

    The leaves are merged before the stages are applied, in training steps too, so the stages need
    no change and every backbone can be adapted.
    """

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """`{path: leaf}` to add at `LAYER/adapter/...`; they do not change the output yet.

        Args:
            params: of all stages, or their shapes.
            key: for random initial values.

        Raises:
            InputError: no layer fits.
        """
        ...

    def merged(self, params: Params) -> Params:
        """The parameters of some stages with the added leaves merged and removed."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """An update rule; weight decay is scaled per group of leaves.

    `transform` uses the learning rate that it gets. It must not read the attribute
    `learning_rate`, because runs with different learning rates share a compiled program.
    """

    learning_rate: float

    def transform(
        self, learning_rate: optax.Schedule, weight_decay_scale: float
    ) -> optax.GradientTransformation:
        """The optax transformation for one group of leaves."""
        ...


@runtime_checkable
class Loss(Protocol):
    """A loss per example.

    A loss whose targets must sum to 1, so that it needs exactly one label per image, has the class
    attribute `one_label = True`; it is rejected for other data.
    """

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, O] outputs of the head and targets to [B] losses.

        The task makes the targets: distributions [B, K]; for sets of classes [B, K] in [0, 1].
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """The metric that compares the networks of a task: it picks checkpoints and ranks runs.

    Attributes:
        name: its name among the metrics.
        title: its name for readers.
        lower_is_better: whether a smaller value is better.
        shown: further shares in the lines of training, `{name: title}`.
        measured: further metrics in these lines that are no shares, such as errors in units.
        share: the metric that is a share of the examples, so that it has a binomial interval; None
            without such a metric.
        share_title: its name for readers.
    """

    name: str
    title: str
    lower_is_better: bool = False
    shown: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measured: Mapping[str, str] = dataclasses.field(default_factory=dict)
    share: str | None = None
    share_title: str = ''

    @property
    def compared(self) -> str:
        """The metric with an interval that compares results: the share, or else the score."""
        return self.share or self.name

    @property
    def compared_title(self) -> str:
        """The name of `compared` for readers."""
        return self.share_title or self.title

    def ranked(self, value: float | None) -> float:
        """A value whose order is from worse to better; the worst one without a value."""
        if self.lower_is_better:
            return -math.inf if value is None else -value
        return 0.0 if value is None else value


@runtime_checkable
class Task(Protocol):
    """What a network predicts for an example, and how its predictions are scored.

    K is the number of classes or of predicted numbers, and O the number of outputs of the head.
    Methods on batches are traced by JAX. Methods on all labels of a split take host arrays
    [N, ...].
    """

    one_label: ClassVar[bool]  # whether an example has exactly one of K classes
    multi_label: ClassVar[bool]  # whether an example has a set of the K classes
    numbers: ClassVar[bool]  # whether an example has K numbers instead of classes
    calibrated: ClassVar[bool]  # whether outputs are logits, which a temperature can calibrate
    score: ClassVar[Score]  # the metric that picks the checkpoint
    reads_rows: ClassVar[bool]  # whether `summary` reads the rows of all examples, not only sums
    keeps_outputs: ClassVar[bool]  # whether a run records the outputs for each example
    continues: ClassVar[bool]  # whether a row continues that of the step before, as a text does
    label_dtype: ClassVar[type]  # of the labels in a batch

    def prepared(self, labels: np.ndarray, loss: Loss) -> 'Task':
        """The task with what it takes from the labels of the training split and from the loss.

        Raises:
            InputError: the labels cannot be predicted.
        """
        ...

    def counted(self, count: int) -> str:
        """K for readers, such as `10 classes`."""
        ...

    def label_shape(self, count: int) -> tuple[int, ...]:
        """The shape of a label in a batch, with K = `count`."""
        ...

    def outputs(self, count: int) -> int:
        """O, the outputs of a head for K = `count`."""
        ...

    def count(self, outputs: int) -> int:
        """K of a head with O = `outputs`."""
        ...

    def targets(self, labels: jax.Array, count: int) -> jax.Array:
        """Labels [B, ...] of a batch to the float32 targets of the loss."""
        ...

    def default_loss(self) -> Loss:
        """The loss where no experiment states one."""
        ...

    def loss_problem(self, loss: Loss) -> str | None:
        """Why a loss does not fit, as the end of the sentence `LOSS is X, ...`; None if it fits."""
        ...

    def balance_problem(self, balance: Balance, loss: Loss) -> str | None:
        """Why classes cannot be balanced so, as the end of a sentence; None if they can."""
        ...

    def weighted(self, loss: Loss, labels: np.ndarray, count: int) -> Loss:
        """The loss with weights that balance the labels of the training split."""
        ...

    def zeros(self, count: int) -> dict[str, jax.Array]:
        """The sums of no example."""
        ...

    def sums(
        self, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """The sums of a batch, by the names of `zeros`; at least `loss` and `count`.

        Args:
            logits: [B, O].
            labels: [B, ...].
            losses: [B] float32.
            mask: [B] bool; rows of padding do not count.
        """
        ...

    def summary(
        self, host: Mapping[str, Any], rows: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    ) -> dict[str, Any]:
        """Metrics from sums on the host, at least `loss` and `count`.

        Args:
            host: the sums.
            rows: batches of outputs [B, O] and labels [B, ...] without padding, if `reads_rows`.
        """
        ...

    def intervals(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """95 % intervals of metrics of `summary`, `{NAME_interval: [low, high]}`; may be empty.

        The interval of the score's share is left out, because it follows from its value alone.

        Args:
            logits: [N, O].
            labels: [N, ...].
        """
        ...

    def predicted(self, logits: jax.Array) -> jax.Array:
        """The predictions [B, K] for users, such as probabilities, from outputs [B, O].

        A task may add further values after the K, such as the standard deviations of numbers.
        """
        ...

    def best(self, row: np.ndarray) -> int:
        """The predicted class from one row of `predicted`."""
        ...

    def shown(self, row: np.ndarray, names: Sequence[str], most: int) -> list[str]:
        """The prediction of one example as cells of a line.

        Args:
            row: of the result of `predicted`.
            names: [K], of the classes or numbers.
            most: the largest number of classes in the line.
        """
        ...

    def cells(self, row: np.ndarray, names: Sequence[str]) -> dict[str, str | float]:
        """The prediction of one example as columns of a table."""
        ...

    def record(self, row: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """The prediction of one example as entries of a JSON object."""
        ...

    def average(self, logits: jax.Array) -> jax.Array:
        """The outputs [B, O] of the mean prediction of several views [B, V, O]."""
        ...

    def right(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
        """Whether each prediction is right, [N] bool; None if predictions are not right or wrong.

        Args:
            logits: [N, O].
            labels: [N, ...].
        """
        ...

    def decided(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """What is predicted for each example, in the form of its label.

        Args:
            logits: [N, O].
            labels: [N, ...], so that ties and NaN can count as wrong.
        """
        ...

    def scored(self, decided: np.ndarray, labels: np.ndarray) -> float | None:
        """The score of predictions as `decided` returns them; None if it is a mean over examples.

        Args:
            decided: [N, ...].
            labels: [N, ...].
        """
        ...

    def class_logits(self, logits: np.ndarray) -> np.ndarray:
        """Logits [N, K] of the probabilities of classes, from outputs [N, O]."""
        ...

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """The groups of which every part of a split has its share: [N] int, or [N, K] 0 or 1."""
        ...

    def only(self, labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The indices [M] of the examples of some classes, and their labels among these classes."""
        ...

    def names(self, label: Any, class_names: Sequence[str]) -> tuple[str, ...]:
        """One label for readers, such as the names of its classes."""
        ...

    def recorded(self, labels: np.ndarray) -> np.ndarray:
        """Labels as predictions.npz has them, [N, ...]."""
        ...

    def listed(self, labels: np.ndarray) -> list[Any]:
        """Labels for JSON."""
        ...

    def described(self, labels: np.ndarray, count: int, inputs: str) -> str:
        """The labels of the training split for readers, such as `images of 10 classes`.

        `inputs` names what the network reads.
        """
        ...


@runtime_checkable
class Views(Protocol):
    """Several views of each image in evaluation; their probabilities are averaged."""

    @property
    def count(self) -> int:
        """V, the number of views per image."""
        ...

    def __call__(self, canvases: jax.Array, size_px: int) -> jax.Array:
        """[B, H, W, C] to [B, V, size_px, size_px, C] with the same value range."""
        ...


@runtime_checkable
class Augmentation(Protocol):
    """A random change of a batch, on the device.

    Pure: `(key, images, targets) -> (images, targets)`; `key` is one key per example, `images`
    [B, H, W, 3] float32 in [0, 255], `targets` [B, K] as for `Loss`. An augmentation that makes m
    views of each example returns [B m, ...], the views of an example adjacent. An
    `augment.Operation` changes each image independently and is composed with its neighbours.
    """

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The stages of a network: which have pretrained weights and which train."""

    stages: tuple[str, ...]  # in forward order, the head last
    shared: frozenset[str]  # stages that start from the pretrained weights; the others are new
    trained: frozenset[str]  # stages with a trainable leaf
    upstream_classes: int | None = None  # S, of the pretrained head; None without one

    @property
    def changed(self) -> tuple[str, ...]:
        """The stages below the head whose output changes: from the first trained stage on."""
        first = next((i for i, n in enumerate(self.stages) if n in self.trained), len(self.stages))
        return self.stages[first:-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """The inputs that a penalty reads, so that no others are computed."""

    features: tuple[str, ...] = ()  # stages whose outputs it reads
    start: bool = False  # the starting parameters, and the starting network's outputs of `features`
    upstream: bool = False  # the pretrained head


@dataclasses.dataclass(frozen=True, kw_only=True)
class PenaltyInputs:
    """The inputs of penalties in one step; gradients flow through `trained` and `features`.

    Parameter trees have None for frozen leaves. The starting network sees the same augmented
    images and uses its running statistics. `upstream` maps the output of the last stage below the
    head to the [B, S] logits of the pretrained head, which is frozen. `features` can hold more
    stages than one penalty asked for, because all penalties share it.
    """

    setting: Setting
    trained: Params
    start: Params
    features: Mapping[str, jax.Array]  # {stage: [B, ...]}
    start_features: Mapping[str, jax.Array]
    upstream: Callable[[jax.Array], jax.Array] | None
    targets: jax.Array  # [B, K] distributions
    mask: jax.Array  # [B] bool; rows of padding must not count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The network before training, for values that a penalty computes once.

    `run(params, x, start, stop)` evaluates stages with running statistics. `batches(limit)` yields
    `limit` random examples of the training split, or with None all of them: normalised images
    [B, ...], labels [B, ...] and masks [B], replicated on every device. `upstream` is as in
    `PenaltyInputs`.
    """

    setting: Setting
    num_classes: int  # K
    task: Task
    params: Params
    trained: Params  # a bool per leaf: whether it trains in some phase
    run: Callable[[Params, jax.Array, str | None, str | None], jax.Array]
    upstream: Callable[[jax.Array], jax.Array] | None
    batches: Callable[[int | None], Iterable[tuple[jax.Array, jax.Array, jax.Array]]]
    key: jax.Array


@runtime_checkable
class Penalty(Protocol):
    """A term added to the mean loss of a batch; several penalties add up."""

    def obstacle(self, setting: Setting) -> str | None:
        """Why it cannot have an effect, or None; `trained` covers all phases."""
        ...

    def needs(self, setting: Setting) -> Needs:
        """Its inputs in a phase; features that the phase does not change can be left out."""
        ...

    def prepare(self, start: Start) -> Any:
        """A tree of arrays, computed once; the same when a run resumes."""
        ...

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """The penalty [] float32 of one batch, including its strength."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domains:
    """Inputs from which weights of source examples are computed before training.

    `features()` returns the head's input in the starting network for the N source and the M target
    examples, [N, F] and [M, F] float32; `labels()` the labels of the source, [N] int32;
    `predictions()` the probabilities [M, Z] that a linear probe on the source gives the target. The
    network runs only if one of them is called; N then excludes unreadable images.
    """

    count: int  # N
    features: Callable[[], tuple[np.ndarray, np.ndarray]]
    labels: Callable[[], np.ndarray]
    predictions: Callable[[], np.ndarray]
    seed: int


@runtime_checkable
class Weighing(Protocol):
    """Computes a weight for each example of a source."""

    def measure(self, domains: Domains) -> np.ndarray:
        """Weights [N] >= 0 with mean 1 at the start of training; deterministic.

        Raises:
            InputError: the method does not apply to these domains.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """The source rows of a training step, as input of a `Reweighing`; without gradients.

    `slope` [F, C] and `offset` [C] are the gradient of the target's loss with respect to the layer
    that both domains share, `features` [B, F] that layer's input for the source rows, and `errors`
    [B, C] the gradient of each row's own loss with respect to the layer's output. The layer is the
    head's last one if the head is shared, else an identity layer in front of both heads.
    """

    step: jax.Array  # [] int32
    last: bool  # whether this is the last part of an accumulated step
    rows: jax.Array  # [B] indices into the N examples
    mask: jax.Array  # [B] bool; rows of padding must not count
    wrong: jax.Array  # [B] one minus the probability of the label
    features: jax.Array | None  # this and the fields below are None unless `needs_slope`
    errors: jax.Array | None
    slope: jax.Array | None
    offset: jax.Array | None


@runtime_checkable
class Reweighing(Weighing, Protocol):
    """A weighing that is updated in training; its memory is part of the training state."""

    @property
    def needs_slope(self) -> bool:
        """Whether it reads features and gradients, for which the target's head must train."""
        ...

    def begin(self, count: int, epoch_steps: float, total_steps: int) -> Any:
        """The initial memory for N examples, a tree of arrays.

        Args:
            count: N.
            epoch_steps: steps in an epoch of the target.
            total_steps: steps of training with a source.
        """
        ...

    def update(self, weights: jax.Array, memory: Any, seen: Seen) -> tuple[jax.Array, Any]:
        """New weights [N] and memory, from some rows of a step that used `weights`."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told about a run when it starts.

    Attributes:
        workdir: the run's folder.
        name: the name of that folder.
        config: the JSON form of the experiment.
        key: the name that the tracker gave the run before; None for a new run.
    """

    workdir: pathlib.Path
    name: str
    config: Mapping[str, Any]
    key: str | None


class Tracking(Protocol):
    """A run that is open in a service; any method may raise an error, which ends it."""

    key: str  # with which the service finds the run again

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Sends metrics of a step; a resumed run sends some steps again."""
        ...

    def conclude(self, summary: Mapping[str, float], files: Sequence[pathlib.Path]) -> None:
        """Sends the final metrics and small files of a finished run."""
        ...

    def close(self, *, complete: bool) -> None:
        """Ends the connection; a run that is not complete may go on later."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """A service that compares runs, beside the records in the run's folder."""

    def obstacle(self) -> str | None:
        """Why it cannot be used, such as a package that is not installed; None if it can."""
        ...

    def start(self, run: TrackedRun) -> Tracking:
        """Starts a run in the service, or continues the one with the same key."""
        ...
