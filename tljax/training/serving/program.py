"""The network of a run as one compiled program for one image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tljax.features import saliency
from tljax.models import stages, views
from tljax.models.layers import Pooling
from tljax.models.stages import HEAD
from tljax.types import Params, Stats
from tljax.weights.network import Network


class Outputs(NamedTuple):
    """What the network computes for one image.

    Attributes:
        outputs: [O], the outputs of the head.
        values: as `Task.predicted` states, such as the calibrated probabilities [K] of classes.
        features: [F] float32, the pooled input of the head.
        heat: [h, w], the saliency map of the predicted class; None if there is none.
    """

    outputs: np.ndarray
    values: np.ndarray
    features: np.ndarray
    heat: np.ndarray | None


class Program:
    """Computes prediction, features and saliency map of one image in one compiled program.

    Attributes:
        method: the kind of saliency map: 'Grad-CAM', 'attention rollout', or '' for none.
        stage: the stage whose feature map Grad-CAM explains; None if it is not used.
    """

    def __init__(self, network: Network):
        self._network = network
        self.stage, self.method = _saliency(network)
        self._run = jax.jit(self._compute)

    def __call__(self, image: np.ndarray) -> Outputs:
        """The outputs for a decoded image [resize_px, resize_px, 3] uint8."""
        computed = self._run(self._network.params, self._network.stats, image[None])
        outputs, values, features, heat = jax.device_get(computed)
        return Outputs(outputs[0], values[0], features[0], None if heat is None else heat[0])

    def _compute(
        self, params: Params, stats: Stats, images: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
        """The entries of `Outputs` for images [N, S, S, 3]."""
        model, network = self._network.model, self._network
        x = stages.normalise(model.preprocessing, images)
        maps, after = x, None
        if self.stage:
            after = model.names[model.names.index(self.stage) + 1]
            maps, _ = stages.run(model, params, stats, x, stop=after)
        below, _ = stages.run(model, params, stats, maps, start=after, stop=HEAD)
        logits, _ = stages.run(model, params, stats, below, start=HEAD)
        heat = None
        if self.stage:
            classes = logits.argmax(-1).astype(jnp.int32)
            heat = saliency.grad_cam(model, params, stats, maps, classes, self.stage)
        elif self.method:
            heat = saliency.attention_rollout(model, params, stats, x)
        pooling = getattr(model.stages[HEAD], 'pooling', Pooling.AVERAGE)
        features = stages.pooled(model, below, pooling).astype(jnp.float32)
        outputs = views.average(logits[:, None], network.task)
        return outputs, network.probabilities(outputs), features, heat


def _saliency(network: Network) -> tuple[str | None, str]:
    """The stage and the method of the saliency map; see `Program`."""
    if not network.task.calibrated:  # no output belongs to the predicted class
        return None, ''
    if saliency.has_attention(network.model):
        return None, 'attention rollout'
    stage = saliency.map_stage(network.model)
    return stage, 'Grad-CAM' if stage else ''
