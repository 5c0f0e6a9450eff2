"""How every command ends: its exit code, and a line on stderr that says why.

0      success
1      files could not be read, a check found a fault, or training failed
2      the input cannot be used
75     stopped by a signal, with the state saved: the same command goes on from there
130    stopped by Ctrl-C with nothing saved since the last checkpoint, if any
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence

from tljax.commands import command_line

FAILED, BAD_INPUT, RUN_AGAIN, INTERRUPTED = 1, 2, 75, 130  # 75 is EX_TEMPFAIL of sysexits.h
OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}  # a full or broken disk


def ended(
    parser: command_line.Parser,
    run: Callable[[argparse.Namespace], int | None],
    words: Sequence[str],
) -> int:
    """Runs a command to its end.

    Args:
        parser: of its words.
        run: the command; it returns an exit code, or None for 0.
        words: those after its name.

    Returns:
        The exit code. What is no known way to fail is raised.
    """
    command_line.escape_unprintable()
    before = words[: words.index('--')] if '--' in words else words
    if command_line.HELP & set(before):
        print(parser.text)
        return 0
    try:
        return run(parser.read(words)) or 0
    except command_line.UsageError as error:
        return _fail(str(error), BAD_INPUT)
    except BrokenPipeError:
        _drop_output()
        return _fail('standard output was closed before the command had ended', FAILED)
    except OSError as error:
        return _fail(str(error), FAILED if error.errno in OF_THE_MACHINE else BAD_INPUT)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        return code


def _code(error: Exception) -> int | None:
    """The exit code of an exception that the package raises; it is said in a line."""
    from tljax.types import InputError

    if isinstance(error, InputError):
        return _fail(str(error), BAD_INPUT)

    from tljax.training import compiled_step, nonfinite, signals

    if isinstance(error, signals.Interrupted):
        print(f'{error}; the same command resumes there (exit code {RUN_AGAIN}).', file=sys.stderr)
        return RUN_AGAIN
    if isinstance(error, nonfinite.NotFiniteError | compiled_step.OutOfMemoryError):
        return _fail(str(error), FAILED)
    return None


def _fail(message: str, code: int) -> int:
    print(f'error: {message}', file=sys.stderr)
    return code


def _drop_output() -> None:
    """Sends to nowhere what is still buffered, which would fail once more when Python ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
