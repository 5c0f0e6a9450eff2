"""A penalty on the upstream head's predictions, with targets from the labels of the new task."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tljax.strategies.penalties import terms
from tljax.types import Needs, PenaltyInputs, Setting, Start


@dataclasses.dataclass(slots=True, kw_only=True)
class CoTuning:
    """The upstream head is to predict the upstream classes that belong to an image's label.

    `strength` times the cross-entropy between p(upstream class | label) and the upstream head's
    prediction from the current features. p(upstream class | label) is computed at the start: the
    mean of the upstream head's predictions over the training images of each label (the paper's
    direct approach). These predictions are calibrated by `temperature`, which divides the logits;
    with labelled upstream images, `calibration_temperature` computes it. The upstream head is
    frozen; the paper trains it too.

    Attributes:
        strength: multiplies the penalty.
        temperature: divides the logits of the upstream head at the start.

    Source: You et al. 2020, "Co-Tuning for Transfer Learning".
    """

    one_label: ClassVar[bool] = True

    strength: float = 2.3
    temperature: float = 1.0

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        return terms.strength_problems(strength=self.strength, temperature=self.temperature)

    def obstacle(self, setting: Setting) -> str | None:
        """See `types.Penalty`."""
        return terms.upstream_obstacle(setting)

    def needs(self, setting: Setting) -> Needs:
        """See `types.Penalty`."""
        features = terms.read_stages((), setting)
        return Needs(features=features, upstream=bool(features))

    def prepare(self, start: Start) -> Any:
        """p(upstream class | label), [K, S]."""
        assert start.upstream is not None
        upstream, last = start.upstream, start.setting.stages[-1]

        @jax.jit
        def predict(params, x):
            logits = upstream(start.run(params, x, None, last))
            return jax.nn.softmax(logits.astype(jnp.float32) / self.temperature)

        predictions, labels = [], []
        for x, label, mask in start.batches(None):
            real = np.asarray(mask)
            predictions.append(np.asarray(predict(start.params, x))[real])
            labels.append(np.asarray(label)[real])
        return relationship(np.concatenate(predictions), np.concatenate(labels), start.num_classes)

    def __call__(self, inputs: PenaltyInputs, prepared: Any) -> jax.Array:
        """See `types.Penalty`."""
        total = jnp.zeros((), jnp.float32)
        for features in (inputs.features[n] for n in terms.read_stages((), inputs.setting)):
            assert inputs.upstream is not None
            log_p = jax.nn.log_softmax(inputs.upstream(features).astype(jnp.float32))
            entropies = -((inputs.targets @ prepared) * log_p).sum(-1)
            total += self.strength * terms.mean(entropies, inputs.mask)
        return total


def relationship(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """p(upstream class | label): the mean prediction over the examples of each label.

    Args:
        predictions: [N, S], rows that sum to 1.
        labels: [N].
        num_classes: K.

    Returns:
        [K, S] float32; zeros, which have no effect, for a label without examples.
    """
    sums = np.zeros((num_classes, predictions.shape[1]))
    np.add.at(sums, labels, predictions)
    counts = np.bincount(labels, minlength=num_classes)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)


def calibration_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T that maximises the likelihood of the labels under softmax(logits / T).

    Args:
        logits: [N, S], of examples that the network was not trained on.
        labels: [N].

    Returns:
        T, between 0.01 and 100.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks": temperature scaling.
    """
    logits = np.asarray(logits, np.float64)

    def slope(inverse: float) -> float:
        """The derivative of the mean loss with respect to 1 / T; the loss is convex in it."""
        scaled = inverse * logits
        p = np.exp(scaled - scaled.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return float(((p * logits).sum(1) - logits[np.arange(len(labels)), labels]).mean())

    low, high = 0.01, 100.0
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / (low * high) ** 0.5
