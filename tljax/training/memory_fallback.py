"""A training step that works on smaller parts of a batch where the device runs out of memory."""

import jax
import numpy as np

from tljax import devices
from tljax.config.phases import PhasePlan
from tljax.metrics import totals
from tljax.records import console
from tljax.training import compiled_step, jobs
from tljax.training.jobs import Job
from tljax.training.prefix_cache import Ahead
from tljax.training.states import TrainState
from tljax.types import Batch


class OutOfMemoryError(RuntimeError):
    """The device cannot hold a step, not even in the smallest parts."""


class FittingStep:
    """A phase's compiled step, which works on smaller parts where the device runs out of memory."""

    def __init__(
        self,
        job: Job,
        phase: PhasePlan,
        accumulate: int,
        ahead: Ahead | None = None,
        at: int = 0,
    ):
        """Compiles it for batches in `accumulate` parts, or in as many as the device can hold.

        With `ahead`, batches have features in the place of images. `at` is the first step; where
        a source of samples ends at a later one, it is compiled again there.
        """
        self._job, self._phase, self.accumulate = job, phase, accumulate
        self._in_place = ahead and jax.ShapeDtypeStruct(ahead.shape, ahead.dtype)
        self._key, self._given = jobs.train_key(job), job.given
        self._with_source = at < jobs.source_ends(job, phase)
        self._fits = False  # known once a step is through
        self._with_and_without: dict[bool, jax.stages.Compiled] = {}
        self._compiled = self._compile()

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, totals.Sums]:
        """The state and the sums after a step; takes the arrays of `state`.

        Raises:
            OutOfMemoryError: one image is too much for a device.
        """
        if ('source' in batch) != self._with_source:
            self._with_and_without[self._with_source] = self._compiled
            self._with_source, self._fits = 'source' in batch, False
            self._compiled = self._with_and_without.get(self._with_source) or self._compile()
        if self._fits:
            return self._compiled(self._key, state, batch, *self._given)
        # A step that fails may have taken the arrays; on CPU, NumPy's would be the very same ones.
        before = jax.tree.map(np.array, jax.device_get(state))
        while True:
            try:
                result = jax.block_until_ready(
                    self._compiled(self._key, state, batch, *self._given)
                )
            except jax.errors.JaxRuntimeError as error:
                self._halve(error)
                self._compiled = self._compile()
                state = devices.put_replicated(self._job.mesh, before)
                continue
            self._fits = True
            return result

    def _compile(self) -> jax.stages.Compiled:
        while True:
            try:
                return compiled_step.compile_train_step(
                    self._job, self._phase, self.accumulate, self._in_place, self._with_source
                )
            except jax.errors.JaxRuntimeError as error:
                self._halve(error)

    def _halve(self, error: Exception) -> None:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise error
        rows = self._job.experiment.batch_size // self._job.mesh.size
        parts = [n for n in range(self.accumulate + 1, rows + 1) if rows % n == 0]
        smaller = next((n for n in parts if n >= 2 * self.accumulate), None)
        if smaller is None:
            raise OutOfMemoryError(
                f'the device is out of memory with one image at a time: {error!s:.300}'
            ) from error
        console.console.print(
            f'Out of memory: batches are worked on in {smaller} parts from here on, as with '
            f'config.accumulate={smaller}; BatchNorm sees each part alone.'
        )
        self.accumulate = smaller
        self._with_and_without.clear()
