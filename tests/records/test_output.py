"""Output that fails does not end a run."""

import io
import sys

import pytest
import tensorboardX

from tljax.records import console, output


class Full(io.StringIO):
    """A stream on a full disk."""

    writes = 0

    def write(self, text):
        """Fails."""
        self.writes += 1
        raise OSError(28, 'No space left on device')


def test_a_console_goes_on_where_stdout_cannot_be_written(monkeypatch, capsys):
    full = Full()
    monkeypatch.setattr(sys, 'stdout', full)
    for _ in range(3):
        console.console.print('a line')
    assert full.writes == 1
    assert capsys.readouterr().err.count('standard output cannot be written') == 1


def test_a_closed_stdout_is_no_error(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, 'stdout', closed)
    console.console.print('a line')


def test_an_ascii_stdout_gets_escapes(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(raw, encoding='ascii'))
    console.console.print('3 × 3')
    assert raw.getvalue() == b'3 \\xd7 3\n'


@pytest.mark.parametrize('broken', ['__init__', 'add_scalar', 'close'])
def test_an_error_of_tensorboard_is_one_warning(broken, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(tensorboardX.SummaryWriter, broken, fail)
    events = output.Events(tmp_path, 1)
    for step in range(3):
        events.add('train/loss', 1.0, step)
    events.close()
    assert capsys.readouterr().err.count('warning: no more TensorBoard events') == 1


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_tensorboard_thread_that_ended_does_not_hold_up_training(tmp_path, monkeypatch, capsys):
    events = output.Events(tmp_path, 1)
    worker = events._writer.file_writer.event_writer._worker
    worker.stop()
    for step in range(30):
        events.add('train/loss', 1.0, step)
    assert capsys.readouterr().err.count('thread ended') == 1
