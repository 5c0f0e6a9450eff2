"""The values of a config's `samples`: source-domain images that are trained too."""

import dataclasses
import enum
import math

from tljax.augment import Cutout, RandAugment
from tljax.sample_transfer.weighing import Uniform
from tljax.types import Augmentation, DataSource, Loss, Weighing


class Guard(enum.Enum):
    """What becomes of a source that a short run finds to hurt the target."""

    DROP = 'drop'  # the run says so and goes on without it
    WARN = 'warn'  # the run says so and goes on with it
    OFF = 'off'  # no short run


@dataclasses.dataclass(slots=True, kw_only=True)
class LabelledSource:
    """Labelled images of another set, with classes of its own, beside the target's.

    Both share the backbone, and each has a head, of the same form. A step's loss is that of its
    target rows, plus that of the source rows times `fraction / (1 - fraction)`: all rows count
    alike, and a source row by its weight besides. What falls until `until_epochs` is how much the
    source counts; its rows are as many until then, and none from there on.
    """

    data: DataSource  # of which `train` is used
    fraction: float = 0.5  # of a step's rows; they are added to the target's `batch_size`
    until_epochs: float | None = (
        None  # of the target's, by when it counts nothing; None: throughout
    )
    weights: Weighing = dataclasses.field(default_factory=Uniform)
    share_head: bool = False  # one head for both; the source's classes are among the target's
    per_class: int | None = None  # source images per class; None for all
    loss: Loss | None = None  # None for the experiment's
    guard: Guard = Guard.DROP
    trial_steps: int = 100  # of a short run
    trial_pairs: int = 3  # of them, with the source and without; each holds out other images
    least_share: float = 0.1  # of its examples that the effective sample size is to have

    def problems(self) -> list[str]:
        """What `validate` reports."""
        problems = _problems(self)
        if not 0 < self.least_share <= 1:
            problems.append(f'least_share is {self.least_share}, wanted 0 < x <= 1')
        if self.per_class is not None and self.per_class < 1:
            problems.append(f'per_class is {self.per_class}, wanted 1 or more')
        return problems


@dataclasses.dataclass(slots=True, kw_only=True)
class UnlabelledPool:
    """Images without labels, which the network labels itself as it learns.

    What it says of a weakly changed view of an image, where it is sure, is the target of a strongly
    changed view of it, in the same step, through the target's head. A class is sure from
    `threshold` on; with `balanced`, from less on where few images are taken for it so far.

    Source: Sohn et al. 2020, "FixMatch"; the thresholds are those of Zhang et al. 2021, "FlexMatch:
    Boosting Semi-Supervised Learning with Curriculum Pseudo Labeling", equations 5, 7 and 11.
    """

    data: DataSource | None = None  # of which `train` is used, whatever its labels
    paths: tuple[str, ...] = ()  # or folders, files and lists of images
    fraction: float = 0.5  # of a step's rows; they are added to the target's `batch_size`
    until_epochs: float | None = None
    threshold: float = 0.95  # of the probability
    balanced: bool = True
    weak: tuple[Augmentation, ...] | None = None  # None for the experiment's
    strong: tuple[Augmentation, ...] = (RandAugment(), Cutout())  # after the weak ones
    guard: Guard = Guard.DROP
    trial_steps: int = 100
    trial_pairs: int = 3

    def problems(self) -> list[str]:
        """What `validate` reports."""
        problems = _problems(self)
        if not 0 < self.threshold < 1:
            problems.append(f'threshold is {self.threshold}, wanted 0 < x < 1')
        if (self.data is None) == (not self.paths):
            problems.append(f'data is {self.data} and paths {self.paths}, wanted one of them')
        return problems


@dataclasses.dataclass(slots=True, kw_only=True)
class WithoutSource:
    """Among `baselines`: the same run without the source."""


def _problems(source: LabelledSource | UnlabelledPool) -> list[str]:
    fraction, until_epochs, problems = source.fraction, source.until_epochs, []
    if not 0 < fraction < 1:
        problems.append(f'fraction is {fraction}, wanted 0 < x < 1')
    if until_epochs is not None and not 0 < until_epochs < math.inf:
        problems.append(f'until_epochs is {until_epochs}, wanted more than 0')
    for name in ('trial_steps', 'trial_pairs'):
        if getattr(source, name) < 1:
            problems.append(f'{name} is {getattr(source, name)}, wanted 1 or more')
    return problems
