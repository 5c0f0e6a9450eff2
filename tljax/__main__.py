"""`tljax COMMAND` and `python -m tljax COMMAND`: every command by its name."""

import difflib
import sys
from collections.abc import Sequence

from tljax.commands.names import COMMANDS, module
from tljax.version import __version__

HELP = {'--help', '-h', '-help', 'help'}


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        words: the name of the command and its arguments; None for the arguments of the process.

    Returns:
        The exit code; 2 for an unknown command.
    """
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in HELP:
        print(_help())
        return 0
    if words[0] == '--version':
        print(f'tljax {__version__}')
        return 0
    name = words[0].replace('_', '-')
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f'did you mean tljax {near[0]}?' if near else f'wanted one of {", ".join(COMMANDS)}'
        print(f'error: unknown command {words[0]!r}; {hint}', file=sys.stderr)
        return 2
    return module(name).main(words[1:])


def _help() -> str:
    lines = [f'  {name:<12}{what}' for name, what in COMMANDS.items()]
    return '\n'.join(
        [
            'tljax: transfer learning in JAX',
            '',
            'tljax COMMAND [RUN or DIR] [--config=NAME_OR_FILE] [--config.FIELD=VALUE]',
            '',
            *lines,
            '',
            'tljax COMMAND --help prints the arguments of a command, tljax --version the version.',
        ]
    )


if __name__ == '__main__':
    sys.exit(main())
