"""Streams of batches; each batch depends only on the examples, the seed and its position."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np

from tljax.data import decode
from tljax.metrics.tasks import choice
from tljax.types import BadFiles, Batch, Examples, Preprocessing

# (example index, stream position) -> (the row that replaces the image, whether it is valid). In
# evaluation the position equals the index.
Substitute = Callable[[int, int], tuple[np.ndarray, bool]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How an experiment reads its images.

    Attributes:
        batch_size: examples in the global batch.
        threads: threads that read ahead; 0 reads on demand.
        cache_gigabytes: disk space for decoded images, and for features; 0 keeps neither.
    """

    batch_size: int
    threads: int
    cache_gigabytes: float


def train_batches(
    examples: Examples,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    process: tuple[int, int] = (0, 1),
    threads: int = 4,
    balanced: bool = False,
    substitute: Substitute | None = None,
) -> grain.IterDataset:
    """Full batches of shuffled epochs, one epoch after the other.

    The order of an epoch depends on the seed and the number of the epoch. A batch can span two
    epochs. The stream is the same for any number of threads and processes. A process reads its own
    rows of each global batch.

    Args:
        examples: the training split.
        preprocessing: size, interpolation and gray range of the decoded images.
        batch_size: examples in the global batch.
        steps: the length of the stream.
        seed: seed of the shuffling.
        process: the index of this process and the number of processes.
        threads: threads that read ahead; 0 reads on demand.
        balanced: draws every class equally often; the epoch length does not change.
        substitute: replaces the images of the batches, for example by cached features.

    Returns:
        A grain data set whose iterator has `get_state` and `set_state`.
    """
    index, number = process
    local_size = batch_size // number
    example_at = stream(examples.labels, seed, balanced=balanced)

    def load(position: int) -> dict[str, Any]:
        step, row = divmod(position, local_size)
        global_position = step * batch_size + index * local_size + row
        example = example_at(global_position)
        return _example(examples, preprocessing, example, global_position, substitute)

    positions = grain.MapDataset.range(steps * local_size)
    batches = positions.map(load).batch(local_size)
    options = _read_options(threads)
    return batches.to_iter_dataset(options)


def stream(labels: np.ndarray, seed: int, *, balanced: bool = False) -> Callable[[int], int]:
    """The index of the example at each position of an endless stream of shuffled epochs.

    Args:
        labels: [N, ...].
        seed: seed of the shuffling.
        balanced: see `train_batches`.
    """
    count = len(labels)

    # grain's shuffling takes 0.35 ms per example for 80 examples, and 9 ms for 3 examples.
    @functools.lru_cache(maxsize=4)
    def order(epoch: int) -> np.ndarray:
        rng = np.random.default_rng([seed, epoch])
        return balanced_order(labels, rng) if balanced else rng.permutation(count)

    def example_at(position: int) -> int:
        epoch, index = divmod(position, count)
        return int(order(epoch)[index])

    return example_at


def balanced_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many random indices as there are labels, with every class equally often.

    All examples of a rare class are drawn before one repeats, and some examples of a frequent class
    are left out. If N is not divisible by the number of classes, some classes have one more.
    """
    present = rng.permutation(np.unique(labels))
    chosen = []
    for index, label in enumerate(present):
        members = np.flatnonzero(labels == label)
        count = len(labels) // len(present) + (index < len(labels) % len(present))
        rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
        chosen.append(np.concatenate(rounds)[:count])
    return rng.permutation(np.concatenate(chosen))


def eval_batches(
    examples: Examples,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    process: tuple[int, int] = (0, 1),
    threads: int = 4,
    substitute: Substitute | None = None,
) -> Iterator[Batch]:
    """Every example once, in order; the last batch is padded and masked.

    All processes get the same number of batches. Arguments as for `train_batches`.
    """
    index, number = process
    local_size = batch_size // number
    count = -(-len(examples) // batch_size)

    def load(position: int) -> dict[str, Any]:
        step, row = divmod(position, local_size)
        example = step * batch_size + index * local_size + row
        real = example < len(examples)
        example_index = example if real else 0
        loaded = _example(examples, preprocessing, example_index, example_index, substitute)
        return {**loaded, 'mask': loaded['mask'] & real}

    batches = grain.MapDataset.range(count * local_size).map(load).batch(local_size)
    options = _read_options(threads)
    return iter(batches.to_iter_dataset(options))


def _read_options(threads: int) -> grain.ReadOptions:
    """Options that read two batches ahead per thread; grain counts batches, not examples."""
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * threads, 1))


def _example(
    examples: Examples,
    preprocessing: Preprocessing,
    index: int,
    position: int,
    substitute: Substitute | None,
) -> dict[str, Any]:
    """One row of a batch; masked if its image is unreadable and bad files are skipped."""
    if substitute is not None:
        image, good = substitute(index, position)
    else:
        image, good = _decoded_image(examples, preprocessing, index)
    return {
        'image': image,
        'label': examples.labels[index].astype(choice.of(examples).label_dtype),
        'id': np.int64(examples.ids[index]),
        'mask': np.bool_(good),
    }


def _decoded_image(
    examples: Examples, preprocessing: Preprocessing, index: int
) -> tuple[np.ndarray, bool]:
    """The decoded image and True, or a black image and False if the image is unreadable."""
    side = preprocessing.resize_px
    try:
        return decode.resize_square(examples.load(index), preprocessing), True
    except decode.ImageError as error:
        findings = examples.findings
        if findings is None or findings.policy is not BadFiles.SKIP or not examples.encoded:
            raise
        findings.bad[str(examples.encoded[index])] = str(error)
        return np.zeros((side, side, 3), np.uint8), False
