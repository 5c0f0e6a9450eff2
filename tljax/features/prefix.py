"""The frozen prefix as a pure function, and a digest of everything its outputs depend on."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from tljax import augment, tree
from tljax.augment.compose import Operation
from tljax.data import inputs
from tljax.models import batch_norm_folding, shared_programs, stages
from tljax.models.layers import Pooling
from tljax.models.stages import Model
from tljax.types import Augmentation, Dtype, InputError, Params, Stats

DTYPES = ('float32', 'float16', 'bfloat16')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingViews:
    """The augmented views of each example that training would see at some of its steps.

    Attributes:
        augmentations: applied in order; each changes one image independently of the others.
        key: random key of training (`job.train_key`).
        steps: training steps, [V], or [N, V] if they differ between examples.
    """

    augmentations: Sequence[Augmentation]
    key: jax.Array
    steps: Sequence[int] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The stages before some cuts: a function from decoded images to features.

    `compute` is the dtype in which the stages compute. `folded` folds BatchNorm into the layers
    before it, as training does with its frozen stages.
    """

    model: Model
    cuts: tuple[str, ...]
    pooling: Pooling | None
    dtype: np.dtype
    views: TrainingViews | None
    compute: Dtype = Dtype.FLOAT32
    folded: bool = False

    def __post_init__(self) -> None:
        problems = [
            f'a cut is {cut!r}, wanted one of {list(self.model.names)}'
            for cut in self.cuts
            if cut not in self.model.names
        ]
        if not self.cuts:
            problems.append('cuts is empty, wanted one or more')
        if self.dtype.name not in DTYPES:
            problems.append(f'dtype is {self.dtype.name}, wanted one of {list(DTYPES)}')
        for one in self.views.augmentations if self.views else ():
            if not isinstance(one, Operation):
                name = type(one).__name__
                problems.append(
                    f'{name} combines images or makes several: its views cannot be cached'
                )
        if problems:
            raise InputError('; '.join(problems))

    def apply(
        self,
        params: Params,
        stats: Stats,
        key: jax.Array,
        images: jax.Array,
        ids: jax.Array,
        steps: jax.Array,
    ) -> dict[str, jax.Array]:
        """Features by cut.

        Args:
            params: parameters of the stages before the last cut.
            stats: their running statistics.
            key: random key of training; key, ids and steps are only used with `views`.
            images: [B, resize_px, resize_px, 3] uint8, decoded images.
            ids: [B] uint32 of the examples.
            steps: [B] uint32, the training steps of the views.

        Returns:
            [B, F], or [B, ...] without pooling.
        """
        x = jnp.asarray(images)
        if self.views and self.views.augmentations:
            keys = jax.vmap(functools.partial(_key, key))(steps, ids)
            targets = jnp.zeros((len(x), 1))
            x, _ = augment.apply(self.views.augmentations, keys, x, targets)
        x = stages.normalise(self.model.preprocessing, x)
        if self.folded:
            params, stats = batch_norm_folding.folded(self.model, params, stats, self._below())
        run = functools.partial(stages.run, self.model, params, stats, dtype=self.compute)
        features, start = {}, None
        for cut in sorted(self.cuts, key=self.model.names.index):
            if cut != (start or self.model.names[0]):
                x, _ = run(x, start=start, stop=cut)
            start = cut
            pooled = x if self.pooling is None else stages.pooled(self.model, x, self.pooling)
            features[cut] = pooled.astype(self.dtype)
        return features

    @property
    def key(self) -> jax.Array:
        """The random key of the views; an arbitrary one without views."""
        return self.views.key if self.views else jax.random.key(0)

    def used(self, params: Params, stats: Stats) -> tuple[Params, Stats]:
        """The parameters and statistics of the stages before the last cut."""
        names = self._below()
        return {n: params[n] for n in names}, {n: stats[n] for n in names if n in stats}

    def _below(self) -> tuple[str, ...]:
        return self.model.names[: max(map(self.model.names.index, self.cuts))]

    def steps(self, examples: int) -> np.ndarray:
        """The steps of every example's views, [N, V].

        Raises:
            InputError: the shape does not fit, or a step is negative.
        """
        if self.views is None:
            return np.zeros((examples, 1), np.int32)
        steps = np.asarray(self.views.steps, np.int32)
        fits = steps.ndim == 1 or (steps.ndim == 2 and len(steps) == examples)
        if not fits or not steps.shape[-1] or (steps.size and steps.min() < 0):
            raise InputError(
                f'steps of views are {list(steps.shape)}, wanted [V] or [{examples}, V], from 0'
            )
        return np.broadcast_to(steps, (examples, steps.shape[-1]))

    def shapes(self, params: Params, stats: Stats) -> dict[str, tuple[int, ...]]:
        """The shape of one row, by cut."""

        def compute() -> dict[str, tuple[int, ...]]:
            rows = jax.eval_shape(self.apply, *self._one(params, stats))
            return {cut: row.shape[1:] for cut, row in rows.items()}

        return self.shared('shapes', compute)

    def shared(self, kind: str, make: Callable[[], Any]) -> Any:
        """The result of `make`, which depends on nothing but the prefix; see `shared_programs`."""
        if self.views is not None:  # these have arrays, which are rarely the same
            return make()
        return shared_programs.get((kind, self), make)

    def marks(self, ids: np.ndarray, steps: np.ndarray) -> list[bytes]:
        """What each of the N V rows depends on besides its image: key, id and step of its view.

        Without augmentations a mark is empty.
        """
        if self.views is None or not self.views.augmentations:
            return [b''] * steps.size
        data = np.asarray(jax.random.key_data(self.key))
        key = str(jax.random.key_impl(self.key)).encode() + data.tobytes()
        pairs = np.stack([np.broadcast_to(ids[:, None], steps.shape), steps], -1).astype(np.uint32)
        return [key + pair.tobytes() for pair in pairs.reshape(-1, 2)]

    def digest(self, cut: str, params: Params, stats: Stats) -> str:
        """A digest of everything that a row depends on besides its image and its mark.

        It includes the parameters and the program. Other preprocessing, other augmentations and
        other code of a stage give another program.
        """
        alone = dataclasses.replace(self, cuts=(cut,))
        closed = alone.shared(
            'program', lambda: jax.make_jaxpr(alone.apply)(*alone._one(params, stats))
        )
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        decoding = inputs.settings(self.model.preprocessing)
        settings = (decoding, jax.default_backend(), jax.__version__, precision)
        digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
        # Names of functions contain addresses, which differ between processes.
        digest.update(re.sub(r' at 0x[0-9a-f]+', '', str(closed.jaxpr)).encode())
        for constant in _constants(closed):
            _update(digest, constant)
        kept_params, kept_stats = alone.used(params, stats)
        used = {'params': kept_params, 'stats': kept_stats}
        for path, leaf in sorted(tree.flatten(used).items()):
            digest.update(path.encode())
            _update(digest, leaf)
        return digest.hexdigest()

    def _one(self, params: Params, stats: Stats) -> tuple[Any, ...]:
        """The shapes of the arguments of `apply` for one image."""
        row = self.model.preprocessing.row()
        number = jax.ShapeDtypeStruct((1,), jnp.uint32)
        image = jax.ShapeDtypeStruct((1, *row.shape), row.dtype)
        key = jax.eval_shape(lambda: self.key)
        values = jax.eval_shape(lambda: self.used(params, stats))
        return *values, key, image, number, number


def _key(key: jax.Array, step: jax.Array, identity: jax.Array) -> jax.Array:
    return augment.example_keys(key, step, identity[None])[0]


def _constants(closed: ClosedJaxpr) -> Iterator[Any]:
    """The constants of a program and of the programs that it calls."""
    yield from closed.consts
    yield from _inner(closed.jaxpr)


def _inner(jaxpr: Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(list(equation.params.values())):
            if isinstance(value, ClosedJaxpr):
                yield from _constants(value)
            elif isinstance(value, Jaxpr):
                yield from _inner(value)


def _update(digest: Any, leaf: Any) -> None:
    array = np.ascontiguousarray(leaf)
    digest.update(f'{array.dtype}{array.shape}'.encode())
    digest.update(array.view(np.uint8).data if array.size else b'')
