"""How a command that trains ends: its exit code, and a line that says why."""

import sys
from collections.abc import Callable

from tljax.commands import command_line
from tljax.training import memory_fallback, nonfinite, signals
from tljax.types import InputError


def ended(command: Callable[[], object]) -> int:
    """Runs a command to its end; returns 0, 1 where training failed, 128 + n after signal n.

    What cannot be used of the input ends the process with a line and code 2.
    """
    try:
        command()
    except (InputError, OSError) as error:
        command_line.fail(str(error))
    except signals.Interrupted as stop:
        print(f'{stop}; the same command resumes there.', file=sys.stderr)
        return 128 + stop.signal_number
    except (nonfinite.NotFiniteError, memory_fallback.OutOfMemoryError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0
