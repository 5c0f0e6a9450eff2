"""The config classes for weights of source examples (`weights=`)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tljax.sample_transfer.kernels import kernel_mean_matching, kliep
from tljax.sample_transfer.logistic import logistic_ratio
from tljax.sample_transfer.selection import class_importance, nearest_selection
from tljax.sample_transfer.size import uniform
from tljax.sample_transfer.updates import alignment, faded
from tljax.types import Domains, Seen


@dataclasses.dataclass(slots=True, kw_only=True)
class Uniform:
    """Equal weights."""

    def measure(self, domains: Domains) -> np.ndarray:
        """See `types.Weighing`."""
        return uniform(domains.count)


@dataclasses.dataclass(slots=True, kw_only=True)
class LogisticRatio:
    """Weights by the odds that an example belongs to the target; see `logistic_ratio`.

    Attributes:
        folds: of the cross-validation that chooses the strength of the penalty.
        most: largest weight.
    """

    folds: int = 3
    most: float = 20.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _low(self, folds=2, most=1)

    def measure(self, domains: Domains) -> np.ndarray:
        """See `types.Weighing`."""
        source, target = domains.features()
        return logistic_ratio(
            source=source, target=target, folds=self.folds, most=self.most, seed=domains.seed
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class KernelMeanMatching:
    """Weights that match the means in a kernel's feature space; see `kernel_mean_matching`.

    Attributes:
        block_rows: source rows that are matched at a time.
        target_rows: most target rows that are matched with.
        bandwidth: of the kernel, relative to the median distance.
        most: largest weight.
    """

    block_rows: int = 1000
    target_rows: int = 2000
    bandwidth: float = 1.0
    most: float = 20.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _low(self, block_rows=2, target_rows=1, bandwidth=1e-6, most=1)

    def measure(self, domains: Domains) -> np.ndarray:
        """See `types.Weighing`."""
        source, target = domains.features()
        return kernel_mean_matching(
            source=source,
            target=target,
            block_rows=self.block_rows,
            target_rows=self.target_rows,
            bandwidth=self.bandwidth,
            most=self.most,
            seed=domains.seed,
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class Kliep:
    """Weights from a mixture of kernels that maximises the target's likelihood; see `kliep`.

    Attributes:
        centres: kernels of the mixture.
        folds: of the cross-validation that chooses the width of the kernels.
        most: largest weight.
    """

    centres: int = 100
    folds: int = 5
    most: float = 20.0

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _low(self, centres=1, folds=2, most=1)

    def measure(self, domains: Domains) -> np.ndarray:
        """See `types.Weighing`."""
        source, target = domains.features()
        return kliep(
            source=source,
            target=target,
            centres=self.centres,
            folds=self.folds,
            most=self.most,
            seed=domains.seed,
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class ClassImportance:
    """Weights by the frequency of an example's class in the target; see `class_importance`."""

    def measure(self, domains: Domains) -> np.ndarray:
        """See `types.Weighing`."""
        return class_importance(
            source_labels=domains.labels(), target_probabilities=domains.predictions()
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class NearestSelection:
    """Selects the examples nearest to a target example; see `nearest_selection`.

    Training does not read the other examples.

    Attributes:
        neighbours: of each target example; all if the source has fewer.
        counted: whether weights are proportional to the number of selections.
    """

    neighbours: int = 100
    counted: bool = False

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return _low(self, neighbours=1)

    def measure(self, domains: Domains) -> np.ndarray:
        """See `types.Weighing`."""
        source, target = domains.features()
        return nearest_selection(
            source=source,
            target=target,
            neighbours=min(self.neighbours, len(source)),
            counted=self.counted,
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class TrAdaBoost:
    """Reduces the weights of examples that the network keeps getting wrong.

    A round is `round_epochs` epochs of the target. Over a round, `1 - p(label)` of each example is
    averaged over the steps that used it. At the end its weight is multiplied by `beta` to the power
    of this mean. An example that no step used gets the mean of the others. Weights start at 1. The
    target's weights stay 1: the paper raises them for a vote of all rounds' classifiers, but one
    network would then follow the hardest target examples only.

    Attributes:
        round_epochs: epochs of the target in a round.

    Source: Dai et al. 2007, "Boosting for Transfer Learning", with the correction of Al-Stouhi and
    Reddy 2011; see `faded`.
    """

    round_epochs: float = 1.0

    @property
    def needs_slope(self) -> bool:
        """See `types.Reweighing`."""
        return False

    def problems(self) -> list[str]:
        """What `validate` reports."""
        fine = 0 < self.round_epochs < math.inf
        return [] if fine else [f'round_epochs is {self.round_epochs}, wanted more than 0']

    def measure(self, domains: Domains) -> np.ndarray:
        """See `types.Weighing`."""
        return uniform(domains.count)

    def begin(self, count: int, epoch_steps: float, total_steps: int) -> dict[str, Any]:
        """See `types.Reweighing`."""
        length = max(1, round(self.round_epochs * epoch_steps))
        return {
            'wrong': np.zeros(count, np.float32),
            'shown': np.zeros(count, np.float32),
            'round_steps': np.int32(length),
            'rounds': np.float32(max(1, total_steps // length)),
            'last_step': np.int32(-1),  # the last step with source rows; short runs skip steps
        }

    def update(
        self, weights: jax.Array, memory: dict[str, Any], seen: Seen
    ) -> tuple[jax.Array, dict[str, Any]]:
        """See `types.Reweighing`."""
        real = seen.mask.astype(jnp.float32)
        wrong = memory['wrong'].at[seen.rows].add(real * seen.wrong)
        shown = memory['shown'].at[seen.rows].add(real)
        mean = wrong.sum() / jnp.maximum(shown.sum(), 1)
        losses = jnp.where(shown > 0, wrong / jnp.maximum(shown, 1), mean)
        last = jnp.where(memory['last_step'] < 0, seen.step - 1, memory['last_step'])
        done, before = ((step + 1) // memory['round_steps'] for step in (seen.step, last))
        ends = (done > before) & seen.last
        weights = jnp.where(ends, faded(weights, losses, memory['rounds']), weights)
        kept = {'wrong': jnp.where(ends, 0, wrong), 'shown': jnp.where(ends, 0, shown)}
        return weights, memory | kept | {'last_step': jnp.where(seen.last, seen.step, last)}


@dataclasses.dataclass(slots=True, kw_only=True)
class GradientAlignment:
    """Weights by how much a step on an example would reduce the target's loss.

    Each step computes the `alignment` of its source rows with the gradient of its target rows, and
    moves their weights towards it by `rate`. If no row would help, all of them move towards 0, so a
    source that never helps ends up with weight 0.

    Attributes:
        rate: how far weights move at a step; 0 < rate <= 1.

    Source: Ren et al. 2018, "Learning to Reweight Examples for Robust Deep Learning", for the last
    layer that the domains share. In the paper `rate` is 1 and the target rows are held out; here
    they are those of the step.
    """

    rate: float = 0.3

    @property
    def needs_slope(self) -> bool:
        """See `types.Reweighing`."""
        return True

    def problems(self) -> list[str]:
        """What `validate` reports."""
        return [] if 0 < self.rate <= 1 else [f'rate is {self.rate}, wanted 0 < x <= 1']

    def measure(self, domains: Domains) -> np.ndarray:
        """See `types.Weighing`."""
        return uniform(domains.count)

    def begin(self, count: int, epoch_steps: float, total_steps: int) -> dict[str, Any]:
        """See `types.Reweighing`."""
        return {}

    def update(
        self, weights: jax.Array, memory: dict[str, Any], seen: Seen
    ) -> tuple[jax.Array, dict[str, Any]]:
        """See `types.Reweighing`."""
        assert seen.features is not None
        assert seen.errors is not None
        assert seen.slope is not None
        assert seen.offset is not None
        aligned = alignment(seen.features, seen.errors, seen.slope, seen.offset, seen.mask)
        before = weights[seen.rows]
        after = jnp.where(seen.mask, before + self.rate * (aligned - before), before)
        return weights.at[seen.rows].set(after), memory


def _low(one: Any, **least: float) -> list[str]:
    """One line for each field that is less than its minimum or infinite."""
    return [
        f'{name} is {getattr(one, name)}, wanted {value} or more'
        for name, value in least.items()
        if not value <= getattr(one, name) < math.inf
    ]
