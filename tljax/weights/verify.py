"""Checks a network's values by checksums, and by the outputs of every stage for a few images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tljax import tree
from tljax.models import stages
from tljax.models.stages import Model
from tljax.types import Params, Stats
from tljax.weights import download
from tljax.weights.pretrained import Origin, Pretrained

IMAGES = 4
COARSE_PX = 8  # images are enlarged from this size, so they have blobs instead of noise
DEAD_SHARE = 0.9  # of channels with the same value everywhere
EXPLODING_RMS = 1e3  # published networks have less than 100

CHECKED_FORMATS = {  # by `files.File.format`; the other formats have no checksums
    'torch (zip)': 'the CRC-32 of every entry of its archive',
    'npz': 'the CRC-32 of every entry of its archive',
    'run': 'the SHA-256 of every file of the checkpoint',
}


def checked_by(origin: Origin) -> str | None:
    """The checksums that the values of weights were compared with; None for no checksum.

    Without one, damage that leaves the file readable changes values and is not detected.
    """
    by_file = None if origin.path is None else download.checked_by(origin.path, origin.sha256 or '')
    return by_file or CHECKED_FORMATS.get(origin.format)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Activations:
    """Statistics of the output of one stage.

    Attributes:
        stage: its name.
        shape: of the output for one image.
        mean: of all values.
        std: of all values.
        largest: the largest magnitude.
        dead_share: the share of channels with the same value everywhere in every image.
        flaw: `not finite`, `dead` or `exploding`; empty if there is none.
    """

    stage: str
    shape: tuple[int, ...]
    mean: float
    std: float
    largest: float
    dead_share: float
    flaw: str


def activations(pretrained: Pretrained, model: Model, seed: int = 0) -> list[Activations]:
    """Runs a few images of random blobs through a network and computes statistics of every stage.

    A stage is `not finite` if a value is NaN or infinite, `dead` if at least 90 % of its channels
    are constant, and `exploding` if the root mean square exceeds 1000.

    Args:
        pretrained: the values.
        model: the network of the values; its head is skipped if it has no values.
        seed: for the images.
    """
    model = dataclasses.replace(model, preprocessing=pretrained.preprocessing)
    names = [name for name in model.names if name in pretrained.params]

    @jax.jit
    def outputs(params: Params, stats: Stats, images: jax.Array) -> dict[str, jax.Array]:
        x, result = stages.normalise(model.preprocessing, images), {}
        for name in names:
            following = [*model.names[1:], None][model.names.index(name)]
            x, _ = stages.run(model, params, stats, x, start=name, stop=following)
            result[name] = x
        return result

    maps = outputs(pretrained.params, pretrained.stats, _blobs(model, seed))
    return [_statistics(name, np.asarray(maps[name], np.float32)) for name in names]


def _blobs(model: Model, seed: int) -> jax.Array:
    """[IMAGES, size_px, size_px, C] float32 in [0, 255]."""
    size, channels = model.images.size_px, len(model.images.mean)
    shape = (IMAGES, COARSE_PX, COARSE_PX, channels)
    coarse = np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)
    return jax.image.resize(jnp.asarray(coarse), (IMAGES, size, size, channels), 'linear')


def _statistics(stage: str, x: np.ndarray) -> Activations:
    finite = bool(np.isfinite(x).all())
    channels = x.reshape(-1, x.shape[-1]).astype(np.float64)
    dead_share = float((channels == channels[:1]).all(0).mean()) if finite else float('nan')
    rms = float(np.sqrt(np.square(channels).mean())) if finite else float('nan')
    flaw = ''
    if not finite:
        flaw = 'not finite'
    elif dead_share >= DEAD_SHARE:
        flaw = 'dead'
    elif rms > EXPLODING_RMS:
        flaw = 'exploding'
    return Activations(
        stage=stage,
        shape=x.shape[1:],
        mean=float(channels.mean()),
        std=float(channels.std()),
        largest=float(np.abs(channels).max()),
        dead_share=dead_share,
        flaw=flaw,
    )


def not_finite(params: Params, stats: Stats) -> list[str]:
    """The paths of leaves with NaN or infinite values."""
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    return [path for path, leaf in leaves.items() if not np.isfinite(leaf).all()]
