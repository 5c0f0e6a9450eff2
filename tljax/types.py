"""The whole system on one page: axis letters, what flows, and each extension point's contract.

Axis letters, used in every docstring:

    B batch    H height    W width    C channel    F feature    K class    N examples
    S class of the source task    Z class of a source of samples

An extension point is a small dataclass that a config constructs. Its fields are its
hyperparameters and its methods are pure functions. Whatever has the methods below will do:
nothing inherits from these protocols and nothing is registered.
"""

import dataclasses
import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

import flax.linen as nn
import jax
import numpy as np
import optax

Array = jax.Array | np.ndarray
Params = dict[str, Any]  # {stage: {...: array}}; the top-level keys are the model's stages
Range = tuple[float, float]  # values that become 0 and 255, in images deeper than 8 bits
Stats = dict[str, Any]  # likewise, running statistics; stages without any are absent


class InputError(ValueError):
    """What a user gave cannot be used; the message says what, where, found and wanted."""


class MisfitError(InputError):
    """Leaves of a family of networks in a form that it has not; the message says in which."""


class Batch(TypedDict):
    """One step's input. Evaluation pads the last batch; `mask` says which rows are real."""

    image: Array  # [B, H, W, 3] uint8
    label: Array  # [B] int32; where an image has several, [B, K] uint8, 1 where it has the label
    id: Array  # [B] int64 on the host; names the example for ever, whatever the order
    mask: Array  # [B] bool
    source: NotRequired['Batch']  # rows of a source of samples, beside the target's


class Interpolation(enum.Enum):
    """How Pillow resamples, antialiased."""

    BILINEAR = 'bilinear'
    BICUBIC = 'bicubic'


def gray_range_problems(gray_range: Sequence[float]) -> list[str]:
    """What is wrong with a range of gray values that somebody gave."""
    if len(gray_range) == 2 and math.isfinite(sum(gray_range)) and gray_range[0] < gray_range[1]:
        return []
    return [f'gray_range is {gray_range}, wanted two finite numbers, the lower one first']


@dataclasses.dataclass(slots=True, kw_only=True)
class Preprocessing:
    """What a network's weights expect of an image; it travels with the weights.

    The short side is resized to `resize_px`, the central square of `size_px` is cut out, and
    channels (RGB, scaled to [0, 1]) become `(x - mean) / std`. `mean` and `std` have a value for
    each channel that the network reads; with one, images in color are turned gray.
    """

    size_px: int = 224
    resize_px: int = 256
    interpolation: Interpolation = Interpolation.BILINEAR
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    scaled_decoding: bool = False  # of large JPEGs: twice as fast, off by a few grey levels
    gray_range: tuple[float, ...] | None = None  # black and white of images deeper than 8 bits

    def problems(self) -> list[str]:
        """What `config.validate` reports."""
        found = []
        if self.size_px < 1:
            found.append(f'size_px is {self.size_px}, wanted more than 0')
        elif self.size_px > self.resize_px:
            found.append(f'size_px is {self.size_px}, wanted at most resize_px, {self.resize_px}')
        if not self.mean:
            found.append('mean is (), wanted a value for each channel')
        if len(self.std) != len(self.mean) or min(self.std, default=0) <= 0:
            found.append(f'std is {self.std}, wanted {len(self.mean)} values more than 0')
        if self.gray_range is not None:
            found += gray_range_problems(self.gray_range)
        return found


class Dtype(enum.Enum):
    """What a network computes in; parameters, statistics and losses are float32 in any case."""

    FLOAT32 = 'float32'
    BFLOAT16 = 'bfloat16'


class Balance(enum.Enum):
    """What is done about classes that are more frequent than others."""

    NONE = 'none'
    SAMPLE = 'sample'  # every class is shown as often, rare examples repeatedly; one label only
    WEIGH = 'weigh'  # the loss of rare classes weighs more; of several labels, what is there


class CachePrefix(enum.Enum):
    """Whether the frozen stages of a phase are run ahead, once for each view that it is shown."""

    AUTO = 'auto'  # where it spares work: images are seen again, unchanged, and memory has room
    ALWAYS = 'always'  # also of augmented views, for other runs with the same; else an error
    NEVER = 'never'


class BadFiles(enum.Enum):
    """What becomes of a file that cannot be read as an image."""

    ERROR = 'error'  # nothing starts; all of them are named
    SKIP = 'skip'  # they are left out, counted and listed in the workdir


@dataclasses.dataclass(slots=True, kw_only=True)
class Findings:
    """What a source passed over; said at the start of a run and kept in its folder."""

    policy: BadFiles = BadFiles.ERROR
    notes: list[str] = dataclasses.field(default_factory=list)
    bad: dict[str, str] = dataclasses.field(default_factory=dict)  # a file, and what is wrong
    deep: set[str] = dataclasses.field(default_factory=set)  # files deeper than 8 bits
    gray_range: Callable[[], Range] | None = None  # of these, by a scan of the training split


@runtime_checkable
class Encoded(Protocol):
    """An image as it is stored: a file, or a record of a larger one; `str()` names it."""

    def read(self) -> bytes:
        """The encoded image."""
        ...

    def stamp(self) -> str:
        """Where it is and in which version, without reading it; changes when the bytes do."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """One split of a data set, with random access.

    `load(i)` returns image i as [h, w, 3] uint8, of any size. `ids` are stable across subsets
    and orders, so that randomness can follow an example. `encoded` are the same images as they
    are stored, where they are not in memory anyway.
    """

    load: Callable[[int], np.ndarray]
    labels: np.ndarray  # [N] int32; where an image has several, [N, K] uint8, multi-hot
    ids: np.ndarray  # [N] int64
    class_names: tuple[str, ...]
    encoded: Sequence[Encoded] | None = None  # N of them
    findings: Findings | None = None  # shared by the splits of a source

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def multi_label(self) -> bool:
        """Whether an image has a set of labels, which may be empty, rather than one."""
        return self.labels.ndim == 2

    def label_lists(self) -> list:
        """Each example's label, or the list of its labels, as JSON has them."""
        if not self.multi_label:
            return self.labels.tolist()
        return [np.flatnonzero(row).tolist() for row in self.labels]

    def names(self, index: int) -> tuple[str, ...]:
        """The names of an example's classes."""
        labels = np.flatnonzero(self.labels[index]) if self.multi_label else [self.labels[index]]
        return tuple(self.class_names[label] for label in labels)

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
class Source(Protocol):
    """A data set."""

    def splits(self) -> Mapping[str, Examples]:
        """`train`, and `val` and `test` where the set has them."""
        ...


@runtime_checkable
class Stage(Protocol):
    """One named stage of a network: a Flax module called as below."""

    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array: ...


@runtime_checkable
class Backbone(Protocol):
    """An architecture family: named stages, and how their weights are named elsewhere."""

    weights: str | None

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        ...

    def head(self, num_classes: int) -> nn.Module:
        """The family's own head: what follows the last stage in the published network."""
        ...

    def port_tables(self) -> Mapping[str, Sequence[Any]]:
        """Tables (of `port.PortRule`) from foreign names to ours, by the library that has them.

        Where two libraries name alike, the table stands under both.
        """
        ...

    def preprocessing(self) -> Preprocessing:
        """What published weights of the family expect, unless the file says otherwise."""
        ...


@runtime_checkable
class Recognisable(Backbone, Protocol):
    """A backbone that can be told from the entries of a state dict."""

    @classmethod
    def variants(cls) -> Sequence[Any]:
        """Members whose tables, between them, can name the entries of any member."""
        ...

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> Any:
        """The member that leaves of these paths and shapes belong to; None if they cannot.

        Raises a `MisfitError` where they are those of the family, in a form that it has not.

        `naming` is the table that named them: some libraries compute with other constants.
        """
        ...


@runtime_checkable
class Head(Protocol):
    """What follows the last stage of a backbone, in the place of the family's own head."""

    def module(self, num_classes: int) -> nn.Module:
        """A stage from [B, H, W, C] maps, [B, T, F] tokens or [B, F] vectors to [B, K] logits.

        Its last linear layer is called `linear`.
        """
        ...


@dataclasses.dataclass(slots=True, kw_only=True)
class Rule:
    """What happens to the leaves under one path.

    `pattern` is matched segment by segment from the top: `*` within a segment is a wildcard,
    `**` is any number of segments, and everything below a match is included. `stage1` covers
    `stage1/block1/conv1/kernel` and not `stage10/...`; `**/bias` covers every bias.
    """

    pattern: str
    train: bool = True
    learning_rate_scale: float = 1.0
    weight_decay_scale: float = 1.0


@runtime_checkable
class Schedule(Protocol):
    """A learning rate over time, as a multiplier of the optimizer's."""

    def multiplier(self, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
        """A function of the step within the phase (0 is the first) to a factor >= 0."""
        ...


class Rates(enum.Enum):
    """What the rates of a phase follow besides its rules."""

    FIXED = 'fixed'
    GRADIENT = 'gradient'  # each stage's norm of the gradient over that of its parameters


@runtime_checkable
class Solver(Protocol):
    """Brings what trains to the minimum of an objective, instead of steps on batches."""

    def __call__(
        self, objective: Callable[[Params, Any], jax.Array], start: Params, data: Any
    ) -> 'Solution':
        """The parameters [a tree like `start`] that minimise `objective(params, data)`.

        `data`, a tree of arrays, is an argument and no constant of what is compiled: it may be
        as large as the features of all images.
        """
        ...


class Solution(NamedTuple):
    """Where a solver ended."""

    params: Params
    value: jax.Array  # [] the objective there, penalties of the solver included
    gradient_norm: jax.Array  # []
    iterations: jax.Array  # [] int32


@dataclasses.dataclass(slots=True, kw_only=True)
class Phase:
    """A stretch of training with one table of rules; the first rule that matches a leaf decides.

    `epochs` and `schedule` left at None take the experiment's; `steps` may be given instead of
    epochs. With `patience` the phase ends after so many evaluations on validation that were no
    better than the best before them, and at its end the values of its best evaluation come back.
    With a `solver` it has no steps: what trains, which has to be in the head, is fitted to the
    training images as evaluation sees them.
    """

    rules: tuple[Rule, ...]
    epochs: float | None = None
    steps: int | None = None
    schedule: Schedule | None = None
    rates: Rates = Rates.FIXED
    patience: int | None = None
    solver: Solver | None = None

    def problems(self) -> list[str]:
        """What is wrong with the fields."""
        found = []
        if self.epochs is not None and self.steps is not None:
            found.append(f'epochs is {self.epochs} and steps is {self.steps}, wanted one of them')
        for name in ('epochs', 'steps', 'patience'):
            value = getattr(self, name)
            if value is not None and not value > 0:
                found.append(f'{name} is {value}, wanted more than 0')
        return found


@runtime_checkable
class Strategy(Protocol):
    """A way of fine-tuning: what trains, when."""

    @property
    def pretrained(self) -> bool:
        """Whether training starts from the backbone's weights or from random ones."""
        ...

    def phases(self, params: Params) -> tuple[Phase, ...]:
        """The phases, given the parameters (or their shapes), the stages in forward order.

        JAX sorts the keys of what passes through it; `model.ordered` puts them back.
        """
        ...


class Norm(enum.Enum):
    """What becomes of the normalisation layers, beside what the strategy's rules say.

    Statistics are BatchNorm's running mean and variance; scale and bias are of every kind of
    normalisation layer. No policy trains what the rules freeze.

        AUTO             statistics follow the batch in stages in which something trains, and stay
                         as they are in the others; scale and bias as the rules say
        FROZEN           statistics stay everywhere; scale and bias are frozen
        AFFINE_ONLY      statistics stay everywhere; scale and bias as the rules say
        STATISTICS_ONLY  statistics follow the batch everywhere; scale and bias are frozen
        LIVE             statistics follow the batch everywhere, also in frozen stages; scale and
                         bias as the rules say
    """

    AUTO = 'auto'
    FROZEN = 'frozen'
    AFFINE_ONLY = 'affine_only'
    STATISTICS_ONLY = 'statistics_only'
    LIVE = 'live'


ADAPTER = 'adapter'  # `LAYER/adapter/...` are the leaves that an adapter has added to a layer's


@runtime_checkable
class Adapter(Protocol):
    """A change of layers by leaves beside theirs, which merges into the layers' own leaves.

    The stages never see what was added: it is merged before they are applied, in a training step
    as after training, so that every backbone can be adapted.
    """

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """`{path: leaf}` to add, at `LAYER/adapter/...`, that changes nothing yet.

        Args:
            params: of all stages, or their shapes.
            key: of what is drawn.

        Raises:
            InputError: there is nothing that it could adapt.
        """
        ...

    def merged(self, params: Params) -> Params:
        """The parameters of some stages with what it added merged and gone; the rest as it was."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """An update rule; weight decay is scaled per group of leaves."""

    learning_rate: float

    def transform(
        self, learning_rate: optax.Schedule, weight_decay_scale: float
    ) -> optax.GradientTransformation:
        """The optax transformation for one group of leaves."""
        ...


@runtime_checkable
class Loss(Protocol):
    """A loss per example.

    One that wants targets which sum to 1, and so data with one label an image, has the class
    attribute `one_label = True`, and is refused for other data.
    """

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """[B, K] logits and targets to [B] losses.

        Targets are distributions [B, K]; where an image has several labels, each is in [0, 1].
        """
        ...


@runtime_checkable
class Views(Protocol):
    """Several looks at each image, in evaluation; their probabilities are averaged."""

    @property
    def count(self) -> int:
        """V, how many of each image."""
        ...

    def __call__(self, canvases: jax.Array, size_px: int) -> jax.Array:
        """[B, H, W, C] to [B, V, size_px, size_px, C] of the same values."""
        ...


@runtime_checkable
class Augmentation(Protocol):
    """A random change of a batch, on the device.

    Source of the shape: pure `(key, images, targets) -> (images, targets)`; `key` is one key per
    example, `images` [B, H, W, 3] float32 in [0, 255], `targets` [B, K] as for `Loss`. One that
    makes m views of each example returns [B m, ...], those of an example side by side. What
    changes each image for itself is an `augment.Operation`, and is composed with its neighbours.
    """

    def __call__(
        self, key: jax.Array, images: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a penalty finds: the stages, where they come from, and which of them train."""

    stages: tuple[str, ...]  # in forward order, the head last
    shared: frozenset[str]  # whose starting values came with the weights; the others are new
    trained: frozenset[str]  # of which a leaf trains
    upstream_classes: int | None = None  # of the head that came with the weights, where one did

    @property
    def moving(self) -> tuple[str, ...]:
        """The stages below the head whose output training changes: the first that trains, on."""
        first = next((i for i, n in enumerate(self.stages) if n in self.trained), len(self.stages))
        return self.stages[first:-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What a penalty reads, so that nothing else is computed or kept."""

    features: tuple[str, ...] = ()  # stages, whose outputs it reads
    start: bool = False  # starting parameters, and these outputs as the starting network gives them
    upstream: bool = False  # the head that came with the weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class PenaltyInputs:
    """One training step as penalties see it; gradients flow through `trained` and `features`.

    Trees of parameters have None where a leaf is frozen. The starting network sees the same
    augmented images, by its running statistics. `upstream` gives the [B, S] logits of the source
    task from the output of the last stage below the head, and trains nothing. There may be more
    features than one penalty asked for: others ask too.
    """

    setting: Setting
    trained: Params
    start: Params
    features: Mapping[str, jax.Array]  # {stage: [B, ...]}
    start_features: Mapping[str, jax.Array]
    upstream: Callable[[jax.Array], jax.Array] | None
    targets: jax.Array  # [B, K] distributions
    mask: jax.Array  # [B] bool; rows that are padding must count nowhere


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The network where training starts, for what a penalty measures once, before training.

    `run(params, x, start, stop)` evaluates stages, by running statistics. `batches(limit)` yields
    `limit` examples of the training split, drawn at random, or all of it: normalised images
    [B, ...], labels [B] and masks [B], whole on every device. `upstream` is as in
    `PenaltyInputs`.
    """

    setting: Setting
    num_classes: int  # K
    params: Params
    trained: Params  # a bool per leaf: it trains in some phase
    run: Callable[[Params, jax.Array, str | None, str | None], jax.Array]
    upstream: Callable[[jax.Array], jax.Array] | None
    batches: Callable[[int | None], Iterable[tuple[jax.Array, jax.Array, jax.Array]]]
    key: jax.Array


@runtime_checkable
class Penalty(Protocol):
    """A term that is added to the mean loss of a batch; several add up."""

    def obstacle(self, setting: Setting) -> str | None:
        """Why it could change nothing, whatever the data; `trained` is over all phases."""
        ...

    def needs(self, setting: Setting) -> Needs:
        """What it reads in a phase; features that do not move there need not be named."""
        ...

    def prepare(self, start: Start) -> Any:
        """Arrays in a tree, measured once; the same again when a run resumes."""
        ...

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """The penalty [] float32 of one batch, its strength included."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domains:
    """What weights of source examples are measured by before training.

    `features()` gives what the head of the starting network reads of the N source and the M
    target examples, [N, F] and [M, F] float32; `labels()` those of the source, [N] int32;
    `predictions()` what a linear probe on the source says of the target, [M, Z] probabilities. The
    network runs only if one of them is called; N is then without images that turn out bad.
    """

    count: int  # N
    features: Callable[[], tuple[np.ndarray, np.ndarray]]
    labels: Callable[[], np.ndarray]
    predictions: Callable[[], np.ndarray]
    seed: int


@runtime_checkable
class Weighing(Protocol):
    """How much each example of a source counts."""

    def measure(self, domains: Domains) -> np.ndarray:
        """Weights [N], 0 or more, of mean 1, as training starts; the same for the same input.

        Raises:
            InputError: the domains cannot be weighed so.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """A training step's source rows as a `Reweighing` sees them; no gradient flows through it.

    `slope` [F, C] and `offset` [C] are the gradient of the target's loss by the layer that both
    domains go through, `features` [B, F] what it reads of the rows, and `errors` [B, C] the
    gradient of each row's own loss by what it puts out: the logits of a head that is shared, or
    else a layer that changes nothing, before both heads.
    """

    step: jax.Array  # [] int32
    last: bool  # of the parts in which a step's rows are worked on
    rows: jax.Array  # [B] which of the N examples each is
    mask: jax.Array  # [B] bool; rows that are padding must count nowhere
    wrong: jax.Array  # [B] one minus the probability of the label
    features: jax.Array | None  # these and those below only where `needs_slope`
    errors: jax.Array | None
    slope: jax.Array | None
    offset: jax.Array | None


@runtime_checkable
class Reweighing(Weighing, Protocol):
    """A weighing that goes on in training; what it keeps is in the training state."""

    @property
    def needs_slope(self) -> bool:
        """Whether it reads the features and gradients, so that the target's head has to train."""
        ...

    def begin(self, count: int, epoch_steps: float, total_steps: int) -> Any:
        """What it keeps of N examples beside their weights, a tree of arrays.

        Args:
            count: N.
            epoch_steps: steps in an epoch of the target.
            total_steps: in which there is a source.
        """
        ...

    def update(self, weights: jax.Array, memory: Any, seen: Seen) -> tuple[jax.Array, Any]:
        """Weights [N] and what is kept, after some rows of a step, which uses these weights."""
        ...
