"""Output that a run can do without: standard output and TensorBoard's events."""

import contextlib
import os
import pathlib
import sys
from typing import Any

import tensorboardX

QUEUED = 10_000  # events; with a full queue `add_scalar` would wait for ever on a dead writer


def warn(message: str) -> None:
    """A line on stderr, where that can be written."""
    with contextlib.suppress(OSError, ValueError):
        print(f'warning: {message}', file=sys.stderr)


class StandardOutput:
    """What `sys.stdout` is at the time of a call. Its errors never reach the caller.

    Characters that its encoding does not have are written as backslash escapes. After an error,
    such as a closed pipe or a full disk, nothing more is written.
    """

    def __init__(self) -> None:
        self._failed: Any = None  # the stream that cannot be written

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        stream = sys.stdout
        if stream is not None and stream is not self._failed:
            encoding = getattr(stream, 'encoding', None) or 'utf-8'
            shown = text.encode(encoding, 'backslashreplace').decode(encoding)
            try:
                stream.write(shown)
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self._give_up(stream, error)
        return len(text)

    def flush(self) -> None:
        """Flushes what was written."""
        stream = sys.stdout
        if stream is None or stream is self._failed:
            return
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(stream, error)

    def _give_up(self, stream: Any, error: Exception) -> None:
        self._failed = stream
        # What is still buffered would fail once more when Python ends, and change the exit code.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        warn(f'standard output cannot be written ({error}); the command goes on without it')

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


class Events:
    """TensorBoard's events of a run. The first error is a warning and ends them, not the run."""

    def __init__(self, workdir: pathlib.Path, purge_step: int):
        """Opens a file of events, in which those from `purge_step` on replace earlier ones."""
        self._writer: Any = None
        with self._guarded():
            self._writer = tensorboardX.SummaryWriter(
                str(workdir), purge_step=purge_step, max_queue=QUEUED
            )

    def add(self, name: str, value: float, step: int) -> None:
        """Writes one value."""
        if self._writer is None:
            return
        with self._guarded():
            self._check_thread()
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            with self._guarded():
                self._check_thread()
                self._writer.close()

    def _check_thread(self) -> None:
        """Raises where the writer's thread has ended, which it does at an error of the disk."""
        events: Any = getattr(self._writer.file_writer, 'event_writer', None)
        thread = getattr(events, '_worker', None)
        if thread is not None and not thread.is_alive():
            events._event_queue.cancel_join_thread()  # nobody reads it any more
            raise OSError('its thread ended')

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        try:
            yield
        except Exception as error:  # whatever it is, the metrics are in metrics.jsonl too
            self._writer = None
            warn(f'no more TensorBoard events: {error}; metrics.jsonl goes on')
