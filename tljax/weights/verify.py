"""Whether a network's values make sense: statistics of what every stage gives in a forward pass."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tljax import tree
from tljax.models import stages
from tljax.models.stages import Model
from tljax.types import Params, Stats
from tljax.weights.pretrained import Pretrained

IMAGES = 4
COARSE_PX = 8  # the images are this many random colors a side, enlarged: blobs, not noise
DEAD_SHARE = 0.9  # of channels that are the same everywhere in every image
EXPLODING_RMS = 1e3  # the published networks stay under 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Activations:
    """What one stage gives for a few images.

    Attributes:
        stage: its name.
        shape: of its output for one image.
        mean: of all values.
        std: likewise.
        largest: the largest magnitude.
        dead_share: of channels that hold one value in every place of every image.
        flaw: `not finite`, `dead` or `exploding`; empty where there is none.
    """

    stage: str
    shape: tuple[int, ...]
    mean: float
    std: float
    largest: float
    dead_share: float
    flaw: str


def activations(pretrained: Pretrained, model: Model, seed: int = 0) -> list[Activations]:
    """Runs a few images of random blobs through a network and looks at every stage.

    A stage is `not finite` where a value is NaN or infinite, `dead` where nine tenths of its
    channels or more never change, `exploding` where the root mean square is over 1000.

    Args:
        pretrained: the values.
        model: the network that they are of; a head that has none is left out.
        seed: of the images.
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

    found = outputs(pretrained.params, pretrained.stats, _blobs(model, seed))
    return [_look(name, np.asarray(found[name], np.float32)) for name in names]


def _blobs(model: Model, seed: int) -> jax.Array:
    """[IMAGES, size_px, size_px, C] float32 in [0, 255]."""
    size, channels = model.preprocessing.size_px, len(model.preprocessing.mean)
    shape = (IMAGES, COARSE_PX, COARSE_PX, channels)
    coarse = np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)
    return jax.image.resize(jnp.asarray(coarse), (IMAGES, size, size, channels), 'linear')


def _look(stage: str, x: np.ndarray) -> Activations:
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
    """The paths of leaves that hold a NaN or an infinity."""
    leaves = tree.flatten({'params': params, 'batch_stats': stats})
    return [path for path, leaf in leaves.items() if not np.isfinite(leaf).all()]
