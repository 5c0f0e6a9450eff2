"""Captures some steps of a run with JAX's profiler, for xprof and Perfetto."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax

from tljax.config.experiment import ConfigError
from tljax.records import console

FOLDER = 'profile'  # in the folder of a run


class Profile:
    """A capture of the steps `first` to `last`, both included and counted from 1.

    The capture begins and ends when the device has finished all earlier steps. It contains whatever
    the run does in between: data, steps, evaluations, checkpoints. An error of the profiler is
    printed and does not stop the run.

    Args:
        steps: the first and the last step; None for no capture.
        workdir: the folder of the run.
    """

    def __init__(self, steps: tuple[int, int] | None, workdir: pathlib.Path):
        self._first, self._last = steps or (0, 0)
        self._folder = workdir / FOLDER
        self._begun: int | None = None  # the first step of the capture

    def check(self, done: int, total: int) -> None:
        """Says which of the steps cannot be captured.

        Args:
            done: the steps that the run has trained already.
            total: the steps of the run.

        Raises:
            ConfigError: the run ends before the first of the steps.
        """
        asked = f'--profile={self._first}:{self._last}'
        if self._first > total:
            raise ConfigError(f'{asked}: the run has {total} steps')
        if not self._last:
            return
        if self._last <= done:
            _say(f'{asked}: the run resumes after step {done}, so nothing is captured.')
        elif self._first <= done:
            _say(f'{asked}: the run resumes after step {done}; the capture begins there.')
        if self._last > total:
            _say(f'{asked}: the run has {total} steps; the capture ends with the last one.')

    @contextlib.contextmanager
    def step(self, number: int, state: Any) -> Iterator[None]:
        """A context in which a step is started; the first one of the capture waits for `state`."""
        if not self._first <= number <= self._last:
            yield
            return
        if self._begun is None:
            jax.block_until_ready(state)
            self._start(number)
        with jax.profiler.StepTraceAnnotation('train', step_num=number):
            yield

    def end(self, number: int, state: Any) -> None:
        """Ends the capture after its last step, when `state` is computed."""
        if self._begun is not None and number == self._last:
            jax.block_until_ready(state)
            self.close(number)

    def close(self, number: int) -> None:
        """Ends a capture that has begun, after a step, and prints how to open it."""
        begun, self._begun, self._last = self._begun, None, 0
        if not begun:
            return
        try:
            jax.profiler.stop_trace()
        except Exception as error:  # the run is worth more than its profile
            _say(f'Warning: the profile could not be written: {error}')
            return
        if jax.process_index() == 0:
            _announce(self._folder, begun, number)

    def _start(self, number: int) -> None:
        try:
            options = jax.profiler.ProfileOptions()
            # A record of every call in Python takes most of the space and the time of a capture.
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, profiler_options=options)
            self._begun = number
        except Exception as error:  # such as another capture in this process
            self._last = 0
            _say(f'Warning: the profiler could not be started: {error}')


def _announce(folder: pathlib.Path, first: int, last: int) -> None:
    _say(f'Profile of steps {first} to {last}: {folder}')
    _say(f'  xprof:    pip install xprof; xprof --logdir={folder}')
    for path in sorted(folder.glob('plugins/profile/*/*.trace.json.gz'))[-1:]:
        _say(f'  Perfetto: open {path} at https://ui.perfetto.dev')


def _say(text: str) -> None:
    console.console.print(text, soft_wrap=True, markup=False)
