"""The exit codes of all commands, and the error message of one line on stderr.

0      success
1      files could not be read, a check found a fault, or training failed
2      the input cannot be used
75     stopped by a signal after the state was saved, or another process of the run has ended or
       did not answer: the same command resumes the run
130    stopped by Ctrl-C; progress since the last checkpoint is lost
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence

from tljax.commands import command_line
from tljax.training.signals import RUN_AGAIN, Interrupted

LONGEST_LINE = 2000  # characters of a message; names of files and classes can be any text
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
PATH_ERRORS = ('embedded null', 'Could not determine home directory')  # of pathlib and open
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}  # not the fault of the input


def run(
    parser: command_line.Parser,
    command: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str],
) -> int:
    """Runs a command and turns its errors into exit codes.

    Args:
        parser: of its command line.
        command: the command; it returns an exit code, or None for 0.
        argv: the arguments after its name.

    Returns:
        The exit code. Unexpected errors are raised.
    """
    command_line.escape_unprintable()
    flags = argv[: argv.index('--')] if '--' in argv else argv
    if command_line.HELP & set(flags):
        print(parser.text)
        return 0
    try:
        return command(parser.read(argv)) or 0
    except command_line.UsageError as error:
        return _fail(str(error), BAD_INPUT)
    except BrokenPipeError:
        _discard_output()
        return _fail('standard output was closed before the command had ended', FAILED)
    except OSError as error:
        return _fail(str(error), FAILED if error.errno in DISK_ERRORS else BAD_INPUT)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return INTERRUPTED
    except Interrupted as error:
        print(f'{error}; the same command resumes there (exit code {RUN_AGAIN}).', file=sys.stderr)
        return RUN_AGAIN
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        return code


def _code(error: Exception) -> int | None:
    """Prints an error of the package and returns its exit code; None for an unexpected error."""
    from tljax.records.disk_space import DiskError
    from tljax.storage.bucket import BucketError
    from tljax.types import InputError

    if isinstance(error, DiskError | BucketError):
        return _fail(str(error), FAILED)
    if isinstance(error, InputError):
        return _fail(str(error), BAD_INPUT)
    if isinstance(error, RuntimeError | ValueError) and str(error).startswith(PATH_ERRORS):
        return _fail(f'a path cannot be used: {error}', BAD_INPUT)

    from tljax.training import compiled_step, nonfinite
    from tljax.training.processes.joining import CoordinatorError

    if isinstance(error, CoordinatorError):
        return _fail(f'{error} (exit code {RUN_AGAIN})', RUN_AGAIN)

    if isinstance(error, nonfinite.NotFiniteError | compiled_step.OutOfMemoryError):
        return _fail(str(error), FAILED)
    return None


def _fail(message: str, code: int) -> int:
    lines = (command_line.shown(line, LONGEST_LINE) for line in message.split('\n'))
    print('error: ' + '\n'.join(lines), file=sys.stderr)
    return code


def _discard_output() -> None:
    """Discards buffered output, because writing it when Python ends would fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
