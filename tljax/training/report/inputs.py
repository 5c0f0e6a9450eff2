"""What a page is made of: the folder of a run, and its data and network if they can be had."""

import dataclasses
import functools
import pathlib
from typing import Any

from tljax.config import config_json
from tljax.records import tables
from tljax.records.predictions import PREDICTIONS_FILE, SplitPredictions
from tljax.records.runs import CONFIG_FILE
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError

EVALUATED = ('test', 'val')  # the first one that has images is what a page speaks of


class MissingError(InputError):
    """A run lacks what a part of the page needs; the message says what."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A run, and its data, network and phases.

    Attributes:
        run: its folder.
        own_job: the experiment made ready, by who has just trained it; None makes it when needed.
    """

    run: TrainedRun
    own_job: Job | None = None

    @functools.cached_property
    def job(self) -> Job:
        """The experiment made ready: its images, and the parameters it started from.

        Raises:
            MissingError: the data or the weights cannot be read any more.
        """
        if self.own_job is not None:
            return self.own_job
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

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.run.predictions.classes


def read(workdir: pathlib.Path, job: Job | None = None) -> Inputs:
    """The inputs of a folder; see `Inputs`."""
    return Inputs(TrainedRun(workdir), job)


SPLIT_NAMES = {'test': 'test', 'val': 'validation', 'train': 'training'}


def split_name(split: str) -> str:
    """`validation` for `val`."""
    return SPLIT_NAMES.get(split, split)
