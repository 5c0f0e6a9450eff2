"""The inputs of a page: the folder of a run, its data and its network."""

import contextlib
import dataclasses
import functools
import math
from typing import Any

import numpy as np

from tljax.config import config_json
from tljax.records import tables
from tljax.records.predictions import PREDICTIONS_FILE, SplitPredictions
from tljax.records.runs import CONFIG_FILE
from tljax.training import jobs
from tljax.training.jobs import Job
from tljax.training.report import network_pass
from tljax.training.report.budget import ASKED_SECONDS, COMPILE_SECONDS, Budget
from tljax.training.report.network_pass import NetworkPass
from tljax.training.trained_run import TrainedRun
from tljax.types import Examples, InputError, Preprocessing

EVALUATED = ('test', 'val')  # a page reports the first of them that has images
SAMPLE = 1000  # the largest number of images of the map
FEATURES_SHARE = 0.25  # of the remaining time, to compute features
SECONDS_PER_IMAGE = 0.1  # assumed if nothing was measured
LEAST_FEATURES = 32  # the smallest number of images for statistics of features


class MissingError(InputError):
    """A run lacks an input of a section; the message names it."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A run, and its data, network and phases.

    Attributes:
        run: the folder of the run.
        trained_job: the job, if the run has just been trained; None sets it up when it is needed.
        budget: the time that the page may take.
    """

    run: TrainedRun
    trained_job: Job | None = None
    budget: Budget = dataclasses.field(default_factory=lambda: Budget(ASKED_SECONDS))

    @property
    def job(self) -> Job:
        """The job of the run: its images, and the parameters it started from.

        Raises:
            MissingError: the data or the weights can no longer be read.
        """
        if isinstance(self._job, MissingError):
            raise self._job
        return self._job

    @functools.cached_property
    def _job(self) -> Job | MissingError:
        """The job, or the error of setting it up, so that every section gets the same error."""
        if self.trained_job is not None:
            return self.trained_job
        try:
            return jobs.setup(self.run.config)
        except (InputError, OSError) as error:
            reason = ' '.join(str(error).split())
            return MissingError(f'The data or the weights of the run cannot be read: {reason}')

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
    def noun(self) -> str:
        """What the network reads: `images` or `texts`."""
        with contextlib.suppress(InputError):
            return tables.inputs(self.run.result)
        with contextlib.suppress(InputError):  # the run is not finished
            return self.run.config.backbone.preprocessing().inputs
        return Preprocessing.inputs

    def named(self, split: str) -> str:
        """The examples of a split for readers, such as `validation images`."""
        return f'{split_name(split)} {self.noun}'

    @property
    def split(self) -> str | None:
        """The split that the page reports: test, else val; None without evaluated images."""
        return tables.split_of(self.run.result)

    @functools.cached_property
    def splits(self) -> dict[str, SplitPredictions]:
        """The predictions of each split that has images.

        Raises:
            MissingError: the run is of a version that did not write them.
        """
        path = self.run.workdir / PREDICTIONS_FILE
        if not path.is_file():
            run = self.run.workdir
            raise MissingError(
                f'There is no {PREDICTIONS_FILE}: the run is not finished, or its version of tljax '
                'did not write it. For a finished run, '
                f'tljax evaluate {run} --data=config --predictions={path} writes it.'
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
        """The images of a split, and the index [N] of the image of each prediction.

        Raises:
            MissingError: the images cannot be read, or differ from those of the evaluation.
        """
        examples = self.job.splits.get(name)
        split = self.splits[name]
        if examples is None or not np.isin(split.ids, examples.ids).all():
            raise MissingError('The data has changed since the run, so its images are not shown.')
        order = np.argsort(examples.ids)
        return examples, order[np.searchsorted(examples.ids, split.ids, sorter=order)]

    @functools.cached_property
    def sample(self) -> list[tuple[str, int]]:
        """The split and the row of images of all splits, evenly spread if there are many."""
        rows = [(name, row) for name, split in self.splits.items() for row in range(len(split))]
        return [rows[place] for place in spread(len(rows), SAMPLE)]

    @functools.cached_property
    def sample_images(self) -> np.ndarray:
        """The decoded images of the sample, [N, side, side, 3] uint8.

        Raises:
            MissingError: the images can no longer be read.
        """
        parts = []
        for name in dict.fromkeys(name for name, _ in self.sample):
            examples, places = self.examples(name)
            chosen = places[[row for split, row in self.sample if split == name]]
            parts.append(network_pass.decoded(examples, self.run.network.model, chosen))
        return np.concatenate(parts)

    @functools.cached_property
    def sample_features(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The pooled outputs of the stages for the sample, or for a part of it if time is short.

        Returns:
            Indices [M] into the sample, and the outputs [M, F] of each stage.

        Raises:
            MissingError: there is no time, or the images cannot be read.
        """
        images, pass_, network = self.sample_images, self.network_pass, self.run.network
        if self.budget.left < COMPILE_SECONDS:
            raise self.no_time(ASKED_SECONDS)
        if pass_.seconds_per_image is None:
            pass_.outputs(network.params, network.stats, images[: network_pass.BATCH])
        assert pass_.seconds_per_image is not None
        most = int(FEATURES_SHARE * self.budget.left / pass_.seconds_per_image)
        if most < min(LEAST_FEATURES, len(images)):
            raise self.no_time(2 * LEAST_FEATURES * pass_.seconds_per_image / FEATURES_SHARE)
        places = spread(len(images), most)
        outputs = pass_.outputs(network.params, network.stats, images[places])
        return places, outputs.pooled

    @property
    def seconds_per_image(self) -> float:
        """The approximate time of the network per image, measured here or in training."""
        if self.network_pass.seconds_per_image is not None:
            return self.network_pass.seconds_per_image
        speeds = [r['images_per_second'] for r in self.run.metrics if r.get('images_per_second')]
        return 1 / float(np.median(speeds)) if speeds else SECONDS_PER_IMAGE

    def no_time(self, seconds: float) -> MissingError:
        """The error of a section for which there is not enough time.

        Args:
            seconds: the approximate time that the page needs.
        """
        needed = max(seconds, 2 * self.budget.seconds)
        flag = '' if needed <= ASKED_SECONDS else f' --seconds={100 * math.ceil(needed / 100)}'
        return MissingError(
            f'Left out to save time; tljax report {self.run.workdir}{flag} adds it.'
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.run.predictions.classes


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` indices, evenly spread, the first and the last included."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


SPLIT_NAMES = {'test': 'test', 'val': 'validation', 'train': 'training'}


def split_name(split: str) -> str:
    """`validation` for `val`."""
    return SPLIT_NAMES.get(split, split)
