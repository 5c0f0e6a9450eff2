"""Standard output and TensorBoard events, whose errors do not stop a run."""

import contextlib
import os
import pathlib
import sys
from typing import Any

import tensorboardX

QUEUE_LENGTH = 10_000  # in events; if the queue is full, `add_scalar` waits for the writer


def warn(message: str) -> None:
    """Prints a warning on stderr, if that can be written."""
    with contextlib.suppress(OSError, ValueError):
        print(f'warning: {message}', file=sys.stderr)


class StandardOutput:
    """Writes to the current `sys.stdout` and hides its errors from the caller.

    Characters that its encoding lacks are written as backslash escapes. After an error, such as a
    closed pipe or a full disk, nothing more is written.
    """

    def __init__(self) -> None:
        self._failed: Any = None  # the stream that raised an error

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        stream = sys.stdout
        if stream is not None and stream is not self._failed:
            encoding = getattr(stream, 'encoding', None) or 'utf-8'
            try:
                stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self._give_up(stream, error)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        stream = sys.stdout
        if stream is None or stream is self._failed:
            return
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(stream, error)

    def _give_up(self, stream: Any, error: Exception) -> None:
        self._failed = stream
        # Writing the buffer when Python ends would fail again and change the exit code.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        warn(f'standard output cannot be written ({error}); the command goes on without it')

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


class Events:
    """Writes TensorBoard events of a run. An error ends the events with a warning, not the run."""

    def __init__(self, workdir: pathlib.Path, purge_step: int):
        """Opens a new file; its events replace those of earlier files from `purge_step` on."""
        self._writer: Any = None
        with self._guarded():
            self._writer = tensorboardX.SummaryWriter(
                str(workdir), purge_step=purge_step, max_queue=QUEUE_LENGTH
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
        """Raises an error if the writer's thread has ended, as it does after a disk error."""
        events: Any = getattr(self._writer.file_writer, 'event_writer', None)
        thread = getattr(events, '_worker', None)
        if thread is not None and not thread.is_alive():
            events._event_queue.cancel_join_thread()  # because nothing reads the queue now
            raise OSError("the writer's thread ended")

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        try:
            yield
        except Exception as error:  # metrics.jsonl has the same metrics
            self._writer = None
            warn(f'no more TensorBoard events: {error}; metrics.jsonl goes on')
