"""A penalty by which labels of the new task also teach the head of the source task."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tljax.strategies.penalties import rows
from tljax.types import Needs, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class CoTuning:
    """The source task's head has to give the source categories that belong to the label.

    `strength` times the cross-entropy between p(source category | label) and what the upstream
    head says of today's features. The relationship is measured at the start on the training
    split: the mean of the upstream head's predictions over the images of each label (the paper's
    direct approach). Predictions are calibrated by `temperature`, which divides the logits:
    `calibration_temperature` finds it where source images with labels are at hand; 1 leaves
    them as they are. The upstream head is held as it was, where the paper trains it too.

    Source: You et al. 2020, "Co-Tuning for Transfer Learning".
    """

    one_label: ClassVar[bool] = True

    strength: float = 2.3
    temperature: float = 1.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return rows.strength_problems(strength=self.strength, temperature=self.temperature)

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        if setting.upstream_classes is None:
            return 'the weights have no head of the source task'
        return rows.stages_obstacle((), setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        features = rows.read_stages((), setting)
        return Needs(features=features, upstream=bool(features))

    def prepare(self, start: Start) -> Any:
        """The relationship [K, S]."""
        assert start.upstream is not None
        upstream, last = start.upstream, start.setting.stages[-1]

        @jax.jit
        def predict(params, x):
            logits = upstream(start.run(params, x, None, last))
            return jax.nn.softmax(logits.astype(jnp.float32) / self.temperature)

        said, labels = [], []
        for x, label, mask in start.batches(None):
            real = np.asarray(mask)
            said.append(np.asarray(predict(start.params, x))[real])
            labels.append(np.asarray(label)[real])
        return relationship(np.concatenate(said), np.concatenate(labels), start.num_classes)

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        total = jnp.zeros((), jnp.float32)
        for features in (inputs.features[n] for n in rows.read_stages((), inputs.setting)):
            assert inputs.upstream is not None
            log_p = jax.nn.log_softmax(inputs.upstream(features).astype(jnp.float32))
            entropies = -((inputs.targets @ prepared) * log_p).sum(-1)
            total += self.strength * rows.mean(entropies, inputs.mask)
        return total


def relationship(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """p(source category | label): the mean prediction over the examples of each label.

    Args:
        predictions: [N, S], rows that sum to 1.
        labels: [N].
        num_classes: K.

    Returns:
        [K, S] float32; zeros, which teach nothing, for a label without examples.
    """
    sums = np.zeros((num_classes, predictions.shape[1]))
    np.add.at(sums, labels, predictions)
    counts = np.bincount(labels, minlength=num_classes)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)


def calibration_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T at which softmax(logits / T) gives the labels the greatest likelihood.

    Args:
        logits: [N, S] of a network, on examples that it was not trained on.
        labels: [N] of the same task.

    Returns:
        T, between 0.01 and 100.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks": temperature scaling.
    """
    logits = np.asarray(logits, np.float64)

    def slope(inverse: float) -> float:
        """Of the mean loss over 1 / T, in which it is convex."""
        scaled = inverse * logits
        p = np.exp(scaled - scaled.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return float(((p * logits).sum(1) - logits[np.arange(len(labels)), labels]).mean())

    low, high = 0.01, 100.0
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / (low * high) ** 0.5
