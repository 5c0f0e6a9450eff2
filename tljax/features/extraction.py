"""Features of examples at one or several cuts of a network, computed once and cached on disk."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.data import array_store
from tljax.features.collected import Collected, Features, room_bytes
from tljax.features.image_pass import ImagePass
from tljax.features.prefix import Prefix, TrainingViews
from tljax.models.layers import Pooling
from tljax.models.stages import HEAD, Model
from tljax.types import Dtype, Examples, Params, Stats


def extract(
    model: Model,
    params: Params,
    stats: Stats,
    examples: Examples,
    *,
    cut: str = HEAD,
    **options: Any,
) -> Features:
    """The features of all examples at one cut; see `extract_all`."""
    return extract_all(model, params, stats, examples, cuts=[cut], **options)[cut]


def extract_all(
    model: Model,
    params: Params,
    stats: Stats,
    examples: Examples,
    *,
    cuts: Sequence[str],
    pooling: Pooling | None = Pooling.AVERAGE,
    dtype: Any = jnp.float32,
    views: TrainingViews | None = None,
    compute: Dtype = Dtype.FLOAT32,
    folded: bool = False,
    on_device: bool = True,
    cache_gigabytes: float = 20.0,
    batch_size: int = 64,
    threads: int = 4,
) -> dict[str, Features]:
    """The features of all examples at several cuts, in one pass over the images.

    In a run with several processes, each process computes all features on its own devices.

    Args:
        model: the network.
        params: its parameters.
        stats: its running statistics.
        examples: N examples.
        cuts: names of stages; each prefix ends before its stage. `head` gives the head's input.
        pooling: how feature maps and tokens become vectors; None keeps them.
        dtype: of the result: float32, float16 or bfloat16.
        views: the views that training would see; None for one view, as in evaluation.
        compute: the dtype in which the network computes.
        folded: fold BatchNorm into the layers before it.
        on_device: put the features on the device if they fit; otherwise they stay in host memory.
        cache_gigabytes: size limit of the user's complete feature cache; 0 disables it.
        batch_size: images per forward pass.
        threads: number of threads that read images.

    Returns:
        Features by cut, in the order of `cuts`.

    Raises:
        InputError: a stage is unknown, an augmentation combines images, the features fit neither
            into memory nor on disk, or they exceed the range of `dtype`.
        ImageError: an image cannot be read.
    """
    prefix = Prefix(model, tuple(cuts), pooling, jnp.dtype(dtype), views, compute, folded)
    limit_bytes = int(cache_gigabytes * array_store.GIGABYTE)
    steps = prefix.steps(len(examples))
    rows = _opened(prefix, params, stats, steps.size, limit_bytes)
    devices = jax.local_device_count()
    batch_size = -(-batch_size // devices) * devices
    bad = ImagePass(prefix, params, stats, examples, steps, rows, batch_size).run(threads)
    keep = np.setdiff1d(np.arange(len(examples)), bad)
    put = jnp.asarray if on_device else np.asarray
    return {cut: rows[cut].features(examples, keep, steps.shape[1], put) for cut in cuts}


def _opened(
    prefix: Prefix, params: Params, stats: Stats, count: int, limit_bytes: int
) -> dict[str, Collected]:
    """`count` empty rows by cut, each with its store on disk unless `limit_bytes` is 0."""
    rows = {
        cut: Collected(shape, count, prefix.dtype, limit_bytes)
        for cut, shape in prefix.shapes(params, stats).items()
    }
    if limit_bytes:
        for cut, one in rows.items():
            one.open(prefix.digest(cut, params, stats), limit_bytes)
    return rows


def fits(model: Model, params: Params, stats: Stats, examples: int, cut: str) -> bool:
    """Whether the float32 features of `examples` images, one view each, fit into memory."""
    prefix = Prefix(model, (cut,), None, jnp.dtype('float32'), None)
    size = examples * math.prod(prefix.shapes(params, stats)[cut]) * prefix.dtype.itemsize
    return size <= room_bytes()
