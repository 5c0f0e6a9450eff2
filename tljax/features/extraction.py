"""Features of examples at one or several cuts of a network, computed once and kept on disk."""

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
    """The features of all examples at several cuts, with one pass over the images.

    In a run of several processes each computes all of them, on its own devices.

    Args:
        model: the network.
        params: its parameters.
        stats: its running statistics.
        examples: N of them.
        cuts: names of stages, before which the prefix ends: `head` gives what the head reads.
        pooling: how maps and tokens become vectors; None keeps them.
        dtype: of the result: float32, float16 or bfloat16.
        views: what training would see of the images; None for one view, as in evaluation.
        compute: what the network computes in.
        folded: whether with BatchNorm folded into the layers before it.
        on_device: whether what fits is put there; else it stays in the machine's memory.
        cache_gigabytes: what all features of the user may take on the disk; 0 keeps none.
        batch_size: images that are on the devices at a time.
        threads: that read images ahead.

    Returns:
        By cut.

    Raises:
        InputError: there is no such cut, an augmentation mixes images, nothing has room for the
            features, or they are beyond the range of `dtype`.
        ImageError: an image cannot be read.
    """
    prefix = Prefix(model, tuple(cuts), pooling, jnp.dtype(dtype), views, compute, folded)
    limit_bytes = int(cache_gigabytes * array_store.GIGABYTE)
    steps = prefix.steps(len(examples))
    found = _opened(prefix, params, stats, steps.size, limit_bytes)
    devices = jax.local_device_count()
    batch_size = -(-batch_size // devices) * devices
    extraction = ImagePass(prefix, params, stats, examples, steps, found, batch_size)
    bad = extraction.run(threads)
    keep = np.setdiff1d(np.arange(len(examples)), bad)
    put = jnp.asarray if on_device else np.asarray
    return {cut: one.features(examples, keep, steps.shape[1], put) for cut, one in found.items()}


def _opened(
    prefix: Prefix, params: Params, stats: Stats, count: int, limit_bytes: int
) -> dict[str, Collected]:
    """By cut, room for so many rows, and its store on the disk where that may take any."""
    found = {
        cut: Collected(shape, count, prefix.dtype, limit_bytes)
        for cut, shape in prefix.shapes(params, stats).items()
    }
    if limit_bytes:
        for cut, one in found.items():
            one.open(prefix.digest(cut, params, stats), limit_bytes)
    return found


def fits(model: Model, params: Params, stats: Stats, examples: int, cut: str) -> bool:
    """Whether the float32 features of so many examples, one view each, have room in memory."""
    prefix = Prefix(model, (cut,), None, jnp.dtype('float32'), None)
    size = examples * math.prod(prefix.shapes(params, stats)[cut]) * prefix.dtype.itemsize
    return size <= room_bytes()
