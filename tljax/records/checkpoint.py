"""Saves, verifies and restores the checkpoints of a run, with Orbax."""

import collections
import contextlib
import copy
import json
import logging
import math
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from tljax.records import checksums, disk_space, ranking, workdirs
from tljax.records.checkpoint_replacement import Replacement
from tljax.records.checksums import CheckpointError, verify
from tljax.records.disk_space import DiskError


def _is_of_others(record: logging.LogRecord) -> bool:
    """Whether a log record is not from Orbax, which raises its errors, too."""
    return '/orbax/' not in record.pathname


logging.getLogger('absl').addFilter(_is_of_others)


class Checkpoints:
    """The checkpoints of one run, in the folder `checkpoints/` of its workdir.

    Each one has a tree of arrays and a record (JSON: position in the data, phase). The latest and
    the best one are kept. Orbax restores flipped bits without an error, so the SHA-256 of every
    file is written before the checkpoint is committed.

    Attributes:
        unfinished: steps whose saves were cut off; what they had written was deleted.
        set_aside: steps of damaged checkpoints that `latest_intact` moved away.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder.absolute()
        self._sums = self._folder / checksums.FOLDER
        self._sums.mkdir(parents=True, exist_ok=True)
        self._replacement = Replacement(self._folder)
        self.unfinished: list[int] = []
        if jax.process_index() == 0:
            self._replacement.recover()
            self.unfinished = _delete_unfinished(self._folder / 'steps')
        _wait_for_all('recovered')
        self._saving: int | None = None
        self.set_aside: list[int] = []
        self._ranks = ranking.read(self._folder)
        self._policy = ranking.LatestAndBest(self._ranks)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_sums),
        )
        self._manager = _manager(self._folder / 'steps', options)

    def check_space(self, arrays: Any) -> None:
        """Checks that the disk has space for checkpoints.

        Args:
            arrays: a tree of arrays or shapes, as `save` takes it.

        Raises:
            DiskError: it has not.
        """
        sizes = (math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(arrays))
        if jax.process_index() == 0:
            disk_space.check(self._folder, sum(sizes))

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """The step with the best validation result; None if no step was validated."""
        return ranking.best(self.steps(), self._ranks)

    def keep(self, step: int | None) -> None:
        """Also keeps this checkpoint, besides the latest and the best; None for no other."""
        self._policy.kept = step

    def save(
        self,
        step: int,
        arrays: Any,
        record: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to write a checkpoint in the background. An existing one is not changed.

        Args:
            step: the number of the step, which names the checkpoint.
            arrays: a tree of arrays.
            record: any content of JSON.
            metrics: `score` and `loss` on validation; None if the step was not validated.

        Raises:
            CheckpointError: this checkpoint or the one before could not be written.
            BucketError: the run is in a bucket, and an upload failed.
        """
        workdirs.check_uploads(self._folder)
        if step in self.steps():
            return
        with self._errors(step):
            self._manager.wait_until_finished()
            self._seal()
            rank = ranking.of_step(step, metrics)
            self._ranks |= rank
            self._saving = step
            self._manager.save(step, args=_contents(arrays, record, rank.get(step)), force=True)

    def replace(
        self,
        step: int,
        arrays: Any,
        record: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Replaces the checkpoint of a step, and waits until that is done.

        A process that is killed meanwhile leaves either the old or the new checkpoint, complete.
        Arguments and errors are those of `save`.
        """
        workdirs.check_uploads(self._folder)
        if step not in self.steps():
            self.save(step, arrays, record, metrics)
            return
        with self._errors(step):
            self._manager.wait_until_finished()
            self._seal()
            manager = _manager(self._replacement.folder, ocp.CheckpointManagerOptions())
            rank = ranking.of_step(step, metrics)
            with contextlib.closing(manager):
                manager.save(step, args=_contents(arrays, record, rank.get(step)), force=True)
                manager.wait_until_finished()
            if self.best() == step:
                # Checkpoints that were best before are deleted, so their ranks are void.
                self._ranks.clear()
            self._ranks.pop(step, None)
            self._ranks |= rank
            if jax.process_index() == 0:
                self._replacement.commit(step)
            _wait_for_all('replaced')
            self._manager.reload()

    def record(self, step: int) -> dict[str, Any]:
        """The record of a checkpoint, without its arrays.

        Raises:
            CheckpointError: it is damaged.
        """
        self._wait_and_verify(step)
        restored = self._manager.restore(
            step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
        )
        return _without_rank(restored['record'])

    def restore(self, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
        """Restores a checkpoint.

        Args:
            step: one of `steps()`.
            target: arrays or abstract arrays with the wanted structure, shapes, types and
                shardings.

        Returns:
            The arrays and the record.

        Raises:
            CheckpointError: it is damaged or has another structure.
        """
        self._wait_and_verify(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        try:
            self._check_types(step, abstract)
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardRestore(abstract), record=ocp.args.JsonRestore()
                ),
            )
        except Exception as error:  # Orbax and its storage raise many kinds
            raise CheckpointError(
                f'{self._folder}: the checkpoint of step {step} cannot be restored: {error!r:.300}'
            ) from error
        return restored['arrays'], _without_rank(restored['record'])

    def latest_intact(self) -> int | None:
        """The last step whose files are not damaged; None for a run without checkpoints.

        All checkpoints are verified. Damaged ones are moved to `damaged-STEP` and listed in
        `set_aside`.

        Raises:
            CheckpointError: all checkpoints are damaged.
        """
        for step in ranking.steps(self._folder):
            try:
                verify(self._folder, step)
            except CheckpointError:
                aside = self._folder / f'damaged-{step}'
                shutil.rmtree(aside, ignore_errors=True)
                shutil.move(self._folder / 'steps' / str(step), aside)
                self._ranks.pop(step, None)
                self.set_aside.append(step)
        if self.set_aside:
            self._manager.reload()
        damaged = sorted(path.name for path in self._folder.glob('damaged-*'))
        if damaged and not self.steps():
            raise CheckpointError(
                f'{self._folder}: all checkpoints are damaged ({", ".join(damaged)}); to train '
                'from the start, delete this folder or name another --workdir'
            )
        return max(self.steps(), default=None)

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
            CheckpointError: a checkpoint could not be written.
        """
        with self._errors(None):
            self._manager.wait_until_finished()
            self._seal()
            self._manager.close()

    def _write_sums(self) -> None:
        """Writes the checksums of the checkpoint that is being saved.

        Orbax calls this after the data is written and before the folder gets its final name, so
        every committed checkpoint has checksums. Of several processes, the one that commits does.
        """
        (temporary,) = (self._folder / 'steps').glob(f'{self._saving}.*')
        sums = checksums.digests(temporary, '*/**/*')
        checksums.write_json(self._sums / f'{self._saving}.json', sums)

    def _seal(self) -> None:
        """Adds checksums of the files that the commit wrote, and deletes those of deleted steps.

        Of several processes the first does, because it is the one that commits and deletes.
        """
        if jax.process_index() > 0:
            return
        steps, path = self.steps(), self._sums / f'{self._saving}.json'
        if self._saving in steps and path.exists():
            notes = checksums.digests(self._folder / 'steps' / str(self._saving), '*')
            checksums.write_json(path, notes | json.loads(path.read_text()))
        self._saving = None
        for path in self._sums.glob('*.json'):
            if not path.stem.isdecimal() or int(path.stem) not in steps:
                path.unlink(missing_ok=True)

    def _check_types(self, step: int, abstract: Any) -> None:
        """Raises a ValueError for another shape or type, because Orbax casts types silently."""
        stored = _shapes_and_types(self._manager.item_metadata(step)['arrays'].tree)
        wanted = _shapes_and_types(abstract)
        if stored != wanted:
            raise ValueError(f'stored {dict(stored - wanted)}, wanted {dict(wanted - stored)}')

    def _wait_and_verify(self, step: int) -> None:
        with self._errors(None):
            self._manager.wait_until_finished()
        verify(self._folder, step)

    @contextlib.contextmanager
    def _errors(self, step: int | None) -> Iterator[None]:
        """Turns errors of writing into a `CheckpointError`."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            what = 'the last checkpoint' if step is None else f'the checkpoint of step {step}'
            text = f'{self._folder}: {what}, or the one before, was not written: '
            if reason := disk_space.reason(error):
                space = disk_space.free_text(self._folder)
                raise DiskError(f'{text}{reason}; {space}') from error
            raise CheckpointError(f'{text}{error!r:.300}') from error


def _shapes_and_types(arrays: Any) -> collections.Counter[str]:
    """The number of leaves of each shape and type. Orbax itself compares their paths."""
    leaves = jax.tree.leaves(arrays, is_leaf=lambda leaf: hasattr(leaf, 'shape'))
    return collections.Counter(f'{np.dtype(leaf.dtype)} {list(leaf.shape)}' for leaf in leaves)


def _delete_unfinished(folder: pathlib.Path) -> list[int]:
    """Deletes what saves that were cut off have written; returns their steps.

    Orbax would delete it in a thread of its own, while this run reads the folder.
    """
    steps = []
    for path in sorted(folder.glob('*.orbax-checkpoint-tmp*')):
        shutil.rmtree(path)
        step = path.name.partition('.')[0]
        steps += [int(step)] if step.isdecimal() else []
    return steps


def _manager(folder: pathlib.Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    handlers = {'arrays': ocp.StandardCheckpointHandler(), 'record': ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(folder, options=options, item_handlers=handlers)


def _contents(
    arrays: Any, record: Mapping[str, Any], rank: list[float] | None
) -> ocp.args.Composite:
    """The content of a checkpoint, with a copy of the record, which changes during writing.

    The validation result is in the record, because Orbax's own metrics must come with every
    checkpoint.
    """
    content = {**copy.deepcopy(dict(record)), ranking.VALIDATION: rank}
    return ocp.args.Composite(
        arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(content)
    )


def _without_rank(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != ranking.VALIDATION}


def _wait_for_all(name: str) -> None:
    """Waits for the other processes of the run."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
