"""What a page is made of: the folder of a run, and its data and network if they can be had."""

import dataclasses
import functools
from typing import Any

import numpy as np

from tljax.config import config_json
from tljax.records import tables
from tljax.records.predictions import PREDICTIONS_FILE, SplitPredictions
from tljax.records.runs import CONFIG_FILE
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.training.report.budget import ASKED_SECONDS, Budget
from tljax.training.report.network_pass import NetworkPass
from tljax.training.trained_run import TrainedRun
from tljax.types import Examples, InputError

EVALUATED = ('test', 'val')  # the first one that has images is what a page speaks of


class MissingError(InputError):
    """A run lacks what a part of the page needs; the message says what."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A run, and its data, network and phases.

    Attributes:
        run: its folder.
        trained_job: the experiment made ready, by who has just trained it; None makes it when
            needed.
        budget: the time that the page may take.
    """

    run: TrainedRun
    trained_job: Job | None = None
    budget: Budget = dataclasses.field(default_factory=lambda: Budget(ASKED_SECONDS))

    @functools.cached_property
    def job(self) -> Job:
        """The experiment made ready: its images, and the parameters it started from.

        Raises:
            MissingError: the data or the weights cannot be read any more.
        """
        if self.trained_job is not None:
            return self.trained_job
        try:
            return jobs.setup(self.run.config)
        except (InputError, OSError) as error:
            reason = ' '.join(str(error).split())
            raise MissingError(
                f'The data or the weights of the run cannot be read: {reason}'
            ) from error

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The JSON form of the experiment.

        Raises:
            InputError: config.json is absent or damaged.
        """
        path = self.run.workdir / CONFIG_FILE
        if not path.is_file():
            raise MissingError(f'{self.run.workdir} holds no run: there is no {CONFIG_FILE} in it')
        return config_json.fields_of(path.read_text())

    @property
    def split(self) -> str | None:
        """The split that the page speaks of: test, else val; None without evaluated images."""
        return tables.split_of(self.run.result)

    @functools.cached_property
    def splits(self) -> dict[str, SplitPredictions]:
        """The predictions of each split that has images.

        Raises:
            MissingError: the run is of a version that did not keep them.
        """
        path = self.run.workdir / PREDICTIONS_FILE
        if not path.is_file():
            raise MissingError(
                f'There is no {PREDICTIONS_FILE} in the folder of the run: it is not finished, '
                'or its version of tljax did not keep the predictions of each image.'
            )
        splits = {name: split for name, split in self.run.predictions.splits.items() if len(split)}
        if not splits:
            raise MissingError('There is neither a test nor a validation split.')
        return splits

    def predictions(self) -> tuple[str, SplitPredictions]:
        """The predictions of the test split, else of the validation split, with its name.

        Raises:
            MissingError: there are none.
        """
        splits = self.splits
        name = next((name for name in EVALUATED if name in splits), next(iter(splits)))
        return name, splits[name]

    @functools.cached_property
    def network_pass(self) -> NetworkPass:
        """The programs that run the network on images."""
        return NetworkPass(self.run.network.model)

    def examples(self, name: str) -> tuple[Examples, np.ndarray]:
        """The images of a split, and the place among them of each of its predictions [N].

        Raises:
            MissingError: they cannot be read, or are not those that the run was evaluated on.
        """
        examples = self.job.splits.get(name)
        split = self.splits[name]
        if examples is None or not np.isin(split.ids, examples.ids).all():
            raise MissingError('The data has changed since the run, so its images are not shown.')
        order = np.argsort(examples.ids)
        return examples, order[np.searchsorted(examples.ids, split.ids, sorter=order)]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.run.predictions.classes


SPLIT_NAMES = {'test': 'test', 'val': 'validation', 'train': 'training'}


def split_name(split: str) -> str:
    """`validation` for `val`."""
    return SPLIT_NAMES.get(split, split)
