"""The façade over Orbax: the latest and the best state, verified, one writer at a time."""

import collections
import contextlib
import copy
import dataclasses
import fcntl
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from tljax import tree
from tljax.records import checksums
from tljax.records.checksums import CheckpointError, verify
from tljax.records.replacement import VALIDATION_FILE, Replacement


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Holds a folder for this run alone; two writers would interleave their checkpoints.

    Of several processes of one run the first holds it.

    Raises:
        CheckpointError: another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if jax.process_index() > 0:
        yield
        return
    with (workdir / '.lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckpointError(f'{workdir}: another run is under way in this folder') from None
        yield


class Checkpoints:
    """The checkpoints of one run: what stands behind `checkpoints/` in its folder.

    Each holds a tree of arrays and a record (JSON: position in the data, phase). Kept are the
    latest, and the best by validation score, then loss, then lateness. Orbax restores flipped bits
    without an error, so the SHA-256 of every file is written before the checkpoint is committed.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder.absolute()
        self._sums = self._folder / checksums.FOLDER
        self._sums.mkdir(parents=True, exist_ok=True)
        self._replacement = Replacement(self._folder)
        if jax.process_index() == 0:
            self._replacement.recover()
        _wait_for_all('recovered')
        self._saving: int | None = None
        self.set_aside: list[int] = []  # steps that `latest_intact` could not trust
        self._validated = _read_validated(self._folder)
        self._policy = _LatestAndBest(self._validated)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            cleanup_tmp_directories=jax.process_count() == 1,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_sums),
        )
        self._manager = _manager(self._folder / 'steps', options)

    def steps(self) -> list[int]:
        """The steps that are there, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """The step with the best validation result; None where none was validated."""
        return _best(self.steps(), self._validated)

    def keep(self, step: int | None) -> None:
        """Names a checkpoint that is kept besides the latest and the best; None for no other."""
        self._policy.kept = step

    def save(
        self,
        step: int,
        arrays: Any,
        record: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts writing a checkpoint; it is there once it is whole.

        Args:
            step: its name; one that is there already is left alone.
            arrays: a tree of arrays.
            record: anything JSON can hold.
            metrics: `score` and `loss` on validation, where it was run.

        Raises:
            CheckpointError: it, or the one before, could not be written.
        """
        if step in self.steps():
            return
        with self._failures(step):
            self._manager.wait_until_finished()
            self._seal()
            self._note_validation(step, metrics)
            self._saving = step
            self._manager.save(step, args=_contents(arrays, record), force=True)

    def replace(
        self,
        step: int,
        arrays: Any,
        record: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Puts a checkpoint in the place of that of the same step, and waits until it is there.

        A process that is killed meanwhile leaves the one or the other, whole; arguments and errors
        are those of `save`.
        """
        if step not in self.steps():
            self.save(step, arrays, record, metrics)
            return
        with self._failures(step):
            self._manager.wait_until_finished()
            self._seal()
            manager = _manager(self._replacement.folder, ocp.CheckpointManagerOptions())
            with contextlib.closing(manager):
                manager.save(step, args=_contents(arrays, record), force=True)
                manager.wait_until_finished()
            if self.best() == step:  # others were deleted for it, or would have been before a kill
                self._validated.clear()
            self._validated.pop(step, None)
            self._validated |= _ranks(step, metrics)
            if jax.process_index() == 0:
                self._replacement.commit(step, self._validated)
            _wait_for_all('replaced')
            self._manager.reload()

    def record(self, step: int) -> dict[str, Any]:
        """The record of a checkpoint, without its arrays.

        Raises:
            CheckpointError: it is damaged.
        """
        with self._failures(None):
            self._manager.wait_until_finished()
        self.verify(step)
        restored = self._manager.restore(
            step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
        )
        return restored['record']

    def restore(self, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
        """A checkpoint's arrays, placed as `target`'s are, and its record.

        Args:
            step: one of `steps()`.
            target: arrays or abstract ones: structure, shapes, types and shardings to restore to.

        Raises:
            CheckpointError: it is damaged or of another structure.
        """
        with self._failures(None):
            self._manager.wait_until_finished()
        self.verify(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        try:
            self._compare(step, abstract)
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
        return restored['arrays'], restored['record']

    def latest_intact(self) -> int | None:
        """The last step whose files are as they were written.

        Later ones are moved to `damaged-STEP` and listed in `set_aside`.
        """
        for step in reversed(self.steps()):
            try:
                self.verify(step)
            except CheckpointError:
                aside = self._folder / f'damaged-{step}'
                shutil.rmtree(aside, ignore_errors=True)
                shutil.move(self._folder / 'steps' / str(step), aside)
                self._manager.reload()
                self.set_aside.append(step)
                continue
            return step
        return None

    def verify(self, step: int) -> None:
        """Compares a checkpoint's files with what was written.

        Raises:
            CheckpointError: a file is missing, changed or new, or the sums are missing.
        """
        verify(self._folder, step)

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
            CheckpointError: something could not be.
        """
        with self._failures(None):
            self._manager.wait_until_finished()
            self._seal()
            self._manager.close()

    def _write_sums(self) -> None:
        """Writes the sums of the data that is being saved.

        Orbax calls it in the process that commits, when the data is written and before the folder
        gets its name, so that no committed checkpoint is without sums.
        """
        (home,) = (self._folder / 'steps').glob(f'{self._saving}.*')  # its temporary name
        sums = checksums.digests(home, '*/**/*')
        checksums.write_json(self._sums / f'{self._saving}.json', sums)

    def _seal(self) -> None:
        """Adds the sums of what the commit itself wrote, and forgets those of deleted steps.

        Of several processes the first does, which is also the one that commits and deletes.
        """
        if jax.process_index() > 0:
            return
        steps, path = self.steps(), self._sums / f'{self._saving}.json'
        if self._saving in steps and path.exists():
            notes = checksums.digests(self._folder / 'steps' / str(self._saving), '*')
            checksums.write_json(path, notes | json.loads(path.read_text()))
        self._saving = None
        for path in self._sums.glob('*.json'):
            if int(path.stem) not in steps:
                path.unlink(missing_ok=True)

    def _compare(self, step: int, abstract: Any) -> None:
        """Orbax casts types without a word."""
        stored = _kinds(self._manager.item_metadata(step)['arrays'].tree)
        wanted = _kinds(abstract)
        if stored != wanted:
            raise ValueError(f'stored {dict(stored - wanted)}, wanted {dict(wanted - stored)}')

    def _note_validation(self, step: int, metrics: Mapping[str, float] | None) -> None:
        """Orbax's own metrics would have to come with every checkpoint, or it warns."""
        if metrics is None:
            return
        self._validated |= _ranks(step, metrics)
        if jax.process_index() == 0:
            checksums.write_json(self._folder / VALIDATION_FILE, self._validated)

    @contextlib.contextmanager
    def _failures(self, step: int | None) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            what = 'the last checkpoint' if step is None else f'the checkpoint of step {step}'
            raise CheckpointError(
                f'{self._folder}: {what}, or the one before, was not written: {error!r:.300}'
            ) from error


def read_variables(folder: pathlib.Path, step: int | None = None) -> tuple[int, Any, Any]:
    """Parameters and statistics of a run's checkpoint, as host arrays, whatever else it holds.

    Where running means of parameters were kept, they stand in for the parameters.

    Nothing in the folder is changed, so that a run which is under way can be read.

    Args:
        folder: the run's `checkpoints/`.
        step: None for the best by validation, or the latest where none was validated.

    Returns:
        The step, the parameters, the statistics.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    folder = folder.absolute()
    steps = [int(path.name) for path in (folder / 'steps').glob('*') if path.name.isdigit()]
    if not steps:
        raise CheckpointError(f'{folder}: there is no checkpoint')
    if step is None:
        step = _best(steps, _read_validated(folder))
        step = max(steps) if step is None else step
    verify(folder, step)
    arrays = folder / 'steps' / str(step) / 'arrays'
    try:
        stored = ocp.PyTreeCheckpointHandler().metadata(epath.Path(arrays)).tree['state']
        wanted = {'state': {name: stored.get(name) for name in ('params', 'stats', 'ema')}}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        with ocp.PyTreeCheckpointer() as checkpointer:
            found = checkpointer.restore(
                arrays,
                args=ocp.args.PyTreeRestore(
                    item=wanted, restore_args=as_numpy, partial_restore=True
                ),
            )['state']
    except Exception as error:  # Orbax and its storage raise many kinds
        raise CheckpointError(f'{arrays}: cannot be read: {error!r:.300}') from error
    params = tree.flatten(found['params'])
    means = {p: leaf for p, leaf in tree.flatten(found['ema'] or {}).items() if leaf is not None}
    return step, tree.unflatten({**params, **means}), found['stats']


def _read_validated(folder: pathlib.Path) -> dict[int, list[float]]:
    """`{step: [score, -loss]}` of the steps that were validated."""
    path = folder / VALIDATION_FILE
    if not path.exists():
        return {}
    return {int(step): rank for step, rank in json.loads(path.read_text()).items()}


@dataclasses.dataclass
class _LatestAndBest(checkpoint_managers.PreservationPolicy):
    """What Orbax keeps; `validated` and `kept` are filled by the owner as it goes."""

    validated: Mapping[int, list[float]]
    kept: int | None = None

    def should_preserve(
        self,
        checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
        *,
        context: checkpoint_managers.PreservationContext,
    ) -> Sequence[bool]:
        steps = [info.step for info in checkpoints]
        keep = {max(steps, default=None), _best(steps, self.validated), self.kept}
        return [step in keep for step in steps]


def _best(steps: Sequence[int], validated: Mapping[int, list[float]]) -> int | None:
    """The step of the highest score, then the lowest loss, then the latest."""
    ranked = [(*validated[step], step) for step in steps if step in validated]
    return int(max(ranked)[-1]) if ranked else None


def _kinds(arrays: Any) -> collections.Counter[str]:
    """How many leaves there are of each shape and type; Orbax itself compares their paths."""
    leaves = jax.tree.leaves(arrays, is_leaf=lambda leaf: hasattr(leaf, 'shape'))
    return collections.Counter(f'{np.dtype(leaf.dtype)} {list(leaf.shape)}' for leaf in leaves)


def _manager(folder: pathlib.Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    handlers = {'arrays': ocp.StandardCheckpointHandler(), 'record': ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(folder, options=options, item_handlers=handlers)


def _contents(arrays: Any, record: Mapping[str, Any]) -> ocp.args.Composite:
    """What a checkpoint holds; its owner goes on changing the record while it is written."""
    return ocp.args.Composite(
        arrays=ocp.args.StandardSave(arrays),
        record=ocp.args.JsonSave(copy.deepcopy(dict(record))),
    )


def _ranks(step: int, metrics: Mapping[str, float] | None) -> dict[int, list[float]]:
    """`{step: [score, -loss]}`; empty where the step was not validated."""
    return {} if metrics is None else {step: [metrics['score'], -metrics['loss']]}


def _wait_for_all(name: str) -> None:
    """Waits for the other processes of the run."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
